"""The simulator of Circle, and its control API, which acts for users and makes things go wrong.

As a program it runs a command beside a simulator of its own:

    python simulator.py COMMAND [ARGUMENT ...]

The command finds the simulator through CIRCLE_URL and CIRCLE_API_KEY.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

from processes import HTTP, announced

COMMAND = ["cargo", "run", "--quiet", "--locked", "--package", "local", "--example", "circle_simulator"]


class Simulator:
    def __init__(self, url, api_key):
        self.url = url
        self.api_key = api_key

    def control(self, method, path, body=None):
        response = HTTP.request(method, f"{self.url}/control{path}", json=body)
        assert response.status == 200, f"{method} {path}: {response.data}"
        return response.json()

    def knobs(self, **changes):
        self.control("PATCH", "/knobs", changes)

    def lose_webhooks(self, lost=True):
        """Loses every webhook from now on, or none."""
        self.knobs(loseWebhooks=1_000_000 if lost else 0)

    def challenges(self, user_id):
        return [one for one in self.control("GET", "/challenges") if one["userId"] == user_id]

    def subscriptions(self, endpoint=None):
        return [one for one in self.control("GET", "/subscriptions") if endpoint in (None, one["endpoint"])]

    def subscribe(self, endpoint):
        """Subscribes an endpoint to every webhook, through Circle's own API. Returns the subscription's id."""
        body = {"endpoint": endpoint, "notificationTypes": ["*"]}
        response = self.notifications("POST", "", body)
        assert response.status == 200, response.data
        return response.json()["data"]["id"]

    def unsubscribe(self, subscription_id):
        """Deletes a subscription through Circle's own API, as an operator does in Circle's console."""
        response = self.notifications("DELETE", f"/{subscription_id}")
        assert response.status == 204, response.data

    def notifications(self, method, path, body=None):
        url = f"{self.url}/v2/notifications/subscriptions{path}"
        return HTTP.request(method, url, json=body, headers={"Authorization": f"Bearer {self.api_key}"})

    def deliveries(self, endpoint, challenge_id=None):
        """The attempts to deliver webhooks to an endpoint, for one challenge or for all."""
        return [
            delivery
            for delivery in self.control("GET", "/deliveries")
            if delivery["endpoint"] == endpoint
            # Attempt 0 is a webhook that the simulator lost on purpose.
            and delivery["attempt"] > 0
            and (challenge_id is None or json.loads(delivery["body"])["notification"].get("id") == challenge_id)
        ]


def start(log):
    """Starts a simulator, and returns its process and its control API."""
    process, ready = announced(COMMAND, log)
    return process, Simulator(ready["url"], ready["apiKey"])


def main():
    with tempfile.NamedTemporaryFile() as log:
        process, simulator = start(pathlib.Path(log.name))
        try:
            environment = {**os.environ, "CIRCLE_URL": simulator.url, "CIRCLE_API_KEY": simulator.api_key}
            return subprocess.run(sys.argv[1:], env=environment).returncode
        finally:
            process.stop()


if __name__ == "__main__":
    sys.exit(main())
