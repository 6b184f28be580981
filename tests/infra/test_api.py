"""Valid and invalid requests that schemathesis generates from the descriptions, against the running local API.

The seed is fixed. A test fails if the description does not have the response's status, content type, headers, body or
error code, if the response is a server error, or if the API accepts an invalid request.
"""

import collections

import jsonschema
import pytest
import requests
import schemathesis
from hypothesis import settings
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from conftest import OPENAPI, WEBHOOKS, bundled, problem_codes, resolved

apps = schemathesis.openapi.from_path(OPENAPI)
webhooks = schemathesis.openapi.from_dict(bundled(WEBHOOKS))
bounded = settings(max_examples=320, derandomize=True, deadline=None, database=None)
# The number of responses by operation and status: {(method, path): {status: number}}.
responses = collections.defaultdict(collections.Counter)


def no_server_error(ctx, response, case):
    """One server error is allowed: the rate limit for fetching unknown public keys."""
    if response.status_code >= 500:
        limited = (case.path, response.status_code) == ("/webhooks/circle", 503)
        assert limited and response.json()["code"] == "public_key_unavailable", response.text


def described_status(ctx, response, case):
    """Stricter than schemathesis, which always accepts a 415, and any response to a method that is not described."""
    if case.method == case.operation.method.upper():
        assert str(response.status_code) in case.operation.definition.raw["responses"], response.text
    else:
        assert response.status_code == (204 if case.method == "OPTIONS" else 404), (case.method, response.text)


def described_problem(ctx, response, case):
    """A problem document is complete, and has a code that the response's description lists."""
    if response.headers.get("content-type", [""])[0] == "application/problem+json":
        document = case.operation.schema.raw_schema
        schema = {"$ref": "#/components/schemas/Problem", "components": document["components"]}
        problem = response.json()
        jsonschema.Draft202012Validator(schema).validate(problem)
        described = resolved(case.operation.definition.raw["responses"][str(response.status_code)], document)
        assert problem["code"] in problem_codes(described), problem
        assert problem["status"] == response.status_code


def invalid_data_is_rejected(ctx, response, case):
    """The API ignores query parameters that it does not know, so they do not make a request invalid."""
    if set(case.query) <= {parameter.name for parameter in case.operation.query}:
        negative_data_rejection(ctx, response, case)


DESCRIBED = [
    no_server_error,
    described_status,
    described_problem,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


def call(case, stack, checks):
    bearer = {"authorization": f"Bearer {stack['bearerToken']}"}
    response = case.call_and_validate(base_url=stack["api"], headers=bearer, checks=checks, timeout=20)
    responses[case.method, case.path][response.status_code] += 1
    return response


@pytest.fixture(scope="session")
def session(stack):
    """A user token, and a challenge of the user."""
    bearer = {"authorization": f"Bearer {stack['bearerToken']}"}
    token = requests.post(f"{stack['api']}/session-tokens", headers=bearer, timeout=20).json()["userToken"]
    headers = {**bearer, "x-user-token": token}
    created = requests.post(f"{stack['api']}/challenges", headers=headers, timeout=20)
    assert created.status_code == 201, created.text
    return {"token": token, "challenge": created.json()["challengeId"]}


@pytest.fixture(autouse=True)
def unused_limit(stack):
    """Each operation begins with a user who may send as many requests as the burst allows."""
    advanced = requests.post(f"{stack['control']}/clock/advance", json={"seconds": 120}, timeout=20)
    assert advanced.status_code == 200, advanced.text


@apps.parametrize()
@bounded
def test_any_request(case, stack, session):
    call(case, stack, [*DESCRIBED, invalid_data_is_rejected])


@webhooks.parametrize()
@bounded
def test_any_webhook(case, stack):
    call(case, stack, [*DESCRIBED, invalid_data_is_rejected])


@apps.include(path_regex="^/challenges").parametrize()
@bounded
def test_any_request_with_a_session(case, stack, session):
    """The same with a user token and a challenge, which schemathesis cannot generate."""
    case.headers["X-User-Token"] = session["token"]
    if "challengeId" in case.path_parameters:
        case.path_parameters["challengeId"] = session["challenge"]
    call(case, stack, DESCRIBED)


def test_the_requests_reached_each_kind_of_response(capsys):
    """Each operation has returned every status that a generated request can get."""
    reached = {operation: set(statuses) for operation, statuses in responses.items()}
    assert reached["POST", "/session-tokens"] >= {201, 429}
    assert reached["POST", "/challenges"] >= {200, 201, 400, 401, 415, 429}
    assert reached["GET", "/challenges"] >= {200, 400, 401}
    assert reached["GET", "/challenges/{challengeId}"] >= {200, 400, 401, 404}
    assert reached["GET", "/pin"] >= {200, 401, 429}
    assert reached["HEAD", "/webhooks/circle"] >= {200}
    assert reached["POST", "/webhooks/circle"] >= {401}
    total = sum(sum(statuses.values()) for statuses in responses.values())
    with capsys.disabled():
        print(f"schemathesis: {total} requests")
    assert total >= 2000
