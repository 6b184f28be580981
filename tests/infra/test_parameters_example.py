"""infra/parameters.example: the parameters of the template, in a form that both command lines take."""

import json
import re
import shutil
import subprocess

import pytest

from conftest import REQUIRED, ROOT
from parameters_example import example

EXAMPLE = ROOT / "infra" / "parameters.example"
SAM = ROOT / "tests" / "harness" / "venvs" / "sam" / "bin" / "python"

# What each command line makes of its arguments.
AS_SAM = """
from samcli.cli.types import CfnParameterOverridesType
print(json.dumps(CfnParameterOverridesType().convert(arguments, None, None)))
"""
AS_AWS = "print(json.dumps(dict(argument.split('=', 1) for argument in arguments)))"


def test_the_example_is_that_of_the_template(template):
    assert EXAMPLE.read_text() == example(template), "run tests/infra/parameters_example.py"
    lines = EXAMPLE.read_text().splitlines()
    assert max(map(len, lines)) <= 120
    assert re.findall(r"^(\w+)=$", EXAMPLE.read_text(), re.MULTILINE) == list(REQUIRED)
    optional = dict(re.findall(r"^#(\w+)=(.*)$", EXAMPLE.read_text(), re.MULTILINE))
    defaults = {name: one["Default"] for name, one in template["Parameters"].items() if "Default" in one}
    assert optional == defaults


@pytest.mark.parametrize("shell", ["bash", "zsh"])
@pytest.mark.parametrize("tool", ["sam", "aws"])
def test_the_command_in_the_example_passes_the_parameters(tmp_path, shell, tool):
    """zsh, the shell of macOS, splits the output of a command, but not the value of a variable."""
    if shell == "zsh" and not shutil.which("zsh"):
        pytest.skip("zsh is missing")
    text = EXAMPLE.read_text()
    [arguments] = re.findall(rf"^#     {tool} .*deploy .*--parameter-overrides (\$\(.*\))$", text, re.MULTILINE)
    given = REQUIRED | {"JwtAudience": "app,b*", "ChallengesPerHour": "5", "AllowedOrigins": ""}
    for name, value in given.items():
        text, count = re.subn(rf"^#?{name}=.*$", f"{name}={value}", text, flags=re.MULTILINE)
        assert count == 1
    (tmp_path / "parameters").write_text(text)
    code = "import json, sys; arguments = tuple(sys.argv[1:])\n" + (AS_SAM if tool == "sam" else AS_AWS)
    command = [shell, "-c", f'{SAM} -c "$CODE" {arguments}']
    environment = {"CODE": code, "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == given
