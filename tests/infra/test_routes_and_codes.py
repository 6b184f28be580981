"""Routes and error codes are the same everywhere."""

import re
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


def on_one_machine():
    """The same of the local API's source."""
    source = (ROOT / "infra/local/src/http_api/mod.rs").read_text()
    table = source.split("pub const ROUTES: &[Route] = &[")[1].split("\n];")[0]
    found = re.findall(
        r'Route\s*\{\s*method: Method::(\w+),\s*path: "([^"]+)",\s*function: "([^"]+)",'
        r"\s*authorized: (true|false),?\s*\}",
        table,
    )
    assert len(found) == table.count("Route {"), "a route that this test cannot read"
    return {(method, path): (function, authorized == "true") for method, path, function, authorized in found}


def test_the_routes_are_the_same_everywhere(openapi, template):
    routes = in_template(template)
    assert {route: authorized for route, (_, authorized) in routes.items()} == described(openapi)
    assert on_one_machine() == routes
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


def test_the_error_codes_are_those_of_the_readme(openapi):
    """A Rust test holds the README's table equal to the code."""
    table = (ROOT / "README.md").read_text().split("### Errors")[1].split("\n## ")[0]
    readme = {(code, int(status)) for code, status in re.findall(r"^\| `(\w+)` \| (\d{3}) \|", table, re.MULTILINE)}
    assert len(readme) == table.count("\n| `") > 20
    assert problem_codes(openapi) == readme
    assert sorted(openapi["components"]["schemas"]["Code"]["enum"]) == sorted(code for code, _ in readme)


def test_no_problem_document_is_kept_by_a_cache(openapi):
    for route, status, response in problems(openapi):
        # Where API Gateway gives the same status, its answer does not have the header.
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


def test_the_failure_reasons_stand_in_one_schema(openapi):
    properties = openapi["components"]["schemas"]["Failure"]["properties"]
    assert properties["reason"] == {"$ref": "#/components/schemas/FailureReason"}
