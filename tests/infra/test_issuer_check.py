"""The function in the template that reads the issuer's metadata before anything else is deployed."""

import io
import json
import urllib.error

import pytest

from test_versions import code

ISSUER = "https://issuer.example.com"
METADATA = f"{ISSUER}/.well-known/openid-configuration"
KEYS = f"{ISSUER}/keys"
RSA, EC = {"kty": "RSA", "kid": "1"}, {"kty": "EC", "kid": "2"}
FORBIDDEN = urllib.error.HTTPError(METADATA, 403, "Forbidden", {}, None)


@pytest.fixture
def check(deployed, monkeypatch):
    """Checks an issuer whose documents are given by URL: each a body, or an error. Returns the status, the reason and
    the pauses."""

    def run(documents, issuer=ISSUER, request_type="Create"):
        module = code(deployed, "CheckJwtIssuerFunction")
        sent, pauses = [], []

        def urlopen(request, timeout):
            if request.get_method() == "PUT":
                assert request.full_url == "https://example.com/?signed" and request.get_header("Content-type") == ""
                sent.append(json.loads(request.data))
                return None
            assert "urllib" not in request.get_header("User-agent")
            found = documents[request.full_url]
            found = found.pop(0) if isinstance(found, list) else found
            if isinstance(found, Exception):
                raise found
            return io.StringIO(found if isinstance(found, str) else json.dumps(found))

        monkeypatch.setattr(module["urllib"].request, "urlopen", urlopen)
        monkeypatch.setattr(module["time"], "sleep", pauses.append)
        event = {
            "RequestType": request_type,
            "ResponseURL": "https://example.com/?signed",
            "StackId": "s",
            "RequestId": "r",
            "LogicalResourceId": "l",
            "ResourceProperties": {"JwtIssuer": issuer},
        }
        module["handler"](event, None)
        [response] = sent
        status, reason = response.pop("Status"), response.pop("Reason")
        assert response == {"StackId": "s", "RequestId": "r", "LogicalResourceId": "l", "PhysicalResourceId": "issuer"}
        assert bool(reason) == (status == "FAILED")
        return status, reason, pauses

    return run


def documents(issuer=ISSUER, keys=(RSA,)):
    return {METADATA: {"issuer": issuer, "jwks_uri": KEYS}, KEYS: {"keys": list(keys)}}


@pytest.mark.parametrize("issuer", [ISSUER, ISSUER + "/"])
@pytest.mark.parametrize("request_type", ["Create", "Update"])
def test_an_issuer_that_api_gateway_can_use_is_accepted(check, issuer, request_type):
    status, _, pauses = check(documents(issuer, keys=[EC, RSA]), issuer, request_type)
    assert (status, pauses) == ("SUCCESS", [0])


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        ({METADATA: FORBIDDEN}, f"cannot be read at {METADATA}: <HTTPError 403"),
        ({METADATA: "<html>"}, f"cannot be read at {METADATA}: JSONDecodeError"),
        ({METADATA: {"issuer": ISSUER}}, "KeyError('jwks_uri')"),
        (documents() | {KEYS: OSError("timed out")}, "timed out"),
        (documents(ISSUER + "/"), f"is {ISSUER}/. Set the parameter JwtIssuer to exactly this"),
        (documents(keys=[EC]), "has no RSA key"),
        (documents(keys=[]), "has no RSA key"),
    ],
)
def test_an_issuer_that_api_gateway_cannot_use_fails_the_deployment(check, found, reason):
    status, given, _ = check(found)
    assert status == "FAILED" and reason in given


def test_a_moment_without_a_response_does_not_fail_the_deployment(check):
    metadata = documents()[METADATA]
    status, _, pauses = check(documents() | {METADATA: [OSError("timed out"), OSError("timed out"), metadata]})
    assert (status, pauses) == ("SUCCESS", [0, 5, 10])


def test_a_deletion_does_not_need_the_issuer(check):
    assert check({}, request_type="Delete")[0] == "SUCCESS"
