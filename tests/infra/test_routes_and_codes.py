"""Routes and error codes are the same everywhere."""

import tomllib

import jsonschema
import requests

from conftest import ROOT, problem_codes, resolved

METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"}


def described(*documents):
    """The routes of the descriptions: {(method, path): whether a token is needed}."""
    return {
        (method.upper(), path): operation.get("security", document["security"]) == [{"jwt": []}]
        for document in documents
        for path, item in document["paths"].items()
        for method, operation in item.items()
    }


def in_template(template):
    """The routes of the template: {(method, path): (function, whether a token is needed)}."""
    routes = {}
    for resource in template["Resources"].values():
        if "CodeUri" not in resource.get("Properties", {}):
            continue
        function = resource["Properties"]["CodeUri"].removesuffix(".zip")
        for event in resource["Properties"].get("Events", {}).values():
            if event["Type"] == "HttpApi":
                properties = event["Properties"]
                authorized = properties.get("Auth") != {"Authorizer": "NONE"}
                routes[properties["Method"], properties["Path"]] = (function, authorized)
    return routes


def test_the_routes_are_the_same_everywhere(openapi, webhooks, template, facts):
    routes = in_template(template)
    assert {route: authorized for route, (_, authorized) in routes.items()} == described(openapi, webhooks)
    local = {(one["method"], one["path"]): (one["function"], one["authorized"]) for one in facts["routes"]}
    assert local == routes
    manifest = tomllib.loads((ROOT / "Cargo.toml").read_text())
    router = manifest["workspace"]["metadata"]["lambda"]["watch"]["router"]
    watched = {(entry["method"], path): entry["function"] for path, entries in router.items() for entry in entries}
    assert watched == {route: function for route, (function, _) in routes.items()}


def test_the_generated_api_has_only_these_routes(template, deployed):
    """In SAM's output, every route except the webhook needs a token."""
    jwt = [{"Jwt": [{"Fn::If": ["RequiresScope", {"Ref": "RequiredScope"}, {"Ref": "AWS::NoValue"}]}]}]
    generated = {
        (method.upper(), path): operation["security"]
        for path, item in deployed["HttpApi"]["Properties"]["Body"]["paths"].items()
        for method, operation in item.items()
    }
    assert generated == {
        route: jwt if authorized else [{"NONE": []}] for route, (_, authorized) in in_template(template).items()
    }
    assert {route for route, security in generated.items() if security != jwt} == {
        ("HEAD", "/webhooks/circle"),
        ("POST", "/webhooks/circle"),
    }


def test_the_running_api_has_only_these_routes(openapi, webhooks, stack):
    """Without a token, the gateway responds with 401 if the route needs one, and with 404 if there is no such route."""
    routes = described(openapi, webhooks)
    paths = {path for _, path in routes} | {"/", "/sessions", "/challenges/", "/webhooks", "/pin/"}
    for path in paths:
        for method in METHODS:
            url = stack["api"] + path.replace("{challengeId}", "c4d1da72-111e-4d52-bdbf-2e74a2d803d5")
            response = requests.request(method, url, timeout=10)
            gateway = response.headers["content-type"] == "application/json" if response.content else None
            if (method, path) not in routes:
                assert response.status_code == 404, (method, path)
            elif routes[method, path]:
                assert (response.status_code, gateway) == (401, True), (method, path)
            else:
                assert (response.status_code, gateway) in [(200, None), (401, False)], (method, path)


def test_only_the_webhook_is_in_a_document_of_its_own(openapi, webhooks):
    """A client for an app is generated from the other one."""
    assert not any(path.startswith("/webhooks") for path in openapi["paths"])
    assert all(path.startswith("/webhooks") for path in webhooks["paths"])
    assert webhooks["info"]["version"] == openapi["info"]["version"]
    assert webhooks["servers"] == openapi["servers"]


def responses(*documents):
    """Each response of each operation: ((method, path), status, response), with references resolved."""
    for document in documents:
        for path, item in document["paths"].items():
            for method, operation in item.items():
                for status, response in operation["responses"].items():
                    yield (method.upper(), path), int(status), resolved(response, document)


def problems(*documents):
    """Each response with a problem document."""
    for route, status, response in responses(*documents):
        if "application/problem+json" in response.get("content", {}):
            yield route, status, response


def all_codes(*documents):
    """The error codes of all operations: {(code, status)}."""
    return {(code, status) for _, status, response in problems(*documents) for code in problem_codes(response)}


def test_the_descriptions_have_the_error_codes_of_the_code(openapi, webhooks, error_codes):
    assert all_codes(openapi, webhooks) == error_codes
    known = openapi["components"]["schemas"]["KnownCode"]["enum"]
    assert sorted(known) == sorted(code for code, _ in all_codes(openapi))


def test_the_description_has_the_challenges_of_the_code(openapi, facts):
    schemas = openapi["components"]["schemas"]
    assert schemas["ChallengeType"]["enum"] == facts["challengeTypes"]
    assert schemas["KnownFailureReason"]["enum"] == facts["failureReasons"]
    assert schemas["KnownStatus"]["enum"] == facts["challengeStatuses"]


def test_a_response_with_a_problem_document_can_be_decoded_by_any_client(openapi, webhooks):
    """Some client generators read only the first media type. They still get API Gateway's message."""
    for route, status, response in problems(openapi, webhooks):
        media_types = list(response["content"])
        assert problem_codes(response), (route, status)
        if "application/json" in media_types:
            assert media_types == ["application/problem+json", "application/json"], (route, status)
            expected = "ErrorBody"
        else:
            expected = "Problem"
        # The texts of the code are not repeated here.
        schema = {"schema": {"$ref": f"#/components/schemas/{expected}"}}
        assert response["content"]["application/problem+json"] == schema, (route, status)


def test_every_body_has_a_name(openapi, webhooks):
    """Otherwise a generator invents one."""
    for route, status, response in responses(openapi, webhooks):
        for content in response.get("content", {}).values():
            assert set(content["schema"]) == {"$ref"}, (route, status)


def test_responses_can_be_extended(openapi, webhooks):
    """A client accepts a member and a value that it does not know: objects are open, and so is each list of values."""
    open_lists = 0

    def visit(name, schema):
        nonlocal open_lists
        assert "additionalProperties" not in schema, name
        assert "enum" not in schema, f"a list of values without a name: {name}"
        for one in schema.get("anyOf", []):
            if one.get("$ref", "").rsplit("/", 1)[-1] in lists:
                assert {"type": "string"} in schema["anyOf"], name
                open_lists += 1
            else:
                visit(name, one)
        assert schema.get("$ref", "").rsplit("/", 1)[-1] not in lists, f"a closed list of values: {name}"
        for one in [*schema.get("properties", {}).values(), *schema.get("allOf", []), schema.get("items", {})]:
            if one:
                visit(name, one)

    schemas = webhooks["components"]["schemas"]
    lists = {name for name, schema in schemas.items() if "enum" in schema}
    assert {name for name in lists if not name.startswith("Known")} == {"ChallengeType"}
    for name, schema in schemas.items():
        if name != "ChallengeRequest" and name not in lists:
            visit(name, schema)
    assert open_lists == 8


def test_no_problem_document_may_be_cached(openapi, webhooks):
    for route, status, response in problems(openapi, webhooks):
        # If API Gateway itself responds with the same status, its response does not have the header.
        header = "NoStoreForProblem" if "application/json" in response["content"] else "NoStore"
        assert response["headers"]["Cache-Control"] == {"$ref": f"#/components/headers/{header}"}, (route, status)


def test_the_complete_example_of_a_problem_document_is_consistent(openapi):
    """The only example with texts. They are not compared, so that they can be edited in the code alone."""
    schema = openapi["components"]["schemas"]["Problem"]
    [example] = schema["examples"]
    jsonschema.Draft202012Validator({**schema, "components": openapi["components"]}).validate(example)
    assert set(schema["properties"]) - set(example) == {"circleCode"}
    assert example["type"] == f"urn:circle-pin-reset:problem:{example['code']}"
    assert (example["code"], example["status"]) in all_codes(openapi)
