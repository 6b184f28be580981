"""A stack from a release: its packages are in a bucket, and its template is deployed without SAM."""

import base64
import hashlib
import importlib.machinery
import importlib.util

import pytest

from deployment import PACKAGES, Stack
from processes import ROOT

BUCKET, PREFIX = "releases", "pin/reset/"


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    """The folder in the archive of a release."""
    loader = importlib.machinery.SourceFileLoader("release", str(ROOT / "infra" / "release"))
    release = importlib.util.module_from_spec(importlib.util.spec_from_loader("release", loader))
    loader.exec_module(release)
    released = tmp_path_factory.mktemp("release")
    release.stage(PACKAGES, released)
    return released


@pytest.fixture(scope="module")
def stack(aws, parameters, released):
    s3 = aws.client("s3")
    s3.create_bucket(Bucket=BUCKET)
    for package in (released / "packages").iterdir():
        s3.put_object(Bucket=BUCKET, Key=PREFIX + package.name, Body=package.read_bytes())
    location = {"PackagesBucket": BUCKET, "PackagesPrefix": PREFIX}
    return Stack(aws, "released", parameters | location, released=(released / "template.yaml").read_text())


def test_the_functions_are_those_of_the_release(aws, stack, released):
    packages = {hashlib.sha256(package.read_bytes()).digest() for package in (released / "packages").iterdir()}
    functions = [
        function
        for page in aws.client("lambda").get_paginator("list_functions").paginate()
        for function in page["Functions"]
        if function["FunctionName"].startswith("released-") and function["Runtime"] == "provided.al2023"
    ]
    assert {base64.b64decode(function["CodeSha256"]) for function in functions} == packages
    assert all(function["Architectures"] == ["x86_64"] for function in functions)


def test_a_user_of_the_release_creates_a_challenge(stack, new_user):
    assert new_user(stack).create_challenge()["status"] == "PENDING"
