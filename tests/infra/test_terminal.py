"""What `cargo local` shows on a terminal while it runs."""

import os
import pty
import re
import select
import time

import pytest

from processes import HTTP, Process, until

COLOUR = "\x1b["


class Terminal:
    """`cargo local` on a terminal."""

    def __init__(self, tmp_path, *options, environment):
        self.leader, follower = pty.openpty()
        command = ["cargo", "local", "--port", "0", *options]
        environment = {name: value for name, value in os.environ.items() if name != "NO_COLOR"} | environment
        self.process = Process(command, tmp_path / "log", environment, stdout=follower)
        os.close(follower)
        self.text = ""
        self.api = self.wait_for(r"HTTP API +(http://[\d.:]+)")[1]
        self.wait_for("Press Ctrl-C to stop")

    def read(self, patience):
        """Reads what is printed within so many seconds."""
        if select.select([self.leader], [], [], patience)[0]:
            self.text += os.read(self.leader, 65536).decode()

    def wait_for(self, pattern):
        def found():
            self.read(0.05)
            return re.search(pattern, self.text)

        return until(pattern, found)


@pytest.fixture
def terminal(tmp_path):
    started = []

    def start(*options, environment=None):
        started.append(Terminal(tmp_path, *options, environment=environment or {"TERM": "xterm"}))
        return started[-1]

    yield start
    for one in started:
        one.process.stop()
        os.close(one.leader)


def test_each_request_has_a_line_in_colour(terminal):
    shown = terminal()
    assert HTTP.request("GET", f"{shown.api}/pin").status == 401
    line = shown.wait_for(r"GET /pin[^\n]*401[^\n]*\n")[0]
    assert COLOUR in line
    shown.wait_for(r"webhook[^\n]*webhooks\.test[^\n]*200")


@pytest.mark.parametrize("environment", [{"TERM": "dumb"}, {"TERM": "xterm", "NO_COLOR": "1"}])
def test_a_terminal_without_colours_gets_none(terminal, environment):
    shown = terminal(environment=environment)
    HTTP.request("GET", f"{shown.api}/pin")
    shown.wait_for(r"request  GET /pin +401 ")
    assert COLOUR not in shown.text


def test_nothing_is_shown_if_nobody_wants_it(terminal):
    shown = terminal("--quiet")
    HTTP.request("GET", f"{shown.api}/pin")
    # Five times as long as it takes to show something.
    deadline = time.monotonic() + 1
    while time.monotonic() < deadline:
        shown.read(0.1)
    assert "GET /pin " not in shown.text and "webhooks.test" not in shown.text
