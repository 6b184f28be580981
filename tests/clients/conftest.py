"""A running `cargo local`, and its user."""

import pytest

from processes import HTTP, announced
from processes import pytest_configure, pytest_unconfigure  # noqa: F401


class Stack:
    """The local stack: its URLs, and the token of its user."""

    def __init__(self, description):
        self.api = description["api"]
        self.token = description["bearerToken"]
        self.user_id = description["userId"]
        self.control_url = description["control"]

    def control(self, method, path, body):
        response = HTTP.request(method, f"{self.control_url}{path}", json=body)
        assert response.status == 200, response.data


@pytest.fixture(scope="session")
def running(tmp_path_factory):
    log = tmp_path_factory.mktemp("clients") / "local.log"
    process, description = announced(["cargo", "local", "--port", "0", "--json"], log)
    yield Stack(description)
    process.stop()


@pytest.fixture
def stack(running):
    """The stack, with a user who has a PIN and has used up none of the limits."""
    running.control("POST", "/clock/advance", {"seconds": 3600})
    running.control("PUT", f"/users/{running.user_id}", {"pinStatus": "ENABLED", "securityQuestionStatus": "ENABLED"})
    return running
