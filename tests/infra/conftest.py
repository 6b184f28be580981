"""The template, the descriptions of the API, the lists in the code, and a running `cargo local`."""

import json
import re
import subprocess

import pytest
import yaml
from samtranslator.yaml_helper import yaml_parse

import sam
from processes import ROOT, announced
from processes import pytest_configure, pytest_unconfigure  # noqa: F401

TEMPLATE = ROOT / "infra" / "template.yaml"
COGNITO = ROOT / "infra" / "cognito.yaml"
CLOUDFRONT = ROOT / "infra" / "cloudfront-waf.yaml"
# For apps, and for Circle.
OPENAPI = ROOT / "infra" / "openapi.yaml"
WEBHOOKS = ROOT / "infra" / "openapi-webhooks.yaml"

REQUIRED = {
    "CircleApiKeySecretArn": "arn:aws:secretsmanager:us-east-1:123456789012:secret:circle-AbCdEf",
    "JwtIssuer": "https://issuer.example.com",
    "JwtAudience": "app",
}


@pytest.fixture(scope="session")
def template():
    """The template as written, with intrinsic functions in their long form."""
    return yaml_parse(TEMPLATE.read_text())


def expanded(**parameters):
    """The template after SAM's transformation, as CloudFormation receives it."""
    document = sam.uploaded(yaml_parse(TEMPLATE.read_text()), lambda package: "s3://bucket/key")
    return sam.expanded(document, REQUIRED | parameters)


def references(node, conditions=None):
    """The parameters and resources that a part of the template refers to. With `conditions`, also those that the
    conditions depend on."""
    if isinstance(node, list):
        return set().union(*(references(one, conditions) for one in node))
    if not isinstance(node, dict):
        return set()
    found = set()
    for key, value in node.items():
        if key == "Ref":
            found.add(value)
        elif key == "Fn::GetAtt":
            found.add(value[0] if isinstance(value, list) else value.split(".")[0])
        elif key == "Fn::Sub":
            text, names = value if isinstance(value, list) else (value, {})
            found |= {part.split("}")[0].split(".")[0] for part in text.split("${")[1:]} - set(names)
            found |= references(names, conditions)
        else:
            if key in ("Fn::If", "Condition") and conditions is not None:
                name = value[0] if key == "Fn::If" else value
                found |= references(conditions[name], conditions)
            found |= references(value, conditions)
    return {name for name in found if not name.startswith("AWS::")}


@pytest.fixture(scope="session")
def deployed():
    """The resources after SAM's transformation."""
    return expanded()["Resources"]


def bundled(path):
    """A description with the components of `openapi.yaml` that it refers to, so that every reference is a local one."""
    document = yaml.safe_load(path.read_text().replace(f'"{OPENAPI.name}#/', '"#/'))
    shared, own = yaml.safe_load(OPENAPI.read_text())["components"], document["components"]
    for kind in shared:
        names = set(shared[kind]) & set(own.get(kind, {}))
        assert path == OPENAPI or not names, f"two components have the same name: {names}"
    document["components"] = {kind: shared.get(kind, {}) | own.get(kind, {}) for kind in shared | own}
    return document


@pytest.fixture(scope="session")
def openapi():
    """The description for apps."""
    return bundled(OPENAPI)


@pytest.fixture(scope="session")
def webhooks():
    """The description for Circle."""
    return bundled(WEBHOOKS)


def problem_codes(response):
    """The error codes of a response, which its description lists."""
    listed = re.search(r"\nCodes: ([^.]*)\.\n$", response["description"])
    return re.findall(r"`(\w+)`", listed[1]) if listed else []


def resolved(response, document):
    """A response of an operation, without the reference."""
    if "$ref" in response:
        response = document["components"]["responses"][response["$ref"].rsplit("/", 1)[1]]
    return response


@pytest.fixture(scope="session")
def facts():
    """The routes, error codes, settings and other lists in the code."""
    printed = subprocess.run(["cargo", "local", "facts"], cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout
    return json.loads(printed)


@pytest.fixture(scope="session")
def error_codes(facts):
    """Every error code with its status: {(code, status)}."""
    return {(error["code"], error["status"]) for error in facts["errorCodes"]}


@pytest.fixture(scope="session")
def stack(tmp_path_factory):
    """A running `cargo local`: the JSON that it prints."""
    log = tmp_path_factory.mktemp("infra") / "local.log"
    process, description = announced(["cargo", "local", "--port", "0", "--json", "--unthrottled"], log)
    yield description
    process.stop()


def of_type(template, kind):
    """The properties of each resource of a type."""
    return {
        name: resource["Properties"] for name, resource in template["Resources"].items() if resource["Type"] == kind
    }


def alarms(template):
    """The alarms on metrics."""
    return of_type(template, "AWS::CloudWatch::Alarm")
