"""Circle's Python SDK, unmodified, against the simulator: success and errors of every call that the functions make."""

import base64
import json
import uuid
from datetime import timedelta

import pytest
from circle.web3 import configurations, user_controlled_wallets
from Crypto.Hash import SHA256
from Crypto.PublicKey import ECC
from Crypto.Signature import DSS
from pydantic import ValidationError

PIN_CALL = "PUT /v1/w3s/user/pin"


def key():
    return str(uuid.uuid4())


def pin_request(idempotency_key=None):
    return user_controlled_wallets.SetPinRequest(idempotency_key=idempotency_key or key())


def token_request(user_id):
    return user_controlled_wallets.UserTokenRequest(user_id=user_id)


def change_pin(circle, token, idempotency_key=None):
    """Returns the status and the challenge's id."""
    response = circle.pin.update_user_pin_challenge_with_http_info(
        token, pin_request(idempotency_key), _return_http_data_only=False
    )
    return response.status_code, response.data.data.challenge_id


def restore_pin(circle, token, idempotency_key=None):
    response = circle.pin.create_user_pin_restore_challenge_with_http_info(
        token, pin_request(idempotency_key), _return_http_data_only=False
    )
    return response.status_code, response.data.data.challenge_id


def challenge(circle, token, challenge_id):
    return circle.users.get_user_challenge(token, challenge_id).data.challenge


# Create user token


def test_a_user_token_comes_with_an_encryption_key(circle, new_user):
    user_id = new_user()
    data = circle.pin.get_user_token(token_request(user_id)).data
    payload = data.user_token.split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    assert (claims["sub"], claims["exp"] - claims["iat"]) == (user_id, 3600)
    assert len(base64.b64decode(data.encryption_key)) == 32


def test_a_user_token_for_an_unknown_user_is_rejected(circle, rejected):
    rejected(404, 155102, lambda: circle.pin.get_user_token(token_request("nobody")))


def test_wrong_and_malformed_api_keys_are_rejected(circle_with, new_user, rejected):
    user_id = new_user()
    for api_key, code in [("TEST_API_KEY:a:b", 4), ("nonsense", 401)]:
        rejected(401, code, lambda: circle_with(api_key).pin.get_user_token(token_request(user_id)))


def test_the_request_id_is_returned(circle, new_user):
    request_id = key()
    response = circle.users.get_user_with_http_info(new_user(), request_id, _return_http_data_only=False)
    assert response.headers["X-Request-Id"] == request_id


# Create user, get user


def test_a_user_is_created_and_read(circle, rejected):
    user_id = f"python-{uuid.uuid4()}"
    request = user_controlled_wallets.CreateUserRequest(user_id=user_id)
    created = circle.pin.create_user(request).data
    assert (created.id, created.pin_status, created.security_question_status) == (user_id, "UNSET", "UNSET")
    assert circle.users.get_user(user_id).data.user == created
    rejected(409, 155101, lambda: circle.pin.create_user(request))


def test_an_unknown_user_cannot_be_read(circle, rejected):
    rejected(404, 155102, lambda: circle.users.get_user("nobody"))
    with pytest.raises(ValidationError):
        circle.users.get_user("abc")


# Get user status by token


def test_the_status_shows_when_a_lock_ends(circle, signed_in):
    user = circle.users.get_user_by_token(signed_in(pinStatus="LOCKED", securityQuestionStatus="UNSET")).data
    assert (user.status, user.pin_status, user.security_question_status) == ("ENABLED", "LOCKED", "UNSET")
    assert user.pin_details.failed_attempts == 3
    assert user.pin_details.locked_expiry_date - user.pin_details.locked_date == timedelta(minutes=30)


def test_each_kind_of_unusable_token_has_its_own_error(circle, control, new_user, signed_in, rejected):
    rejected(403, 155105, lambda: circle.users.get_user_by_token("nonsense"))
    user_id = new_user()
    token = circle.user_token(user_id)
    control("POST", f"/users/{user_id}/forget-tokens")
    rejected(401, 155103, lambda: circle.users.get_user_by_token(token))
    later = signed_in()
    control("POST", "/clock/advance", {"seconds": 3600})
    rejected(403, 155104, lambda: circle.users.get_user_by_token(later))


# Change PIN


def test_one_idempotency_key_creates_one_challenge(circle, signed_in):
    token, idempotency_key = signed_in(), key()
    first, again, other = (
        change_pin(circle, token, idempotency_key),
        change_pin(circle, token, idempotency_key),
        change_pin(circle, token),
    )
    assert (first[0], again[0], other[0]) == (201, 200, 201)
    assert first[1] == again[1] != other[1]
    assert uuid.UUID(first[1])


@pytest.mark.parametrize(
    "state, code",
    [
        ({"pinStatus": "UNSET"}, 155110),
        ({"pinStatus": "LOCKED"}, 155119),
    ],
)
def test_an_unset_or_locked_pin_cannot_be_changed(circle, signed_in, rejected, state, code):
    token = signed_in(**state)
    rejected(403, code, lambda: change_pin(circle, token))


def test_a_disabled_user_can_only_be_read(circle, control, new_user, rejected):
    user_id = new_user()
    token = circle.user_token(user_id)
    control("PATCH", f"/users/{user_id}", {"status": "DISABLED"})
    rejected(403, 155109, lambda: change_pin(circle, token))
    rejected(403, 155109, lambda: circle.user_token(user_id))
    rejected(403, 155109, lambda: circle.users.get_user_by_token(token))
    assert circle.users.get_user(user_id).data.user.status == "DISABLED"


def test_a_key_that_is_not_a_uuid_is_rejected(circle, signed_in, rejected):
    token = signed_in()
    rejected(400, 2, lambda: change_pin(circle, token, "abc"))


def calls_during(control, work):
    """The result of `work`, and the number of its calls to change the PIN."""
    before = control("GET", "/calls").get(PIN_CALL, 0)
    result = work()
    return result, control("GET", "/calls")[PIN_CALL] - before


@pytest.mark.parametrize("after_effect, status", [(False, 201), (True, 200)])
def test_the_sdk_retries_after_a_rate_limit_with_the_same_key(circle, control, signed_in, after_effect, status):
    token = signed_in()
    fault = {"method": "PUT", "path": "/v1/w3s/user/pin", "status": 429, "retryAfter": "1"}
    control("POST", "/faults", {**fault, "afterEffect": after_effect})
    response, calls = calls_during(control, lambda: change_pin(circle, token))
    assert (response[0], calls) == (status, 2)
    assert challenge(circle, token, response[1]).status == "PENDING"
    assert len(circle.users.list_user_challenges(token).data.challenges) == 1


@pytest.mark.parametrize("after_effect, status", [(False, 201), (True, 200)])
def test_the_sdk_retries_after_a_broken_connection_with_the_same_key(circle, control, signed_in, after_effect, status):
    token = signed_in()
    fault = {"method": "PUT", "path": "/v1/w3s/user/pin", "drop": True}
    control("POST", "/faults", {**fault, "afterEffect": after_effect})
    response, calls = calls_during(control, lambda: change_pin(circle, token))
    assert (response[0], calls) == (status, 2)
    assert len(circle.users.list_user_challenges(token).data.challenges) == 1


def test_the_sdk_does_not_retry_after_a_server_error(circle, control, signed_in, rejected):
    token = signed_in()
    control("POST", "/faults", {"method": "PUT", "path": "/v1/w3s/user/pin", "status": 500})
    _, calls = calls_during(control, lambda: rejected(500, -1, lambda: change_pin(circle, token)))
    assert calls == 1


# Restore PIN


def test_a_locked_pin_can_be_restored(circle, signed_in):
    token, idempotency_key = signed_in(pinStatus="LOCKED", securityQuestionStatus="ENABLED"), key()
    first, again = restore_pin(circle, token, idempotency_key), restore_pin(circle, token, idempotency_key)
    assert (first[0], again[0]) == (201, 200)
    assert first[1] == again[1]
    assert challenge(circle, token, first[1]).type == "RESTORE_PIN"


@pytest.mark.parametrize("status, code", [("UNSET", 155111), ("LOCKED", 155120)])
def test_a_pin_cannot_be_restored_without_usable_security_questions(circle, signed_in, rejected, status, code):
    token = signed_in(pinStatus="ENABLED", securityQuestionStatus=status)
    rejected(403, code, lambda: restore_pin(circle, token))


# Get and list challenges


def test_a_challenge_can_be_followed_to_its_final_status(circle, control, signed_in):
    token = signed_in()
    challenge_id = change_pin(circle, token)[1]

    def listed(status=None):
        return [one.id for one in circle.users.list_user_challenges(token, status=status).data.challenges]

    pending = challenge(circle, token, challenge_id)
    assert (pending.id, pending.type, pending.status) == (challenge_id, "CHANGE_PIN", "PENDING")
    assert listed("PENDING") == [challenge_id]
    control("POST", f"/challenges/{challenge_id}/pin", {"correct": False})
    assert challenge(circle, token, challenge_id).status == "IN_PROGRESS"
    assert (listed("PENDING"), listed("IN_PROGRESS")) == ([], [challenge_id])
    control("POST", f"/challenges/{challenge_id}/pin", {"correct": True})
    assert challenge(circle, token, challenge_id).status == "COMPLETE"
    assert listed() == []


def test_a_failed_and_an_expired_challenge_have_their_status(circle, control, signed_in):
    token = signed_in()
    failed, expired = change_pin(circle, token)[1], change_pin(circle, token)[1]
    for _ in range(3):
        control("POST", f"/challenges/{failed}/pin", {"correct": False})
    control("POST", f"/challenges/{expired}/expire")
    read = challenge(circle, token, failed)
    assert (read.status, read.error_code, bool(read.error_message)) == ("FAILED", 155119, True)
    assert challenge(circle, token, expired).status == "EXPIRED"


def test_unknown_challenges_and_those_of_other_users_are_rejected(circle, signed_in, rejected):
    token = signed_in()
    rejected(404, 155116, lambda: circle.users.get_user_challenge(token, key()))
    foreign = change_pin(circle, signed_in())[1]
    rejected(404, 155116, lambda: circle.users.get_user_challenge(token, foreign))


def test_challenges_cannot_be_listed_with_an_unusable_token_or_status(circle, control, new_user, rejected):
    rejected(403, 155105, lambda: circle.users.list_user_challenges("nonsense"))
    user_id = new_user()
    token = circle.user_token(user_id)
    rejected(400, 2, lambda: circle.users.list_user_challenges(token, status="COMPLETE"))
    control("POST", f"/users/{user_id}/forget-tokens")
    rejected(401, 155103, lambda: circle.users.list_user_challenges(token))


# Subscriptions


def subscribe(circle, endpoint, types=None):
    request = configurations.CreateSubscriptionRequest(endpoint=endpoint, notification_types=types)
    return circle.subscriptions.create_subscription(request).data


def test_a_subscription_is_created_listed_read_changed_and_deleted(circle, receiver, rejected):
    created = subscribe(circle, receiver.url, ["challenges.*"])
    assert (created.endpoint, created.enabled, created.restricted) == (receiver.url, True, True)
    assert created.notification_types == ["challenges.*"]
    assert created in circle.subscriptions.get_subscriptions().data
    assert circle.subscriptions.get_subscription(created.id).data == created
    change = configurations.UpdateSubscriptionRequest(name="renamed", enabled=False)
    changed = circle.subscriptions.update_subscription(created.id, change).data
    assert (changed.id, changed.name, changed.enabled) == (created.id, "renamed", False)
    deleted = circle.subscriptions.delete_subscription_with_http_info(created.id, _return_http_data_only=False)
    assert deleted.status_code == 204
    rejected(404, 2, lambda: circle.subscriptions.get_subscription(created.id))
    rejected(404, 2, lambda: circle.subscriptions.update_subscription(created.id, change))
    rejected(404, 2, lambda: circle.subscriptions.delete_subscription(created.id))


@pytest.mark.parametrize("endpoint", ["http://example.com/webhooks", "http://127.0.0.1:1/", "nonsense"])
def test_an_unusable_endpoint_is_rejected(circle, rejected, endpoint):
    rejected(400, 2, lambda: subscribe(circle, endpoint))


@pytest.mark.parametrize("api_key, code", [("TEST_API_KEY:a:b", 4), ("nonsense", 401)])
def test_subscriptions_cannot_be_listed_with_an_unusable_api_key(circle_with, rejected, api_key, code):
    rejected(401, code, lambda: circle_with(api_key).subscriptions.get_subscriptions())


# Public keys


def test_a_webhook_can_be_verified_with_the_public_key(circle, signed_in, receiver):
    subscription = subscribe(circle, receiver.url)
    test = receiver.next(lambda message: message["notificationType"] == "webhooks.test")[2]
    assert test["notification"] == {"hello": "world"}
    challenge_id = change_pin(circle, signed_in())[1]
    headers, body, message = receiver.next(lambda message: message["notification"].get("id") == challenge_id)
    assert (message["notificationType"], message["notification"]["status"]) == ("challenges.changePin", "PENDING")
    public_key = circle.subscriptions.get_notification_signature(headers["x-circle-key-id"]).data
    assert (public_key.id, public_key.algorithm) == (headers["x-circle-key-id"], "ECDSA_SHA_256")
    verifier = DSS.new(ECC.import_key(base64.b64decode(public_key.public_key)), "fips-186-3", encoding="der")
    verifier.verify(SHA256.new(body), base64.b64decode(headers["x-circle-signature"]))
    circle.subscriptions.delete_subscription(subscription.id)


def test_an_unknown_key_id_is_rejected(circle, rejected):
    rejected(404, 2, lambda: circle.subscriptions.get_notification_signature(key()))
