"""A simulator of Circle, Circle's SDK for it, and a receiver of webhooks."""

import json
import uuid

import pytest
from circle.web3 import configurations, user_controlled_wallets, utils

import simulator
from processes import pytest_configure, pytest_unconfigure  # noqa: F401
from receiver import Receiver


class Circle:
    """Circle's SDK with one API key."""

    def __init__(self, url, api_key):
        wallets = utils.init_user_controlled_wallets_client(api_key=api_key, host=url)
        webhooks = configurations.ApiClient(configurations.Configuration(access_token=api_key, host=url))
        self.pin = user_controlled_wallets.PINAuthenticationApi(wallets)
        self.users = user_controlled_wallets.UsersApi(wallets)
        self.subscriptions = configurations.WebhookSubscriptionsApi(webhooks)

    def user_token(self, user_id):
        request = user_controlled_wallets.UserTokenRequest(user_id=user_id)
        return self.pin.get_user_token(request).data.user_token


@pytest.fixture(scope="session")
def simulated(tmp_path_factory):
    """The simulator."""
    process, simulated = simulator.start(tmp_path_factory.mktemp("circle-sdks") / "circle.log")
    yield simulated
    process.stop()


@pytest.fixture(scope="session")
def circle(simulated):
    return Circle(simulated.url, simulated.api_key)


@pytest.fixture(scope="session")
def circle_with(simulated):
    """Creates an SDK with another API key."""
    return lambda api_key: Circle(simulated.url, api_key)


@pytest.fixture(scope="session")
def control(simulated):
    """Calls the simulator's control API."""
    return simulated.control


@pytest.fixture
def new_user(control):
    """Creates a user, with a PIN and security questions unless a state is given. Returns the id."""

    def make(**state):
        user_id = f"python-{uuid.uuid4()}"
        control("PUT", f"/users/{user_id}", state or {"pinStatus": "ENABLED", "securityQuestionStatus": "ENABLED"})
        return user_id

    return make


@pytest.fixture
def signed_in(circle, new_user):
    """Creates such a user, and returns a token."""
    return lambda **state: circle.user_token(new_user(**state))


@pytest.fixture
def rejected():
    """Asserts that the SDK reports an error with this status and this Circle error code."""

    def check(status, code, call):
        with pytest.raises(Exception) as raised:
            call()
        error = raised.value
        assert type(error).__name__.endswith("Exception"), error
        assert (error.status, json.loads(error.body)["code"]) == (status, code)
        return error

    return check


@pytest.fixture
def receiver():
    with Receiver() as receiver:
        yield receiver
