"""infra/build: what it builds, and what it rejects."""

import hashlib
import os
import pathlib
import re
import shutil
import struct
import subprocess
import zipfile

import pytest

from conftest import FUNCTIONS, PACKAGES
from local_aws import REGION, LocalAws
from processes import ROOT

MACHINES = {"arm64": 183, "x86_64": 62}
# The largest packages have 2.9 MB. A larger binary starts later, so find out why it has grown.
LARGEST_PACKAGE = 3_500_000

WORKSPACE = [
    "Cargo.toml",
    "Cargo.lock",
    ".cargo",
    "functions",
    "shared",
    "infra",
    "tests/Cargo.toml",
    "tests/end_to_end",
]


def digests(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*.zip")}


def test_every_function_has_a_package_for_the_machine(built):
    architecture, folder = built
    assert sorted(digests(folder)) == [f"{function}.zip" for function in FUNCTIONS]
    for function in FUNCTIONS:
        path = folder / f"{function}.zip"
        assert path.stat().st_size < LARGEST_PACKAGE, function
        with zipfile.ZipFile(path) as package:
            [entry] = package.infolist()
            assert (entry.filename, entry.external_attr >> 16) == ("bootstrap", 0o100755)
            header = package.read(entry)[:20]
        assert header[:4] == b"\x7fELF" and struct.unpack_from("<H", header, 18) == (MACHINES[architecture],), function


def test_the_template_is_the_source_for_the_machine(built):
    architecture, folder = built
    template = (folder / "template.yaml").read_text()
    assert re.findall(r"Architectures:.*", template) == [f"Architectures: [{architecture}]"]
    source = (ROOT / "infra" / "template.yaml").read_text()
    assert template == source.replace("Architectures: [arm64]", f"Architectures: [{architecture}]")
    # Two resources may have the same package.
    assert set(re.findall(r"CodeUri: (.*)", template)) == set(digests(folder))


@pytest.fixture
def aws(tmp_path):
    aws = LocalAws(tmp_path)
    yield aws
    aws.stop()


def test_sam_deploys_what_was_built_last(built, aws, tmp_path):
    """Up to the change set, which the emulator rejects. SAM uploads the packages as they are: other bytes would have
    another key, and each deployment would then replace each function."""
    architecture, folder = built
    infra = tmp_path / "infra"
    infra.mkdir()
    for name in ("samconfig.toml", "template.yaml"):
        shutil.copy(ROOT / "infra" / name, infra)
    (tmp_path / "target" / "packages").mkdir(parents=True)
    (tmp_path / "target" / "packages" / "current").symlink_to(folder)
    credentials = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": REGION}
    environment = {**os.environ, **credentials, "AWS_ENDPOINT_URL": aws.url}

    def sam(*arguments):
        command = [os.environ["SAM"], *arguments]
        # The default is the answer to every question.
        return subprocess.run(command, cwd=infra, env=environment, input="\n" * 100, capture_output=True, text=True)

    # It builds nothing, and `sam deploy` would use its result if samconfig.toml named no template.
    assert sam("build").returncode == 0
    deployed = sam("deploy", "--guided", "--no-execute-changeset")
    assert "parameter_overrides" in (infra / "samconfig.toml").read_text(), deployed.stderr
    s3 = aws.client("s3")
    [bucket] = [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]]
    uploaded = {
        entry["Key"]: s3.get_object(Bucket=bucket, Key=entry["Key"])["Body"].read()
        for entry in s3.list_objects_v2(Bucket=bucket)["Contents"]
    }
    [template] = [uploaded.pop(key) for key in list(uploaded) if key.endswith(".template")]
    assert sorted(hashlib.sha256(body).hexdigest() for body in uploaded.values()) == sorted(digests(folder).values())
    assert re.findall(r"Architectures:\s+- (\w+)", template.decode()) == [architecture], deployed.stderr


def test_a_build_needs_a_lock_file_that_fits(tmp_path):
    for name in WORKSPACE:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    manifest = tmp_path / "functions" / "create-token" / "Cargo.toml"
    manifest.write_text(manifest.read_text().replace("version.workspace = true", 'version = "9.9.9"', 1))
    # Cargo finds the mismatch before it compiles anything.
    result = subprocess.run([tmp_path / "infra" / "build"], capture_output=True, text=True, timeout=60)
    assert result.returncode == 1
    assert "cannot update the lock file" in result.stderr
    assert (tmp_path / "Cargo.lock").read_bytes() == (ROOT / "Cargo.lock").read_bytes()


@pytest.mark.parametrize(
    "named,options,option,architecture",
    [
        ("arm64", [], "--arm64", "arm64"),
        ("x86_64", [], "--x86-64", "x86_64"),
        ("arm64", ["--architecture", "x86_64"], "--x86-64", "x86_64"),
        ("x86_64", ["--architecture", "arm64"], "--arm64", "arm64"),
    ],
)
def test_the_template_or_the_option_names_the_architecture(project, named, options, option, architecture):
    project.template.write_text(project.template.read_text().replace("arm64", named))
    project.boot(architecture)
    result = project.build(*options)
    assert result.returncode == 0, result.stderr
    folder = project.packages / architecture
    assert project.arguments() == (
        f"lambda build --release --locked {option} --package one --package two --lambda-dir {folder}".split()
    )
    assert f"Architectures: [{architecture}]" in (folder / "template.yaml").read_text()
    listed = re.findall(r"^(one|two) +(\w+) ", result.stdout, re.MULTILINE)
    assert listed == [("one", architecture), ("two", architecture)]


@pytest.mark.parametrize("architecture,processor", [("arm64", "neoverse-n1"), ("x86_64", "haswell")])
def test_the_flags_for_the_compiler_are_the_same_on_each_machine(project, architecture, processor):
    project.boot(architecture)
    caller = {"CARGO_HOME": "/a home/of cargo", "RUSTFLAGS": "-Copt-level=0", "CARGO_ENCODED_RUSTFLAGS": "-Copt-level=0"}
    assert project.build("--architecture", architecture, **caller).returncode == 0
    assert project.flags() == [f"-Ctarget-cpu={processor}", "--remap-path-prefix=/a home/of cargo=/cargo"]
    assert project.build("--architecture", architecture, HOME="/home/alice").returncode == 0
    assert project.flags()[1] == "--remap-path-prefix=/home/alice/.cargo=/cargo"


def test_another_machine_builds_the_same(tmp_path):
    """Another folder and another home of cargo. One function is enough: all of them are built in the same way."""
    function, architecture = "create-token", "x86_64"
    checkout, home, tools = tmp_path / "checkout", tmp_path / "cargo", tmp_path / "bin"
    for name in subprocess.check_output(["git", "ls-files", "-z"], cwd=ROOT, text=True).rstrip("\0").split("\0"):
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, checkout / name)
    # What cargo has downloaded. It unpacks the sources of the dependencies again.
    registry = pathlib.Path(os.environ.get("CARGO_HOME") or pathlib.Path.home() / ".cargo", "registry")
    for name in ("cache", "index"):
        shutil.copytree(registry / name, home / "registry" / name)
    tools.mkdir()
    cargo = f'#!/bin/sh\n[ "$1" != lambda ] || set -- "$@" --bin {function}\nexec {shutil.which("cargo")} "$@"\n'
    (tools / "cargo").write_text(cargo)
    (tools / "cargo").chmod(0o755)
    environment = {**os.environ, "CARGO_HOME": str(home), "PATH": f"{tools}:{os.environ['PATH']}"}
    environment.pop("CARGO_TARGET_DIR", None)
    command = [checkout / "infra" / "build", "--architecture", architecture]
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    # It misses the other functions.
    path = pathlib.Path("target", "packages", architecture, function, "bootstrap")
    assert (checkout / path).exists(), result.stderr
    ours, theirs = ((root / path).read_bytes() for root in (ROOT, checkout))
    assert hashlib.sha256(ours).hexdigest() == hashlib.sha256(theirs).hexdigest()


def test_the_functions_are_built_with_traces_on_demand(project):
    assert project.build("--features", "otel").returncode == 0
    assert "--features otel" in " ".join(project.arguments())
    assert project.build().returncode == 0
    assert "--features" not in project.arguments()


def test_a_deployment_uses_the_last_build_for_the_templates_architecture(project):
    """`sam deploy` uses the link, whose path is in samconfig.toml."""
    link = project.packages / "current"
    assert project.build().returncode == 0
    project.boot("x86_64")
    assert project.build("--architecture", "x86_64").returncode == 0
    assert os.readlink(link) == "arm64"
    project.template.write_text(project.template.read_text().replace("arm64", "x86_64"))
    assert project.build().returncode == 0
    assert os.readlink(link) == "x86_64"
    config = (ROOT / "infra" / "samconfig.toml").read_text()
    [path] = re.findall(r'^template = "(.*)"$', config, re.MULTILINE)
    assert os.path.normpath(ROOT / "infra" / path) == str(PACKAGES / "current" / "template.yaml")


def test_the_same_bootstrap_makes_the_same_package(project):
    def build(content, time):
        project.boot("arm64", content)
        os.utime(project.bootstrap, (time, time))
        assert project.build().returncode == 0
        return digests(project.packages / "arm64")["one.zip"]

    first = build(b"code", 1_000_000_000)
    assert build(b"code", 1_700_000_000) == first
    assert build(b"other code", 1_700_000_000) != first


@pytest.mark.parametrize("content", ["x86_64", b"", b"#!/bin/sh\necho started\n", b"\x7fELF\2\1"])
def test_a_bootstrap_of_another_machine_is_rejected(project, content):
    assert project.build().returncode == 0
    if content == "x86_64":
        project.boot(content)
    else:
        project.bootstrap.write_bytes(content)
    result = project.build()
    assert result.returncode == 1
    found = r"(x86_64|an unknown machine)"
    assert re.search(rf"^infra/build: .*/one/bootstrap is for {found}, not for arm64$", result.stderr)
    # Nothing is left to be deployed, not even an earlier build.
    assert not (project.packages / "current" / "template.yaml").exists()


@pytest.mark.parametrize(
    "tool,message",
    [
        ("cargo", "cargo is missing. Install Rust with rustup"),
        ("rustc", "cargo is missing. Install Rust with rustup"),
        ("cargo-lambda", "cargo-lambda is missing. Install requirements.txt"),
        ("zig", "zig is missing. Install requirements.txt"),
        ("rustup", "this Rust cannot compile for aarch64-unknown-linux-gnu. Install Rust with rustup"),
    ],
)
def test_a_missing_tool_is_named(project, tool, message):
    (project.bin / tool).unlink()
    result = project.build()
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith(f"infra/build: {message}")


def test_other_sources_of_a_tool_are_accepted(project, tmp_path):
    """Zig as a Python package, and a Rust that has the target without rustup."""
    (project.bin / "zig").unlink()
    project.tool("python3", "#!/bin/sh\n[ \"$*\" = '-m ziglang version' ]\n")
    (project.bin / "rustup").unlink()
    (tmp_path / "lib/rustlib/aarch64-unknown-linux-gnu").mkdir(parents=True)
    assert project.build().returncode == 0


@pytest.mark.parametrize(
    "old,new,message",
    [
        ("two.zip", "three.zip", "the packages in template.yaml (one.zip, three.zip) are not those of functions/"),
        ("[arm64]", "[arm]", "template.yaml needs exactly one line"),
        ("[arm64]", "[!Ref Architecture]", "template.yaml needs exactly one line"),
        ("[arm64]\n", "[arm64]\n    Architectures: [x86_64]\n", "template.yaml needs exactly one line"),
    ],
)
def test_a_template_that_does_not_fit_is_rejected(project, old, new, message):
    project.template.write_text(project.template.read_text().replace(old, new))
    result = project.build()
    assert result.returncode == 1
    assert result.stderr.startswith(f"infra/build: {message}")
    assert not (project.root / "arguments").exists()


def test_a_failed_compilation_fails_the_build(project):
    project.tool("cargo", "#!/bin/sh\nexit 101\n")
    result = project.build()
    assert (result.returncode, result.stderr) == (1, "infra/build: cargo-lambda could not build the functions\n")
