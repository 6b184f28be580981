"""Tools that check the template and the description as a whole."""

import re
import subprocess

import jsonschema
import pytest
from cfnlint.api import ManualArgs, lint
from openapi_spec_validator import validate

from conftest import CLOUDFRONT, COGNITO, OPENAPI, ROOT, TEMPLATE, WEBHOOKS, bundled

HERE = ROOT / "tests" / "infra"
VENVS = ROOT / "tests" / "harness" / "venvs"


def run(*command):
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout + result.stderr


def test_a_build_is_tested_with_the_tools_of_a_deployment():
    def pins(path):
        return dict(re.findall(r"^([\w-]+)==([\w.]+)", path.read_text(), re.MULTILINE))

    tested = pins(ROOT / "tests/harness/requirements/lambda.txt")
    tools = pins(ROOT / "infra/requirements.in")
    assert set(tools) == {"aws-sam-cli", "cargo-lambda", "ziglang"}
    assert tools.items() <= pins(ROOT / "infra/requirements.txt").items()
    assert all(tested[name] == tools[name] for name in ["cargo-lambda", "ziglang"])


@pytest.mark.parametrize("path", [TEMPLATE, COGNITO, CLOUDFRONT], ids=lambda path: path.name)
def test_cfn_lint_finds_nothing(path):
    matches = lint(path.read_text(), config=ManualArgs(regions=["us-east-1", "eu-central-1"]))
    assert [f"{match.rule.id} line {match.linenumber}: {match.message}" for match in matches] == []


def test_sam_accepts_the_template():
    output = run(VENVS / "sam/bin/sam", "validate", "--lint", "--template", TEMPLATE)
    assert "is a valid SAM Template" in output


@pytest.mark.parametrize(
    ("path", "skipped"), [(TEMPLATE, 4), (COGNITO, 0), (CLOUDFRONT, 3)], ids=["template", "cognito", "cloudfront"]
)
def test_checkov_finds_nothing(path, skipped):
    output = run(VENVS / "checkov/bin/checkov", "-f", path, "--config-file", HERE / "checkov.yaml")
    assert f"Failed checks: 0, Skipped checks: {skipped}" in output


@pytest.mark.parametrize("path", [OPENAPI, WEBHOOKS], ids=lambda path: path.name)
def test_a_description_is_openapi(path):
    validate(bundled(path))


@pytest.mark.parametrize(("path", "least"), [(OPENAPI, 30), (WEBHOOKS, 4)], ids=["apps", "webhooks"])
def test_every_example_fits_its_schema(path, least):
    """Every example beside a schema, anywhere in a description."""
    document = bundled(path)
    checked = 0

    def visit(node):
        nonlocal checked
        if isinstance(node, list):
            for child in node:
                visit(child)
        if not isinstance(node, dict):
            return
        if "schema" in node:
            examples = [node["example"]] if "example" in node else []
            examples += [example["value"] for example in node.get("examples", {}).values()]
            schema = {**node["schema"], "components": document["components"]}
            for example in examples:
                jsonschema.Draft202012Validator(schema).validate(example)
                checked += 1
        for child in node.values():
            visit(child)

    visit(document)
    assert checked > least
