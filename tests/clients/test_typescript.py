"""The TypeScript client: the types that openapi-typescript generates, used through openapi-fetch."""

import os
import pathlib
import subprocess

TYPESCRIPT = pathlib.Path(__file__).parent / "typescript"


def run(*command, **environment):
    result = subprocess.run(command, cwd=TYPESCRIPT, env=os.environ | environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_types_compile_and_the_client_works(stack):
    run("npx", "tsc")
    settings = {"API_URL": stack.api, "TOKEN": stack.token, "CONTROL_URL": stack.control_url}
    run("node", "--test", "generated/compiled/client.test.js", **settings)
