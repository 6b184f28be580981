"""The events in `events/`, sent to each function of the API and to reconciliation with `cargo lambda invoke`."""

from expected import CHALLENGE_NOT_FOUND, INVALID_SIGNATURE, PENDING, POLL_HEADERS, SESSION, Text, response


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


def test_invalid_base64_gets_a_response(invoke, event, watch):
    assert invoke("receive-webhook") == INVALID_SIGNATURE
    assert invoke("receive-webhook", event("bad-base64")) == INVALID_SIGNATURE
    assert invoke("receive-webhook") == INVALID_SIGNATURE
    assert watch.started().count("receive-webhook") == 1
