"""The functions under `cargo lambda watch`, behind the HTTP API of `cargo local`.

How cargo-lambda 1.9.2 differs from API Gateway and Lambda, as far as it matters here:

- It sends no useful deadline: `lambda-runtime-deadline-ms` is always 600000, a point in time in 1970.
- Its own HTTP routes add no JWT claims. A request of a signed-in user goes through `cargo lambda invoke`, with one of
  the events in `events/`, or through `cargo local --functions`, which checks the token and adds its claims.
- It builds and starts a function (`cargo run --bin NAME`) when the function is first invoked.
- If a function fails, `cargo lambda invoke` exits with 1.
"""

import json
import pathlib
import re
import socket
import subprocess

import pytest

from processes import HTTP, ROOT, Process, announced, free_port, until
from processes import pytest_configure, pytest_unconfigure  # noqa: F401
from simulator import Simulator

EVENTS = pathlib.Path(__file__).parent / "events"
FUNCTIONS = sorted(path.parent.name for path in (ROOT / "functions").glob("*/Cargo.toml"))


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("cargo-lambda")


@pytest.fixture(scope="session")
def port():
    return free_port()


@pytest.fixture(scope="session")
def stack(folder, port):
    """A running `cargo local`: the JSON that it prints."""
    command = ["cargo", "local", "--json", "--port", "0", "--functions", f"http://127.0.0.1:{port}"]
    process, description = announced(command, folder / "local.log")
    yield description
    process.stop()


class Watch:
    """`cargo lambda watch`."""

    def __init__(self, port, environment, log):
        self.url = f"http://127.0.0.1:{port}"
        self.log = log
        address = ["--invoke-address", "127.0.0.1", "--invoke-port", str(port)]
        self.process = Process(["cargo", "lambda", "watch", *address, "--env-file", str(environment)], log)

        def listens():
            assert self.process.alive(), log.read_text()
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        until("cargo lambda watch accepts connections", listens, patience=120)

    def call(self, method, path, **request):
        return HTTP.request(method, self.url + path, **request)

    def started(self):
        """The function of each process that it has started so far."""
        log = re.sub(r"\x1b\[[0-9;]*m", "", self.log.read_text())
        return re.findall(r'spawning function instance.*?function="?([\w-]+)', log)


@pytest.fixture(scope="session")
def watch(folder, port, stack):
    environment = folder / "functions.env"
    environment.write_text("".join(f"{name}={value}\n" for name, value in stack["functionEnvironment"].items()))
    watch = Watch(port, environment, folder / "watch.log")
    yield watch
    watch.process.stop()


@pytest.fixture(scope="session")
def circle(stack, watch):
    """The simulator, once it has subscribed the webhook route."""
    secret = {"SecretId": stack["functionEnvironment"]["CIRCLE_API_KEY_SECRET_ID"]}
    headers = {"X-Amz-Target": "secretsmanager.GetSecretValue", "Authorization": "AWS4-HMAC-SHA256 any"}
    response = HTTP.request("POST", stack["secretsManager"], json=secret, headers=headers)
    circle = Simulator(stack["circle"], response.json()["SecretString"])
    until("the webhook route is subscribed", circle.subscriptions, patience=120)
    return circle


@pytest.fixture(scope="session")
def invoke(port, folder, circle):
    """`cargo lambda invoke NAME`, with the event in `events/NAME.json` or with another one."""

    def invoke(function, event=None, fails=False):
        file = EVENTS / f"{function}.json"
        if event is not None:
            file = folder / "event.json"
            file.write_text(json.dumps(event))
        address = ["--invoke-address", "127.0.0.1", "--invoke-port", str(port)]
        command = ["cargo", "lambda", "invoke", function, "--data-file", str(file), *address]
        result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        if fails:
            assert (result.returncode, result.stdout) == (1, ""), result.stderr
            return result.stderr
        assert result.returncode == 0, result.stdout + result.stderr
        response = json.loads(result.stdout)
        if "json" in response.get("headers", {}).get("content-type", ""):
            response["body"] = json.loads(response["body"])
        return response

    return invoke


@pytest.fixture
def event():
    """The event in `events/NAME.json`, with every occurrence of one string replaced by another."""

    def read(name, old="", new=""):
        text = (EVENTS / f"{name}.json").read_text()
        return json.loads(text.replace(old, new) if old else text)

    return read


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport():
    """A failure shows the end of every program's log."""
    report = yield
    if report.failed:
        report.sections += [(process.log.name, process.log.read_text()[-8000:]) for process in Process.started]
    return report
