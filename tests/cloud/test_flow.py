"""A PIN change and a recovery through the public URL, from the session to the final status."""

import uuid

from processes import until

JSON_HEADERS = {"content-type": "application/json", "cache-control": "no-store"}


def headers_of(response):
    return {name: response.headers.get(name) for name in JSON_HEADERS}


def session_of(user):
    response = user.call("POST", "/session-tokens")
    assert (response.status, headers_of(response)) == (201, JSON_HEADERS)
    session = response.json()
    assert set(session) == {"userToken", "encryptionKey", "expiresAt"}
    return session


def settled(user, challenge_id):
    return until(
        "the webhook has settled the challenge",
        lambda: (now := user.challenge(challenge_id))["status"] in ("COMPLETE", "FAILED", "EXPIRED") and now,
    )


def test_a_user_changes_the_pin(user, circle, service, records):
    session = session_of(user)
    response = user.call("GET", "/pin")
    assert (response.status, response.json()) == (
        200,
        {
            "pinStatus": "ENABLED",
            "failedAttempts": 0,
            "securityQuestionStatus": "ENABLED",
            "securityQuestionsFailedAttempts": 0,
        },
    )

    key = str(uuid.uuid4())
    headers = {"X-User-Token": session["userToken"], "Idempotency-Key": key}
    response = user.call("POST", "/challenges", {"type": "CHANGE_PIN"}, headers)
    assert (response.status, headers_of(response)) == (201, JSON_HEADERS)
    created = response.json()
    challenge_id = created["challengeId"]
    assert response.headers["location"] == f"/challenges/{challenge_id}"
    assert response.headers["retry-after"] == "3"
    assert created == {
        "challengeId": challenge_id,
        "type": "CHANGE_PIN",
        "status": "PENDING",
        "createdAt": created["createdAt"],
        "updatedAt": created["createdAt"],
        "checkedAt": created["createdAt"],
    }
    # An app sends the same request again if it did not get the response.
    response = user.call("POST", "/challenges", {"type": "CHANGE_PIN"}, headers)
    assert (response.status, response.json()) == (200, created)

    circle.control("POST", f"/challenges/{challenge_id}/pin", {"pin": "135790", "newPin": "246801"})
    done = settled(user, challenge_id)
    settled_at = done["updatedAt"]
    assert done == {**created, "status": "COMPLETE", "updatedAt": settled_at, "checkedAt": settled_at}
    response = user.call("POST", "/challenges", {"type": "CHANGE_PIN"}, headers)
    assert (response.status, response.json()) == (200, done)
    record = records.get(challenge_id)
    assert record["settledBy"] == {"S": "webhook"}
    assert not {"openShard", "nextCheckAt"} & set(record)
    deliveries = circle.deliveries(service.webhook_url, challenge_id)
    assert [(one["attempt"], one["status"]) for one in deliveries] == [(1, 200)] * 3  # PENDING, IN_PROGRESS, COMPLETE


def test_a_recovery_unlocks_a_pin_after_three_wrong_entries(user, circle):
    challenge_id = user.create_challenge()["challengeId"]
    for _ in range(3):
        circle.control("POST", f"/challenges/{challenge_id}/pin", {"pin": "000000"})
    failed = settled(user, challenge_id)
    assert (failed["status"], failed["failure"]["circleCode"], failed["failure"]["reason"]) == (
        "FAILED",
        155119,
        "pin_locked",
    )

    locked = user.call("POST", "/challenges", {"type": "CHANGE_PIN"})
    problem = locked.json()
    assert (locked.status, locked.headers["content-type"], problem["code"]) == (
        423,
        "application/problem+json",
        "pin_locked",
    )
    assert int(locked.headers["retry-after"]) == problem["retryAfterSeconds"] > 1700
    assert user.call("GET", "/pin").json()["lockedUntil"] == problem["lockedUntil"]

    recovery = user.create_challenge("RESTORE_PIN")
    entered = {"correct": True, "newPin": "975310"}
    circle.control("POST", f"/challenges/{recovery['challengeId']}/security-questions", entered)
    assert settled(user, recovery["challengeId"])["status"] == "COMPLETE"
    assert user.call("GET", "/pin").json()["pinStatus"] == "ENABLED"


def test_a_user_lists_the_challenges_newest_first(user):
    created = [user.create_challenge(challenge_type) for challenge_type in ("CHANGE_PIN", "RESTORE_PIN", "CHANGE_PIN")]
    for challenge in created:
        del challenge["session"]
    first = until(
        "the index has the challenges",
        lambda: (page := user.call("GET", "/challenges?limit=2").json())["challenges"] == created[:0:-1] and page,
    )
    second = user.call("GET", f"/challenges?limit=2&cursor={first['nextCursor']}").json()
    assert second["challenges"] == created[:1]
    response = user.call("GET", "/challenges?limit=0")
    assert (response.status, response.json()["code"]) == (400, "invalid_parameter")


def test_a_poll_settles_a_challenge_whose_webhooks_were_lost(user, circle, records):
    circle.lose_webhooks()
    created = user.create_challenge()
    challenge_id = created["challengeId"]
    circle.control("POST", f"/challenges/{challenge_id}/pin", {"correct": True})
    assert user.challenge(challenge_id)["status"] == "PENDING"
    polled = user.challenge(challenge_id, **{"X-User-Token": created["session"]["userToken"]})
    assert polled["status"] == "COMPLETE"
    assert records.get(challenge_id)["settledBy"] == {"S": "poll"}


def test_a_rotated_api_key_works_without_a_deployment(user, circle, aws, parameters):
    assert user.call("POST", "/session-tokens").status == 201
    new = circle.control("POST", "/api-key/rotate")["apiKey"]
    aws.client("secretsmanager").put_secret_value(SecretId=parameters["CircleApiKeySecretArn"], SecretString=new)
    circle.api_key = new
    for path in ("/session-tokens", "/challenges"):
        assert user.call("POST", path).status == 201
    assert user.call("GET", "/pin").status == 200
