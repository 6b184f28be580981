"""What the tests share: the files they are about, and a running `cargo local`."""

import json
import os
import pathlib
import subprocess

import pytest
import yaml
from samtranslator.translator.transform import transform
from samtranslator.yaml_helper import yaml_parse

ROOT = pathlib.Path(__file__).resolve().parents[2]
TEMPLATE = ROOT / "infra" / "template.yaml"
OPENAPI = ROOT / "infra" / "openapi.yaml"

REQUIRED = {
    "CircleApiKeySecretArn": "arn:aws:secretsmanager:us-east-1:123456789012:secret:circle-AbCdEf",
    "JwtIssuer": "https://issuer.example.com",
    "JwtAudience": "app",
}


@pytest.fixture(scope="session")
def template():
    """The template as written, intrinsic functions in their long form."""
    return yaml_parse(TEMPLATE.read_text())


@pytest.fixture(scope="session")
def deployed():
    """The resources as CloudFormation gets them: the template after SAM's transformation."""

    class NoManagedPolicies:
        def load(self):
            return {}

    document = yaml_parse(TEMPLATE.read_text())
    for resource in document["Resources"].values():
        if resource["Type"] == "AWS::Serverless::Function":
            resource["Properties"]["CodeUri"] = "s3://bucket/key"
    return transform(document, REQUIRED, NoManagedPolicies())["Resources"]


@pytest.fixture(scope="session")
def openapi():
    return yaml.safe_load(OPENAPI.read_text())


@pytest.fixture(scope="session")
def stack():
    """A running `cargo local`, as it describes itself."""
    process = subprocess.Popen(
        ["cargo", "local", "--port", "0", "--json"], cwd=ROOT, stdout=subprocess.PIPE, text=True, env=os.environ
    )
    try:
        yield json.loads(process.stdout.readline())
    finally:
        process.terminate()
        process.wait(timeout=30)
