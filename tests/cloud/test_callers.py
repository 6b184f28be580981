"""Who may call, and as whom. The JWT check is API Gateway's; what it lets through is the functions'."""

import functools
import time

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from issuer import AUDIENCE, Issuer

ROUTES = [
    ("POST", "/session-tokens"),
    ("POST", "/challenges"),
    ("GET", "/challenges/c4d1da72-111e-4d52-bdbf-2e74a2d803d5"),
    ("GET", "/pin"),
]
WITHOUT_A_GOOD_TOKEN = {
    "none": lambda issuer, user: None,
    "no token at all": lambda issuer, user: "abc",
    "expired": lambda issuer, user: issuer.token(user, exp=int(time.time()) - 60),
    "not good yet": lambda issuer, user: issuer.token(user, nbf=int(time.time()) + 600),
    "for another audience": lambda issuer, user: issuer.token(user, aud="somebody-else"),
    "for no audience": lambda issuer, user: issuer.token(user, aud=None),
    "of another issuer": lambda issuer, user: issuer.token(user, iss="http://127.0.0.1:9"),
    "of a foreign issuer with the same key id": lambda issuer, user: foreign().token(user),
    "signed by somebody else": lambda issuer, user: issuer.token(
        user, key=rsa.generate_private_key(public_exponent=65537, key_size=2048)
    ),
    "without its signature": lambda issuer, user: issuer.token(user).rpartition(".")[0] + ".",
}


@functools.cache
def foreign():
    issuer = Issuer()
    issuer.stop()
    return issuer


@pytest.mark.parametrize("kind", WITHOUT_A_GOOD_TOKEN)
@pytest.mark.parametrize("method,path", ROUTES)
def test_a_token_that_is_not_good_reaches_no_function(service, issuer, user, circle, method, path, kind):
    circle.control("DELETE", "/calls")
    answer = service.call(method, path, WITHOUT_A_GOOD_TOKEN[kind](issuer, user.id))
    assert (answer.status, answer.json()) == (401, {"message": "Unauthorized"})
    assert circle.control("GET", "/calls") == {}


@pytest.mark.parametrize(
    "claims", [{}, {"aud": ["x", AUDIENCE]}, {"aud": "another-app"}, {"aud": None, "client_id": AUDIENCE}]
)
def test_a_good_token_is_let_in(service, issuer, user, claims):
    assert service.call("GET", "/pin", issuer.token(user.id, **claims)).status == 200


def test_nobody_sees_another_users_challenge(user, new_user):
    challenge_id = user.create_challenge()["challengeId"]
    assert user.challenge(challenge_id)["status"] == "PENDING"
    answer = new_user().call("GET", f"/challenges/{challenge_id}")
    assert (answer.status, answer.json()["code"]) == (404, "challenge_not_found")


def test_nobody_uses_another_users_session(user, new_user):
    token = user.call("POST", "/session-tokens").json()["userToken"]
    answer = new_user().call("POST", "/challenges", {}, {"X-User-Token": token})
    assert (answer.status, answer.json()["code"]) == (403, "user_token_mismatch")


@pytest.mark.parametrize("claims", [{"sub": None}, {"sub": "four"}, {"sub": ""}])
def test_a_token_that_names_no_user_of_circles_is_refused(service, issuer, claims):
    answer = service.call("GET", "/pin", issuer.token("unused", **claims))
    assert (answer.status, answer.json()["code"]) == (403, "invalid_user_id")


@pytest.mark.parametrize(
    "method,path", [("GET", "/session-tokens"), ("DELETE", "/pin"), ("GET", "/"), ("PUT", "/webhooks/circle")]
)
def test_there_are_no_other_routes(user, method, path):
    answer = user.call(method, path)
    assert (answer.status, answer.json()) == (404, {"message": "Not Found"})
