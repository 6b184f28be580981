"""Programs that run beside the tests, on free ports of the loopback interface."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import time

import pytest
import urllib3

ROOT = pathlib.Path(__file__).resolve().parents[2]
HTTP = urllib3.PoolManager(retries=False, timeout=60, maxsize=4)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def until(what, condition, patience=30):
    """Waits until a condition is true, and returns its value. Fails after `patience` seconds."""
    deadline = time.monotonic() + patience
    while not (result := condition()):
        assert time.monotonic() < deadline, f"not true within {patience} s: {what}"
        time.sleep(0.05)
    return result


class Process:
    """A program that runs in the repository's root. Stopping it also stops the programs that it has started."""

    started = []

    def __init__(self, command, log, environment=None, stdout=None):
        self.log = log
        with open(log, "ab") as file:
            self.process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=environment,
                # A program that reads its standard input to the end, as the simulator does, ends with the tests.
                stdin=subprocess.PIPE,
                stdout=stdout or file,
                stderr=file,
                start_new_session=True,
            )
        self.started.append(self)

    def alive(self):
        return self.process.poll() is None

    def stop(self):
        self.started.remove(self)
        self.process.terminate()
        try:
            self.process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            pass
        try:
            # The programs that it has left behind, such as functions in the middle of a request.
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()


def announced(command, log):
    """Starts a program that prints one line of JSON when it is ready. Returns the process and the JSON."""
    process = Process(command, log, stdout=subprocess.PIPE)
    line = process.process.stdout.readline()
    assert line, log.read_text()
    return process, json.loads(line)


# A conftest.py imports these two hooks. Every program then ends with the tests, even if a fixture fails before it
# yields, or if a signal ends the run.


def pytest_configure():
    signal.signal(signal.SIGTERM, lambda *_: pytest.exit("terminated by a signal", returncode=143))


def pytest_unconfigure():
    for process in Process.started[::-1]:
        process.stop()
