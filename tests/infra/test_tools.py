"""Tools that judge the template and the description as a whole."""

import subprocess

import jsonschema
import yaml
from cfnlint.api import ManualArgs, lint
from openapi_spec_validator import validate

from conftest import OPENAPI, ROOT, TEMPLATE

HERE = ROOT / "tests" / "infra"


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_cfn_lint_finds_nothing():
    matches = lint(TEMPLATE.read_text(), config=ManualArgs(regions=["us-east-1", "eu-central-1"]))
    assert [f"{match.rule.id} line {match.linenumber}: {match.message}" for match in matches] == []


def test_sam_takes_the_template():
    said = run(HERE / ".venv-sam/bin/sam", "validate", "--lint", "--template", TEMPLATE)
    assert "is a valid SAM Template" in said


def test_checkov_finds_nothing():
    said = run(HERE / ".venv-checkov/bin/checkov", "-f", TEMPLATE, "--config-file", HERE / "checkov.yaml")
    assert "Failed checks: 0, Skipped checks: 1" in said


def test_the_description_is_openapi(openapi):
    validate(openapi)


def test_every_example_fits_its_schema(openapi):
    """Each example beside a schema, wherever it stands; a reference is followed by what it refers to."""
    document = yaml.safe_load(OPENAPI.read_text())
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
    assert checked > 30
