"""The functions' log lines in CloudWatch Logs."""

import json

from test_flow import settled


def test_logs_are_json_without_secrets(user, circle, service):
    created = user.create_challenge()
    again = user.call("POST", "/session-tokens").json()
    circle.control("POST", f"/challenges/{created['challengeId']}/pin", {"pin": "135790", "newPin": "918273"})
    settled(user, created["challengeId"])

    messages = [message for _, _, message in service.log()]
    own = [message for message in messages if message.startswith("{")]
    assert own, messages
    for message in own:
        json.loads(message)
    text = "\n".join(messages)
    assert created["challengeId"] in text
    secrets = [circle.api_key, circle.api_key.rpartition(":")[2], user.token, "918273"]
    for session in (created["session"], again):
        secrets += [session["userToken"], session["encryptionKey"]]
    # The failure does not say which secret it is, because that would print it.
    assert not any(secret in text for secret in secrets), "a secret is in the log"
