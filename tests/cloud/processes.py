"""What is started beside the tests, each on a free port of loopback, and ended again."""

import json
import os
import signal
import socket
import subprocess
import time

import urllib3

HTTP = urllib3.PoolManager(retries=False, timeout=30, maxsize=4)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def until(what, condition, patience=30):
    """Waits for a condition, gives what it gives, and fails if it does not come true."""
    deadline = time.monotonic() + patience
    while not (result := condition()):
        assert time.monotonic() < deadline, f"not true in {patience} s: {what}"
        time.sleep(0.05)
    return result


class Process:
    """A process with all that it starts, which ends with it."""

    started = []

    def __init__(self, command, environment, log, **streams):
        with open(log, "ab") as file:
            self.process = subprocess.Popen(
                command, env=environment, stderr=file, start_new_session=True, **{"stdout": file, **streams}
            )

        self.started.append(self)

    def alive(self):
        return self.process.poll() is None

    def stop(self):
        if self.alive():
            self.process.terminate()
            try:
                self.process.wait(timeout=15)
            except subprocess.TimeoutExpired:
                pass
        try:
            # What it started and left behind, such as functions in the middle of a request.
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()


class Circle:
    """The simulator of Circle: its control API, which does what users and bad luck do."""

    def __init__(self, executable, folder):
        self.process = Process(
            [executable],
            {"PATH": os.environ["PATH"]},
            folder / "circle.log",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        started = json.loads(self.process.process.stdout.readline())
        self.url = started["url"]
        self.api_key = started["apiKey"]

    def control(self, method, path, body=None):
        answer = HTTP.request(method, f"{self.url}/control{path}", json=body)
        assert answer.status == 200, f"{method} {path}: {answer.data}"
        return answer.json()

    def knobs(self, **changes):
        self.control("PATCH", "/knobs", changes)

    def lose_webhooks(self, lost=True):
        """From now on, or no longer."""
        self.knobs(loseWebhooks=1_000_000 if lost else 0)

    def challenges(self, user_id):
        return [one for one in self.control("GET", "/challenges") if one["userId"] == user_id]

    def subscriptions(self, endpoint=None):
        return [one for one in self.control("GET", "/subscriptions") if endpoint in (None, one["endpoint"])]

    def unsubscribe(self, subscription_id):
        """By Circle's own API: somebody removes it in the console."""
        url = f"{self.url}/v2/notifications/subscriptions/{subscription_id}"
        answer = HTTP.request("DELETE", url, headers={"Authorization": f"Bearer {self.api_key}"})
        assert answer.status in (200, 204), answer.data

    def deliveries(self, endpoint, challenge_id=None):
        """The attempts to deliver webhooks to an endpoint, of one challenge or of all."""
        return [
            delivery
            for delivery in self.control("GET", "/deliveries")
            if delivery["endpoint"] == endpoint
            # 0 stands for one that was lost.
            and delivery["attempt"] > 0
            and (challenge_id is None or json.loads(delivery["body"])["notification"].get("id") == challenge_id)
        ]

    def stop(self):
        self.process.process.stdin.close()
        self.process.stop()
