"""The API over HTTP: cargo-lambda's own routes, and a whole PIN change through `cargo local --functions`."""

import pytest

from expected import JSON_HEADERS, PENDING, SESSION, TIME
from processes import HTTP, until

ID = "5e4ae8f1-8d2b-4a3c-9f60-2b7d1c9e4a55"


def code(response):
    return response.status, response.json()["code"]


@pytest.mark.parametrize(
    "method,path",
    [
        ("POST", "/session-tokens"),
        ("POST", "/challenges"),
        ("GET", "/challenges"),
        ("GET", f"/challenges/{ID}"),
        ("GET", "/pin"),
    ],
)
def test_cargo_lambdas_own_routes_add_no_claims(watch, circle, method, path):
    headers = {"Authorization": "Bearer any", "Content-Type": "application/json"}
    assert code(watch.call(method, path, headers=headers)) == (401, "unauthenticated")


def test_cargo_lambdas_own_routes_reach_the_webhook_function(watch, circle):
    assert watch.call("HEAD", "/webhooks/circle").status == 200
    assert code(watch.call("POST", "/webhooks/circle", json={})) == (401, "invalid_signature")


@pytest.mark.parametrize(
    "method,path", [("GET", "/webhooks/circle"), ("GET", "/session-tokens"), ("DELETE", "/challenges")]
)
def test_cargo_lambda_has_no_other_routes(watch, circle, method, path):
    assert watch.call(method, path).status == 404


def test_a_user_changes_the_pin(stack, circle):
    def call(method, path, body=None, **headers):
        headers = {"Authorization": f"Bearer {stack['bearerToken']}", **headers}
        return HTTP.request(method, stack["api"] + path, json=body, headers=headers)

    unauthorized = HTTP.request("POST", f"{stack['api']}/session-tokens")
    assert (unauthorized.status, unauthorized.json()) == (401, {"message": "Unauthorized"})

    session = call("POST", "/session-tokens")
    assert (session.status, session.json()) == (201, SESSION)
    assert {name: session.headers[name] for name in JSON_HEADERS} == JSON_HEADERS

    headers = {"X-User-Token": session.json()["userToken"], "Idempotency-Key": "7d0f6c56-2b5e-4d6a-9a39-6f0c2d1b8e47"}
    created = call("POST", "/challenges", {"type": "CHANGE_PIN"}, **headers)
    assert (created.status, created.json()) == (201, PENDING)
    repeated = call("POST", "/challenges", {"type": "CHANGE_PIN"}, **headers)
    assert (repeated.status, repeated.json()) == (200, created.json())

    challenge_id = created.json()["challengeId"]

    def has_status(status):
        return lambda: call("GET", f"/challenges/{challenge_id}").json()["status"] == status

    circle.control("POST", f"/challenges/{challenge_id}/pin", {"pin": "000000"})
    until("a webhook reports IN_PROGRESS", has_status("IN_PROGRESS"))
    circle.control("POST", f"/challenges/{challenge_id}/pin", {"pin": stack["pin"], "newPin": "445566"})
    until("a webhook reports COMPLETE", has_status("COMPLETE"))
    changed = call("GET", f"/challenges/{challenge_id}")
    expected = {**created.json(), "status": "COMPLETE", "updatedAt": TIME, "checkedAt": TIME}
    assert (changed.status, changed.json()) == (200, expected)
