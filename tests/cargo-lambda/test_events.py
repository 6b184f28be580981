"""The events in `events/`, sent to each function of the API, to reconciliation and to announcements with `cargo lambda
invoke`."""

from expected import CHALLENGE_NOT_FOUND, INVALID_SIGNATURE, PENDING, POLL_HEADERS, SESSION, Text, response
from processes import HTTP


def test_create_token_returns_a_session(invoke):
    assert invoke("create-token") == response(201, SESSION)


def test_create_challenge_returns_a_challenge_and_its_session(invoke):
    headers = {**POLL_HEADERS, "location": Text("/challenges/.*")}
    assert invoke("create-challenge") == response(201, {**PENDING, "session": SESSION}, headers)


def test_get_challenge_does_not_find_an_unknown_challenge(invoke):
    assert invoke("get-challenge") == CHALLENGE_NOT_FOUND


def test_get_challenge_returns_the_users_challenge(invoke, event):
    challenge_id = invoke("create-challenge")["body"]["challengeId"]
    unknown = event("get-challenge")["pathParameters"]["challengeId"]
    found = invoke("get-challenge", event("get-challenge", unknown, challenge_id))
    assert found == response(200, {**PENDING, "challengeId": challenge_id}, POLL_HEADERS)


def test_get_pin_returns_the_pin_status(invoke):
    pin = {
        "pinStatus": "ENABLED",
        "failedAttempts": 0,
        "securityQuestionStatus": "ENABLED",
        "securityQuestionsFailedAttempts": 0,
    }
    assert invoke("get-pin") == response(200, pin)


def test_receive_webhook_rejects_a_signature_that_is_not_circles(invoke):
    assert invoke("receive-webhook") == INVALID_SIGNATURE


def test_reconcile_challenges_reports_a_run_in_which_nothing_is_due(invoke):
    counts = ["due", "deferred", "checks", "settled", "open", "notFound", "failed", "abandoned", "circleCalls"]
    assert invoke("reconcile-challenges") == {**dict.fromkeys(counts, 0), "stopped": None}


def test_announce_challenges_publishes_an_event(invoke, stack):
    assert invoke("announce-challenges") == {"batchItemFailures": []}
    detail = {
        "version": 1,
        "challengeId": "5e4ae8f1-8d2b-4a3c-9f60-2b7d1c9e4a55",
        "userId": "demo-user",
        "type": "CHANGE_PIN",
        "status": "FAILED",
        "reason": "incorrect_pin",
        "circleCode": 155112,
        "updatedAt": "2026-01-01T12:01:30.123Z",
    }
    events = HTTP.request("GET", f"{stack['eventBus']}/events").json()
    [event] = [one for one in events if one["detail"]["challengeId"] == detail["challengeId"]]
    assert (event["detail-type"], event["detail"]) == ("PIN Challenge Settled", detail)


def test_announce_challenges_publishes_again(invoke):
    unknown = "5e4ae8f1-8d2b-4a3c-9f60-2b7d1c9e4a55"
    created = invoke("create-challenge")["body"]["challengeId"]
    assert invoke("announce-challenges", {"challengeIds": [created, unknown]}) == {
        "challenges": [
            {"challengeId": created, "published": ["PIN Change Requested"]},
            {"challengeId": unknown, "published": [], "error": "there is no requested challenge with this id"},
        ]
    }


def test_invalid_base64_gets_a_response(invoke, event, watch):
    assert invoke("receive-webhook") == INVALID_SIGNATURE
    assert invoke("receive-webhook", event("bad-base64")) == INVALID_SIGNATURE
    assert invoke("receive-webhook") == INVALID_SIGNATURE
    assert watch.started().count("receive-webhook") == 1
