"""A PIN change and a recovery through the public URL, from sign-in to the record's last word."""

import uuid

from processes import until

ANSWER_HEADERS = {"content-type": "application/json", "cache-control": "no-store"}


def headers_of(answer):
    return {name: answer.headers.get(name) for name in ANSWER_HEADERS}


def session_of(user):
    answer = user.call("POST", "/session-tokens")
    assert (answer.status, headers_of(answer)) == (201, ANSWER_HEADERS)
    session = answer.json()
    assert set(session) == {"userToken", "encryptionKey", "expiresAt"}
    return session


def settled(user, challenge_id):
    return until(
        "the webhook has settled the challenge",
        lambda: (it := user.challenge(challenge_id))["status"] in ("COMPLETE", "FAILED", "EXPIRED") and it,
    )


def test_a_user_changes_the_pin(user, circle, service, records):
    session = session_of(user)
    answer = user.call("GET", "/pin")
    assert (answer.status, answer.json()) == (
        200,
        {"pinStatus": "ENABLED", "failedAttempts": 0, "securityQuestionStatus": "ENABLED"},
    )

    key = str(uuid.uuid4())
    headers = {"X-User-Token": session["userToken"], "Idempotency-Key": key}
    answer = user.call("POST", "/challenges", {"type": "CHANGE_PIN"}, headers)
    assert (answer.status, headers_of(answer)) == (201, ANSWER_HEADERS)
    created = answer.json()
    challenge_id = created["challengeId"]
    assert created == {
        "challengeId": challenge_id,
        "type": "CHANGE_PIN",
        "status": "PENDING",
        "createdAt": created["createdAt"],
        "updatedAt": created["createdAt"],
    }
    # The same request again, as an app sends it after a lost answer.
    answer = user.call("POST", "/challenges", {"type": "CHANGE_PIN"}, headers)
    assert (answer.status, answer.json()) == (200, created)

    circle.control("POST", f"/challenges/{challenge_id}/pin", {"pin": "135790", "newPin": "246801"})
    done = settled(user, challenge_id)
    assert done == {**created, "status": "COMPLETE", "updatedAt": done["updatedAt"]}
    record = records.get(challenge_id)
    assert record["settledBy"] == {"S": "webhook"}
    assert not {"openShard", "nextCheckAt"} & set(record)
    deliveries = circle.deliveries(service.webhook_url, challenge_id)
    assert [(one["attempt"], one["status"]) for one in deliveries] == [(1, 200)] * 3  # PENDING, IN_PROGRESS, COMPLETE


def test_three_wrong_pins_lock_it_and_a_recovery_opens_it(user, circle):
    challenge_id = user.create_challenge()["challengeId"]
    for _ in range(3):
        circle.control("POST", f"/challenges/{challenge_id}/pin", {"pin": "000000"})
    failed = settled(user, challenge_id)
    assert (failed["status"], failed["failure"]["code"], failed["failure"]["reason"]) == (
        "FAILED",
        155119,
        "pin_locked",
    )

    refused = user.call("POST", "/challenges", {"type": "CHANGE_PIN"})
    problem = refused.json()
    assert (refused.status, refused.headers["content-type"], problem["code"]) == (
        423,
        "application/problem+json",
        "pin_locked",
    )
    assert int(refused.headers["retry-after"]) == problem["retryAfterSeconds"] > 1700
    assert user.call("GET", "/pin").json()["lockedUntil"] == problem["lockedUntil"]

    recovery = user.create_challenge("RESTORE_PIN")
    answers = {"correct": True, "newPin": "975310"}
    circle.control("POST", f"/challenges/{recovery['challengeId']}/security-questions", answers)
    assert settled(user, recovery["challengeId"])["status"] == "COMPLETE"
    assert user.call("GET", "/pin").json()["pinStatus"] == "ENABLED"


def test_a_poll_settles_what_no_webhook_did(user, circle, records):
    circle.lose_webhooks()
    created = user.create_challenge()
    challenge_id = created["challengeId"]
    circle.control("POST", f"/challenges/{challenge_id}/pin", {"correct": True})
    assert user.challenge(challenge_id)["status"] == "PENDING"
    polled = user.challenge(challenge_id, **{"X-User-Token": created["session"]["userToken"]})
    assert polled["status"] == "COMPLETE"
    assert records.get(challenge_id)["settledBy"] == {"S": "poll"}


def test_a_rotated_api_key_is_picked_up_without_a_deployment(user, circle, aws, parameters):
    assert user.call("POST", "/session-tokens").status == 201
    new = circle.control("POST", "/api-key/rotate")["apiKey"]
    aws.client("secretsmanager").put_secret_value(SecretId=parameters["CircleApiKeySecretArn"], SecretString=new)
    circle.api_key = new
    for path in ("/session-tokens", "/challenges"):
        assert user.call("POST", path).status == 201
    assert user.call("GET", "/pin").status == 200
