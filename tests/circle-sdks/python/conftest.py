"""The simulator as these tests meet it: Circle's SDK, the control API, and a receiver of webhooks."""

import json
import os
import queue
import threading
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.request import Request, urlopen

import pytest
from circle.web3 import configurations, user_controlled_wallets, utils

URL = os.environ["CIRCLE_URL"]
API_KEY = os.environ["CIRCLE_API_KEY"]


class Circle:
    """Circle's SDK with one API key."""

    def __init__(self, api_key):
        wallets = utils.init_user_controlled_wallets_client(api_key=api_key, host=URL)
        webhooks = configurations.ApiClient(configurations.Configuration(access_token=api_key, host=URL))
        self.pin = user_controlled_wallets.PINAuthenticationApi(wallets)
        self.users = user_controlled_wallets.UsersApi(wallets)
        self.subscriptions = configurations.WebhookSubscriptionsApi(webhooks)

    def user_token(self, user_id):
        request = user_controlled_wallets.UserTokenRequest(user_id=user_id)
        return self.pin.get_user_token(request).data.user_token


@pytest.fixture(scope="session")
def circle():
    return Circle(API_KEY)


@pytest.fixture(scope="session")
def circle_with():
    return Circle


@pytest.fixture(scope="session")
def control():
    def call(method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        with urlopen(Request(f"{URL}/control{path}", data=data, method=method)) as answer:
            return json.load(answer)

    return call


@pytest.fixture
def new_user(control):
    """Makes a user with a PIN and security questions, or with what is given, and gives the id."""

    def make(**state):
        user_id = f"python-{uuid.uuid4()}"
        control("PUT", f"/users/{user_id}", state or {"pinStatus": "ENABLED", "securityQuestionStatus": "ENABLED"})
        return user_id

    return make


@pytest.fixture
def signed_in(circle, new_user):
    """Makes such a user and gives a token for them."""
    return lambda **state: circle.user_token(new_user(**state))


@pytest.fixture
def refused():
    """Asserts that Circle refuses, with this status and code, as the SDK shows it."""

    def check(status, code, call):
        with pytest.raises(Exception) as raised:
            call()
        error = raised.value
        assert type(error).__name__.endswith("Exception"), error
        assert (error.status, json.loads(error.body)["code"]) == (status, code)
        return error

    return check


class Receiver:
    """An endpoint on loopback that takes in webhooks."""

    def __init__(self):
        self.received = queue.Queue()
        received = self.received

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self):
                self.send_response(200)
                self.end_headers()

            def do_POST(self):
                received.put((dict(self.headers), self.rfile.read(int(self.headers["Content-Length"]))))
                self.do_HEAD()

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}/webhooks"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def next(self, wanted):
        """The first message whose JSON is wanted: its headers, raw body and JSON."""
        while True:
            headers, body = self.received.get(timeout=10)
            message = json.loads(body)
            if wanted(message):
                return {name.lower(): value for name, value in headers.items()}, body, message

    def close(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def receiver():
    receiver = Receiver()
    yield receiver
    receiver.close()
