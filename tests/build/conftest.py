"""The packages that infra/build makes, and a small project in which it runs with stand-ins for its tools."""

import shutil
import subprocess
import sys

import pytest

from processes import ROOT
from processes import pytest_configure, pytest_unconfigure  # noqa: F401

FUNCTIONS = sorted(path.parent.name for path in (ROOT / "functions").glob("*/Cargo.toml"))
ARCHITECTURES = ["arm64", "x86_64"]
PACKAGES = ROOT / "target" / "packages"


@pytest.fixture(scope="session", params=ARCHITECTURES)
def built(request):
    """The architecture, and the folder that infra/build has filled for it."""
    return request.param, PACKAGES / request.param


class Project:
    """A project with two functions, and with stand-ins for cargo and the other tools. `cargo` gives every function the
    bootstrap `self.bootstrap`, and writes its arguments and the flags for the compiler to files."""

    def __init__(self, folder):
        self.root = folder / "project"
        self.packages = self.root / "target" / "packages"
        self.bin = folder / "bin"
        self.bootstrap = folder / "bootstrap"
        (self.root / "infra").mkdir(parents=True)
        shutil.copy(ROOT / "infra" / "build", self.root / "infra")
        self.template = self.root / "infra" / "template.yaml"
        self.template.write_text("    Architectures: [arm64]\n      CodeUri: one.zip\n      CodeUri: two.zip\n")
        for function in ("one", "two"):
            (self.root / "functions" / function).mkdir(parents=True)
            (self.root / "functions" / function / "Cargo.toml").touch()
        self.bin.mkdir()
        self.tool("cargo", CARGO.format(python=sys.executable, bootstrap=self.bootstrap, root=self.root))
        self.tool("rustc", f"#!/bin/sh\necho {folder}\n")
        for name in ("cargo-lambda", "rustup", "zig", "python3"):
            self.tool(name, "#!/bin/sh\nexit 1\n")
        self.boot("arm64")

    def tool(self, name, text):
        (self.bin / name).write_text(text)
        (self.bin / name).chmod(0o755)

    def boot(self, architecture, content=b"code"):
        """Sets the bootstrap: the header of an ELF file for the architecture, and the content."""
        machine = {"arm64": b"\xb7\0", "x86_64": b"\x3e\0"}[architecture]
        self.bootstrap.write_bytes(b"\x7fELF\2\1\1" + bytes(9) + b"\3\0" + machine + content)

    def build(self, *arguments, **environment):
        """The result of infra/build, which finds no tool except the stand-ins."""
        command = [sys.executable, self.root / "infra" / "build", *arguments]
        return subprocess.run(command, env={"PATH": str(self.bin), **environment}, capture_output=True, text=True)

    def arguments(self):
        return (self.root / "arguments").read_text().split()

    def flags(self):
        return (self.root / "flags").read_text().split("\x1f")


CARGO = """\
#!{python}
import os, pathlib, shutil, sys
pathlib.Path("{root}/flags").write_text(os.environ["CARGO_ENCODED_RUSTFLAGS"])
arguments = sys.argv[1:]
pathlib.Path("{root}/arguments").write_text(" ".join(arguments))
folder = pathlib.Path(arguments[arguments.index("--lambda-dir") + 1])
for option, function in zip(arguments, arguments[1:]):
    if option == "--package":
        (folder / function).mkdir(parents=True)
        shutil.copy("{bootstrap}", folder / function / "bootstrap")
"""


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path)
