"""Half a day of traffic against a local stack, with incidents."""

import math
import random
import time
import uuid

from processes import HTTP, until

# Simulated minutes between two points of a graph, the number of points, and the minutes from one run to the next.
STEP = 10
STEPS = 72
RECONCILES_EVERY = 5
# What goes wrong, from a point up to another one.
CIRCLE_FAILS = range(14, 18)
CIRCLE_IS_SLOW = range(24, 28)
WEBHOOKS_ARE_LOST = range(36, 44)
PIN = "123456"


class Player:
    def __init__(self, description, log):
        self.api = description["api"]
        self.issuer = description["issuer"]
        self.control_url = description["control"]
        self.log = log
        self.random = random.Random(7)
        # The status of each request to the API.
        self.statuses = []

    def control(self, method, path, body=None):
        response = HTTP.request(method, f"{self.control_url}{path}", json=body)
        assert response.status == 200, response.data
        return response.json()

    def call(self, method, path, headers, body=None):
        response = HTTP.request(method, f"{self.api}{path}", headers=headers, json=body)
        self.statuses.append(response.status)
        return response.json() if response.status < 300 else None

    def step(self, number):
        """Plays the time between two points, and returns the status of each request."""
        self.statuses = []
        self.control("DELETE", "/faults")
        if number in CIRCLE_FAILS:
            fault = {"method": "PUT", "path": "/v1/w3s/user/pin", "status": 503, "times": 10_000}
            self.control("POST", "/faults", fault)
        if number in CIRCLE_IS_SLOW:
            self.control("POST", "/faults", {"path": "/v1/w3s/user", "delayMs": 300, "times": 10_000})
        self.control("PATCH", "/knobs", {"loseWebhooks": 1_000_000 if number in WEBHOOKS_ARE_LOST else 0})
        # More people reset their PIN in the middle of the day.
        for _ in range(round(5 + 4 * math.sin(math.pi * number / STEPS) + self.random.uniform(-2, 2))):
            self.reset(number)
        for _ in range(STEP // RECONCILES_EVERY):
            self.settle_down()
            before = self.runs()
            self.control("POST", "/clock/advance", {"seconds": RECONCILES_EVERY * 60})
            until("reconciliation has run", lambda: self.runs() > before)
        self.settle_down()
        return self.statuses

    def runs(self):
        return self.log.read_text().count('"metric":"reconciliation_run"')

    def settle_down(self):
        """Waits until nothing is logged any more. A call that is under way while the clock moves would look slow."""
        size = -1
        while size != (size := self.log.stat().st_size):
            time.sleep(0.3)

    def reset(self, number):
        """One user changes the PIN, or recovers it, or makes a mistake, or walks away."""
        user = f"user-{uuid.UUID(int=self.random.getrandbits(128))}"
        state = {"pin": PIN, "pinStatus": "ENABLED", "securityQuestionStatus": "ENABLED"}
        self.control("PUT", f"/users/{user}", state)
        token = HTTP.request("GET", f"{self.issuer}/token?sub={user}").data.decode()
        headers = {"Authorization": f"Bearer {token}"}
        session = self.call("POST", "/session-tokens", headers)
        if session is None:
            return
        headers["X-User-Token"] = session["userToken"]
        is_recovery = self.random.random() < 0.3
        body = {"type": "RESTORE_PIN" if is_recovery else "CHANGE_PIN"}
        challenge = self.call("POST", "/challenges", headers | {"Idempotency-Key": str(uuid.uuid4())}, body)
        if challenge is None:
            return
        path = f"/challenges/{challenge['challengeId']}"
        self.call("GET", path, headers)
        if self.random.random() < 0.04:
            return
        if is_recovery:
            self.control("POST", f"{path}/security-questions", {"correct": True, "newPin": "445566"})
        elif self.random.random() < 0.1:
            for _ in range(3):
                self.control("POST", f"{path}/pin", {"pin": "000000"})
        else:
            self.control("POST", f"{path}/pin", {"pin": PIN, "newPin": "445566"})
        if number in WEBHOOKS_ARE_LOST and self.random.random() < 0.6:
            # The user closes the app, so reconciliation has to find out.
            return

        for _ in range(10):
            time.sleep(0.05)
            record = self.call("GET", path, headers)
            if record and record["status"] in ("COMPLETE", "FAILED"):
                return
            self.control("POST", "/clock/advance", {"seconds": 3})
