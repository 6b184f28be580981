"""The functions' log lines in CloudWatch Logs."""

import hmac
import json
import re
import uuid

from conftest import User, create_at_circle
from test_flow import settled


def user_hash_key(aws, service):
    secret = aws.client("secretsmanager").get_secret_value(SecretId=service.resource("UserHashKey"))
    return secret["SecretString"]


def test_logs_are_json_without_secrets(aws, circle, issuer, service):
    # The user's id is an e-mail address, which Circle quotes.
    user = User(service, issuer, f"{uuid.uuid4()}@example.com")
    create_at_circle(circle, user.id)
    created = user.create_challenge()
    again = user.call("POST", "/session-tokens").json()
    circle.control("POST", f"/challenges/{created['challengeId']}/pin", {"pin": "135790", "newPin": "918273"})
    settled(user, created["challengeId"])
    message = f"there is no user {user.id}"
    circle.control("POST", "/faults", {"path": "/v1/w3s/users", "status": 400, "code": 2, "message": message})
    assert user.call("POST", "/session-tokens").status == 502

    messages = [message for _, _, message in service.log()]
    own = [message for message in messages if message.startswith("{")]
    assert own, messages
    for message in own:
        json.loads(message)
    text = "\n".join(messages)
    assert created["challengeId"] in text
    assert "there is no user [user id]" in text
    secrets = [circle.api_key, circle.api_key.rpartition(":")[2], user.token, "918273"]
    secrets.append(user_hash_key(aws, service))
    for session in (created["session"], again):
        secrets += [session["userToken"], session["encryptionKey"]]
    # The failure does not say which secret it is, because that would print it.
    assert not any(secret in text for secret in secrets), "a secret is in the log"
    assert not re.search(r"\w(@|%40)\w", text), "an e-mail address is in the log"


def test_log_lines_name_a_user_by_a_hash_with_the_key_of_the_stack(aws, user, service):
    created = user.create_challenge()
    user.challenge(created["challengeId"])
    assert user.call("POST", "/session-tokens").status == 201
    assert user.call("GET", "/pin").status == 200

    key, text = user_hash_key(aws, service).encode(), user.id.encode()
    hashed = hmac.new(key, b"circle-pin-reset/user/1" + len(text).to_bytes(8, "big") + text, "sha256").hexdigest()
    log = service.log()
    own = [(log_group, json.loads(message)) for _, log_group, message in log if message.startswith("{")]
    named = {log_group for log_group, line in own if line.get("span", {}).get("user") == hashed[:32]}
    assert len(named) == 4, named
    for function in ["create-token", "create-challenge", "get-challenge", "get-pin"]:
        assert any(log_group.startswith(f"{service.name}-{function}") for log_group in named), (function, named)
    assert not any(user.id in message for _, _, message in log)
