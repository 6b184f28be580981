"""The Python client that openapi-python-client generates."""

import importlib.util
import uuid

import httpx
import pytest
from pin_reset import AuthenticatedClient
from pin_reset.api.challenges import create_challenge, get_challenge, list_challenges
from pin_reset.api.pin import get_pin
from pin_reset.api.sessions import create_session_token
from pin_reset.models import (
    Challenge,
    ChallengeRequest,
    ChallengeType,
    CreatedChallenge,
    GatewayMessage,
    KnownCode,
    KnownFailureReason,
    KnownStatus,
    Problem,
)
from pin_reset.types import Unset

CHALLENGE = {
    "challengeId": "c4d1da72-111e-4d52-bdbf-2e74a2d803d5",
    "type": "CHANGE_PIN",
    "status": "FAILED",
    "createdAt": "2026-01-01T12:00:00Z",
    "updatedAt": "2026-01-01T12:01:30Z",
    "checkedAt": "2026-01-01T12:01:30Z",
}


@pytest.fixture
def client(stack):
    return AuthenticatedClient(stack.api, stack.token)


def decoded(status, content_type, body):
    """A response to `GET /challenges/{challengeId}`, as the client decodes it."""

    def respond(_):
        return httpx.Response(status, headers={"content-type": content_type}, json=body)

    client = AuthenticatedClient("http://api", "token", httpx_args={"transport": httpx.MockTransport(respond)})
    return get_challenge.sync_detailed(uuid.UUID(CHALLENGE["challengeId"]), client=client).parsed


def test_a_challenge_from_its_creation_to_its_status(client):
    response = create_challenge.sync_detailed(client=client, body=ChallengeRequest(type_=ChallengeType.RESTORE_PIN))
    created = response.parsed
    assert response.status_code == 201 and isinstance(created, CreatedChallenge)
    assert response.headers["location"] == f"/challenges/{created.challenge_id}"
    assert (created.type_, created.status) == (ChallengeType.RESTORE_PIN, KnownStatus.PENDING)
    assert created.session.encryption_key

    asked = get_challenge.sync_detailed(created.challenge_id, client=client, x_user_token=created.session.user_token)
    assert isinstance(asked.parsed, Challenge)
    assert asked.parsed.status == KnownStatus.PENDING and isinstance(asked.parsed.check_error, Unset)
    assert int(asked.headers["retry-after"]) >= 3

    listed = list_challenges.sync(client=client, limit=1)
    assert [one.challenge_id for one in listed.challenges] == [created.challenge_id]
    assert get_pin.sync(client=client).pin_status == "ENABLED"


def test_the_body_is_optional(client):
    assert create_challenge.sync(client=client).type_ == ChallengeType.CHANGE_PIN
    assert create_challenge.sync(client=client, body=ChallengeRequest()).type_ == ChallengeType.CHANGE_PIN


def test_a_retry_returns_the_same_challenge(client):
    key = str(uuid.uuid4())
    first, second = (create_challenge.sync_detailed(client=client, idempotency_key=key) for _ in range(2))
    assert (first.status_code, second.status_code) == (201, 200)
    assert first.parsed.challenge_id == second.parsed.challenge_id


def test_a_status_says_that_the_session_has_ended(client, stack):
    created = create_challenge.sync(client=client)
    stack.control("POST", "/clock/advance", {"seconds": 3601})
    asked = get_challenge.sync(created.challenge_id, client=client, x_user_token=created.session.user_token)
    assert asked.status == KnownStatus.PENDING
    assert asked.check_error.code == KnownCode.INVALID_USER_TOKEN and asked.check_error.user_message


def test_an_error_of_a_function_keeps_everything(client):
    """API Gateway's responses have the same statuses."""
    problem = get_challenge.sync(uuid.uuid4(), client=client)
    assert isinstance(problem, Problem)
    assert (problem.status, problem.code) == (404, KnownCode.CHALLENGE_NOT_FOUND)
    assert problem.user_message and problem.request_id

    responses = [create_challenge.sync_detailed(client=client) for _ in range(11)]
    assert [response.status_code for response in responses] == [201] * 10 + [429]
    problem = responses[-1].parsed
    assert problem.code == KnownCode.TOO_MANY_CHALLENGES and problem.user_message
    assert problem.retry_after_seconds == int(responses[-1].headers["retry-after"])


def test_a_lock_says_when_it_ends(client, stack):
    stack.control("PUT", f"/users/{stack.user_id}", {"pinStatus": "LOCKED"})
    problem = create_challenge.sync(client=client)
    assert isinstance(problem, Problem) and problem.code == KnownCode.PIN_LOCKED
    assert problem.retry_after_seconds > 60 and problem.locked_until.tzinfo and problem.user_message
    assert get_pin.sync(client=client).locked_until == problem.locked_until


def test_an_error_of_the_gateway_is_its_message(stack):
    client = AuthenticatedClient(stack.api, "not a token")
    message = create_session_token.sync(client=client)
    assert isinstance(message, GatewayMessage) and message.message == "Unauthorized"
    throttled = decoded(429, "application/json", {"message": "Too Many Requests"})
    assert throttled == GatewayMessage(message="Too Many Requests")


def test_values_that_a_later_version_adds_are_kept():
    challenge = decoded(
        200,
        "application/json",
        CHALLENGE
        | {
            "type": "SET_PIN",
            "status": "PAUSED",
            "colour": "blue",
            "failure": {"reason": "device_lost", "message": "Text", "advice": "Text"},
            "checkError": {"code": "circle_asleep"},
        },
    )
    assert (challenge.type_, challenge.status, challenge["colour"]) == ("SET_PIN", "PAUSED", "blue")
    assert (challenge.failure.reason, challenge.failure["advice"]) == ("device_lost", "Text")
    assert challenge.check_error.code == "circle_asleep"

    known = decoded(200, "application/json", CHALLENGE | {"failure": {"reason": "expired", "message": "Text"}})
    assert known.failure.reason is KnownFailureReason.EXPIRED

    problem = decoded(
        403,
        "application/problem+json",
        {
            "type": "urn:circle-pin-reset:problem:user_asleep",
            "title": "User asleep",
            "status": 403,
            "detail": "Text",
            "code": "user_asleep",
            "requestId": "1",
            "userMessage": "Text",
            "wakesUpAt": "2026-01-01T12:30:00Z",
        },
    )
    assert isinstance(problem, Problem) and problem.code == "user_asleep"
    assert problem["wakesUpAt"] == "2026-01-01T12:30:00Z"


def test_an_app_gets_no_operation_for_webhooks():
    assert importlib.util.find_spec("pin_reset.api.webhooks") is None
