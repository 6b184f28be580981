"""Routes and error codes are the same everywhere."""

import tomllib

import jsonschema
import requests

from conftest import ROOT

METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"}


def described(openapi):
    """The routes of the description: {(method, path): whether a token is needed}."""
    return {
        (method.upper(), path): operation.get("security", openapi["security"]) == [{"jwt": []}]
        for path, item in openapi["paths"].items()
        for method, operation in item.items()
    }


def in_template(template):
    """The routes of the template: {(method, path): (function, whether a token is needed)}."""
    routes = {}
    for resource in template["Resources"].values():
        if resource["Type"] != "AWS::Serverless::Function":
            continue
        function = resource["Properties"]["CodeUri"].removeprefix("../functions/").removesuffix("/")
        for event in resource["Properties"].get("Events", {}).values():
            if event["Type"] == "HttpApi":
                properties = event["Properties"]
                authorized = properties.get("Auth") != {"Authorizer": "NONE"}
                routes[properties["Method"], properties["Path"]] = (function, authorized)
    return routes


def test_the_routes_are_the_same_everywhere(openapi, template, facts):
    routes = in_template(template)
    assert {route: authorized for route, (_, authorized) in routes.items()} == described(openapi)
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


def test_the_running_api_has_only_these_routes(openapi, stack):
    """Without a token, the gateway responds with 401 if the route needs one, and with 404 if there is no such route."""
    routes = described(openapi)
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


def problems(openapi):
    """Each response with a problem document: ((method, path), status, response), with references resolved."""
    for path, item in openapi["paths"].items():
        for method, operation in item.items():
            for status, response in operation["responses"].items():
                if "$ref" in response:
                    response = openapi["components"]["responses"][response["$ref"].rsplit("/", 1)[1]]
                if "application/problem+json" in response.get("content", {}):
                    yield (method.upper(), path), int(status), response


def problem_codes(openapi):
    """The error codes of all operations: {(code, status)}."""
    found = set()
    for _, status, response in problems(openapi):
        problem = response["content"]["application/problem+json"]
        reference, own = problem["schema"]["allOf"]
        assert reference == {"$ref": "#/components/schemas/Problem"}
        codes = own["properties"]["code"]["enum"]
        found |= {(code, status) for code in codes}
    return found


def test_the_description_has_the_error_codes_of_the_code(openapi, error_codes):
    assert problem_codes(openapi) == error_codes
    assert sorted(openapi["components"]["schemas"]["Code"]["enum"]) == sorted(code for code, _ in error_codes)


def test_the_description_has_the_challenges_of_the_code(openapi, facts):
    schemas = openapi["components"]["schemas"]
    assert schemas["ChallengeType"]["enum"] == facts["challengeTypes"]
    assert schemas["FailureReason"]["enum"] == facts["failureReasons"]
    # Circle may add a status, so it is a string, and the description names the known ones.
    status = schemas["Challenge"]["properties"]["status"]
    assert status["type"] == "string"
    assert all(known in status["description"] for known in facts["challengeStatuses"])


def test_no_problem_document_may_be_cached(openapi):
    for route, status, response in problems(openapi):
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
    assert (example["code"], example["status"]) in problem_codes(openapi)


def test_no_response_repeats_the_texts_of_the_code(openapi):
    for route, status, response in problems(openapi):
        assert set(response["content"]["application/problem+json"]) == {"schema"}, (route, status)


def test_the_failure_reasons_are_in_one_schema(openapi):
    properties = openapi["components"]["schemas"]["Failure"]["properties"]
    assert properties["reason"] == {"$ref": "#/components/schemas/FailureReason"}
