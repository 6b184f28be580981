"""infra/release: the files of a release, and when it makes none."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import tarfile
import tomllib

import pytest

from conftest import ARCHITECTURES, FUNCTIONS, PACKAGES
from processes import ROOT

VERSION = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["version"]
LOCKED = {(one["name"], one["version"]) for one in tomllib.loads((ROOT / "Cargo.lock").read_text())["package"]}


@pytest.fixture(scope="module")
def release():
    """The folder of a trial."""
    result = subprocess.run([ROOT / "infra" / "release", "--trial", VERSION], stdout=subprocess.PIPE, text=True)
    assert result.returncode == 0, result.stdout
    return ROOT / "target" / "releases" / VERSION


@pytest.fixture(scope="module", params=ARCHITECTURES)
def unpacked(request, release, tmp_path_factory):
    """The architecture, and the folder in the archive for it."""
    folder = tmp_path_factory.mktemp("unpacked")
    name = f"circle-pin-reset-{VERSION}-{request.param}"
    with tarfile.open(release / f"{name}.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    assert [path.name for path in folder.iterdir()] == [name]
    return request.param, folder / name


def test_the_checksums_are_those_of_the_archives(release):
    archives = [f"circle-pin-reset-{VERSION}-{architecture}.tar.gz" for architecture in ARCHITECTURES]
    assert sorted(path.name for path in release.iterdir()) == ["SHA256SUMS", *archives, "notes.md"]
    lines = [line.split("  ") for line in (release / "SHA256SUMS").read_text().splitlines()]
    assert lines == [[hashlib.sha256((release / name).read_bytes()).hexdigest(), name] for name in archives]


def test_the_template_finds_each_package_by_its_hash(unpacked):
    architecture, folder = unpacked
    expected = {}
    for function in FUNCTIONS:
        content = (PACKAGES / architecture / f"{function}.zip").read_bytes()
        expected[f"{function}-{hashlib.sha256(content).hexdigest()[:16]}.zip"] = content
    assert {path.name: path.read_bytes() for path in (folder / "packages").iterdir()} == expected
    template = (folder / "template.yaml").read_text()
    location = re.compile(r"CodeUri:\n +Bucket: !Ref PackagesBucket\n +Key: !Sub \$\{PackagesPrefix\}(.*)\n")
    assert set(location.findall(template)) == set(expected)
    assert template.count("CodeUri") == len(location.findall(template))


def test_the_template_has_two_more_parameters_and_is_otherwise_the_built_one(unpacked):
    architecture, folder = unpacked
    built = (PACKAGES / architecture / "template.yaml").read_text().splitlines()
    released = (folder / "template.yaml").read_text().splitlines()
    assert all(re.fullmatch(r"      CodeUri: [\w-]+\.zip", line) for line in built if line not in released)
    added = [line for line in released if line not in built]
    assert [line for line in added if re.match(r"  \w", line)] == ["  PackagesBucket:", "  PackagesPrefix:"]
    sam = [os.environ["SAM"], "validate", "--lint", "--template", folder / "template.yaml"]
    result = subprocess.run(sam, env={**os.environ, "AWS_REGION": "us-east-1"}, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def test_each_function_has_a_bill_of_its_materials(unpacked):
    _, folder = unpacked
    assert sorted(path.name for path in (folder / "sbom").iterdir()) == [f"{name}.cdx.json" for name in FUNCTIONS]
    for function in FUNCTIONS:
        text = (folder / "sbom" / f"{function}.cdx.json").read_text()
        bill = json.loads(text)
        assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.5")
        described = bill["metadata"]["component"]
        assert (described["name"], described["version"]) == (function, VERSION)
        components = {(one["name"], one["version"]) for one in bill["components"]}
        assert components < LOCKED
        names = {name for name, _ in components}
        # The functions' own code, a dependency of a dependency, and none of the tests'.
        assert {"shared", "lambda_runtime", "aws-lc-sys"} <= names and not {"insta", "rcgen", "dynoxide-rs"} & names
        assert all(one["licenses"] for one in bill["components"])
        assert str(ROOT) not in text and "/tmp" not in text


OPERATORS_FILES = [
    "parameters.example",
    "deployer-policy.json",
    "stack-policy.json",
    "support",
    "support-policy.json",
    "cognito.yaml",
    "cloudfront-waf.yaml",
    "../LICENSE",
]


def test_a_deployment_can_be_proven_from_an_archive(unpacked):
    result = subprocess.run([unpacked[1] / "tests/aws/run", "--help"], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "--interactive" in result.stdout


def test_support_can_work_from_an_archive(unpacked):
    result = subprocess.run([unpacked[1] / "support", "--help"], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "challenge" in result.stdout


@pytest.mark.parametrize("name", OPERATORS_FILES)
def test_the_archives_have_what_an_operator_needs(unpacked, name):
    source = ROOT / "infra" / name
    assert (unpacked[1] / source.name).read_bytes() == source.read_bytes()


@pytest.fixture
def tree(tmp_path):
    """A small repository that is ready for the release 1.2.3. Its infra/build fails and says so."""
    (tmp_path / "infra").mkdir()
    shutil.copy(ROOT / "infra" / "release", tmp_path / "infra")
    (tmp_path / "infra" / "build").write_text("#!/bin/sh\necho build began >&2\nexit 1\n")
    (tmp_path / "infra" / "build").chmod(0o755)
    (tmp_path / "Cargo.toml").write_text('[workspace.package]\nversion = "1.2.3"\n')
    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n\n## [Unreleased]\n\n## [1.2.3] - 2026-01-31\n\n- A change.\n")
    (tmp_path / ".gitignore").write_text("/target/\n")
    commit(tmp_path)
    return tmp_path


def commit(tree):
    identity = ["-c", "user.name=Test", "-c", "user.email=test@example.com"]
    for command in (["init", "--quiet"], ["add", "."], [*identity, "commit", "--quiet", "--message", "Change"]):
        subprocess.run(["git", *command], cwd=tree, check=True)


def released(tree, *arguments):
    result = subprocess.run([tree / "infra" / "release", *arguments], capture_output=True, text=True)
    assert result.returncode == 1
    return result.stderr


def test_a_clean_tree_with_a_changelog_is_built(tree):
    assert released(tree, "1.2.3").startswith("build began\n")


@pytest.mark.parametrize("options", [[], ["--trial"]])
@pytest.mark.parametrize("version", ["1.2.4", "v1.2.3", "1.2"])
def test_a_version_that_is_not_in_the_manifest_is_rejected(tree, version, options):
    assert released(tree, *options, version) == f"infra/release: the version in Cargo.toml is 1.2.3, not {version}\n"


def test_a_changed_tree_is_rejected(tree):
    (tree / "new.rs").touch()
    assert "changes that are not committed:\n?? new.rs" in released(tree, "1.2.3")
    assert "build began" in released(tree, "--trial", "1.2.3")


@pytest.mark.parametrize(
    "old,new",
    [("[1.2.3]", "[1.2.30]"), (" - 2026-01-31", ""), ("- A change.\n", ""), ("- A change.\n", "## [1.2.2]\n")],
)
def test_a_version_without_a_changelog_is_rejected(tree, old, new):
    changelog = tree / "CHANGELOG.md"
    changelog.write_text(changelog.read_text().replace(old, new))
    commit(tree)
    assert "CHANGELOG.md has no section `## [1.2.3] - YYYY-MM-DD` with text" in released(tree, "1.2.3")
    assert "build began" in released(tree, "--trial", "1.2.3")
