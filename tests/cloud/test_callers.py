"""Who may call, and as which user. API Gateway checks the token; the functions check its claims."""

import functools
import time

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from conftest import STACKS
from deployment import Stack
from issuer import AUDIENCE, Issuer

ROUTES = [
    ("POST", "/session-tokens"),
    ("POST", "/challenges"),
    ("GET", "/challenges"),
    ("GET", "/challenges/c4d1da72-111e-4d52-bdbf-2e74a2d803d5"),
    ("GET", "/pin"),
]
BAD_TOKENS = {
    "missing": lambda issuer, user: None,
    "not a token": lambda issuer, user: "abc",
    "expired": lambda issuer, user: issuer.token(user, exp=int(time.time()) - 60),
    "not valid yet": lambda issuer, user: issuer.token(user, nbf=int(time.time()) + 600),
    "for another audience": lambda issuer, user: issuer.token(user, aud="another-audience"),
    "without an audience": lambda issuer, user: issuer.token(user, aud=None),
    "from another issuer": lambda issuer, user: issuer.token(user, iss="http://127.0.0.1:9"),
    "signed by another issuer with the same key id": lambda issuer, user: other_issuer().token(user),
    "signed with another key": lambda issuer, user: issuer.token(
        user, key=rsa.generate_private_key(public_exponent=65537, key_size=2048)
    ),
    "without a signature": lambda issuer, user: issuer.token(user).rpartition(".")[0] + ".",
}


@functools.cache
def other_issuer():
    issuer = Issuer()
    issuer.stop()
    return issuer


@pytest.mark.parametrize("kind", BAD_TOKENS)
@pytest.mark.parametrize("method,path", ROUTES)
def test_a_bad_token_reaches_no_function(service, issuer, user, circle, method, path, kind):
    circle.control("DELETE", "/calls")
    response = service.call(method, path, BAD_TOKENS[kind](issuer, user.id))
    assert (response.status, response.json()) == (401, {"message": "Unauthorized"})
    assert circle.control("GET", "/calls") == {}


@pytest.mark.parametrize(
    "claims", [{}, {"aud": ["x", AUDIENCE]}, {"aud": "another-app"}, {"aud": None, "client_id": AUDIENCE}]
)
def test_a_good_token_is_accepted(service, issuer, user, claims):
    assert service.call("GET", "/pin", issuer.token(user.id, **claims)).status == 200


def test_a_user_cannot_read_another_users_challenge(user, new_user):
    challenge_id = user.create_challenge()["challengeId"]
    assert user.challenge(challenge_id)["status"] == "PENDING"
    stranger = new_user()
    response = stranger.call("GET", f"/challenges/{challenge_id}")
    assert (response.status, response.json()["code"]) == (404, "challenge_not_found")
    assert stranger.call("GET", "/challenges").json() == {"challenges": []}


def test_a_user_cannot_use_another_users_session(user, new_user):
    token = user.call("POST", "/session-tokens").json()["userToken"]
    response = new_user().call("POST", "/challenges", {}, {"X-User-Token": token})
    assert (response.status, response.json()["code"]) == (403, "user_token_mismatch")


def test_the_name_of_the_claim_may_be_a_url(aws, parameters, circle, issuer, request):
    claim = "https://app.example.com/circle_user_id"
    stack = Stack(aws, "namespaced", {**parameters, "UserIdClaim": claim})
    request.config.stash[STACKS].append(stack)
    circle.control("PUT", "/users/known-user", {"pin": "135790"})
    response = stack.call("POST", "/session-tokens", issuer.token("another-user", **{claim: "known-user"}))
    assert response.status == 201, response.data
    session = jwt.decode(response.json()["userToken"], options={"verify_signature": False})
    assert session["sub"] == "known-user"
    assert stack.call("GET", "/pin", issuer.token("known-user")).json()["code"] == "invalid_user_id"


@pytest.mark.parametrize("claims", [{"sub": None}, {"sub": "four"}, {"sub": ""}])
def test_a_token_without_a_valid_user_id_is_rejected(service, issuer, claims):
    response = service.call("GET", "/pin", issuer.token("unused", **claims))
    assert (response.status, response.json()["code"]) == (403, "invalid_user_id")


@pytest.mark.parametrize(
    "method,path", [("GET", "/session-tokens"), ("DELETE", "/pin"), ("GET", "/"), ("PUT", "/webhooks/circle")]
)
def test_there_are_no_other_routes(user, method, path):
    response = user.call(method, path)
    assert (response.status, response.json()) == (404, {"message": "Not Found"})
