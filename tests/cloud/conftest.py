"""The service, deployed to a local AWS, with the simulator of Circle and a token issuer beside it."""

import json
import time
import uuid

import pytest

import simulator
from bus import Bus
from deployment import BUCKET, Stack
from issuer import AUDIENCE, Issuer
from local_aws import LocalAws
from processes import pytest_configure, pytest_unconfigure  # noqa: F401


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("cloud")


@pytest.fixture(scope="session")
def aws(folder):
    aws = LocalAws(folder)
    yield aws
    aws.stop()


@pytest.fixture(scope="session")
def circle(folder):
    process, circle = simulator.start(folder / "circle.log")
    yield circle
    process.stop()


@pytest.fixture(autouse=True)
def reset_circle(circle):
    """Removes the faults that a test has made, and undoes its changes of the simulator's settings."""
    knobs = circle.control("GET", "/knobs")
    yield
    circle.control("DELETE", "/faults")
    circle.knobs(**knobs)


@pytest.fixture(scope="session")
def issuer():
    issuer = Issuer()
    yield issuer
    issuer.stop()


@pytest.fixture(scope="session")
def parameters(aws, circle, issuer):
    """The parameters without a default, and those that an AWS on the loopback interface needs."""
    aws.client("s3").create_bucket(Bucket=BUCKET)
    secret = aws.client("secretsmanager").create_secret(Name="circle-api-key", SecretString=circle.api_key)
    return {
        "CircleApiKeySecretArn": secret["ARN"],
        "CircleBaseUrl": circle.url,
        "CircleSourceIps": "127.0.0.1",
        "JwtIssuer": issuer.url,
        "JwtAudience": f"another-app,{AUDIENCE}",
        "PinChangedAlerts": "ENABLED",
        "AlarmEmail": "on-call@example.com",
        "LogLevel": "DEBUG",
    }


@pytest.fixture(scope="session")
def service(aws, parameters, request):
    stack = Stack(aws, "pin-reset", parameters)
    request.config.stash[STACKS].append(stack)
    return stack


class User:
    """A user with an account at Circle, signed in to the app."""

    def __init__(self, service, issuer, user_id, **claims):
        self.id = user_id
        self.token = issuer.token(user_id, **claims)
        self.service = service

    def call(self, method, path, body=None, headers=()):
        return self.service.call(method, path, self.token, body, headers)

    def create_challenge(self, challenge_type="CHANGE_PIN", **headers):
        response = self.call("POST", "/challenges", {"type": challenge_type}, headers)
        assert response.status == 201, response.data
        return response.json()

    def challenge(self, challenge_id, **headers):
        response = self.call("GET", f"/challenges/{challenge_id}", headers=headers)
        assert response.status == 200, response.data
        return response.json()


def create_at_circle(circle, user_id):
    """Creates a user with a PIN and security questions at Circle."""
    circle.control("PUT", f"/users/{user_id}", {"pin": "135790", "securityQuestionStatus": "ENABLED"})


@pytest.fixture
def new_user(service, circle, issuer):
    """Creates a user with a PIN and security questions, who is signed in."""

    def make(stack=service, **claims):
        user_id = f"cloud-{uuid.uuid4()}"
        create_at_circle(circle, user_id)
        return User(stack, issuer, user_id, **claims)

    return make


@pytest.fixture
def user(new_user):
    return new_user()


@pytest.fixture(scope="session")
def records(aws, service):
    """The table of challenge records."""

    class Records:
        name = service.resource("ChallengesTable")

        def get(self, challenge_id):
            key = {"challengeId": {"S": challenge_id}}
            return aws.client("dynamodb").get_item(TableName=self.name, Key=key, ConsistentRead=True).get("Item")

    return Records()


@pytest.fixture(scope="session")
def bus(aws, service):
    return Bus(aws, service)


@pytest.fixture
def overdue(aws, service, records):
    """Makes the next check of a challenge due now, as if its user had not been given a session lately."""

    def make_due(challenge_id):
        dynamodb = aws.client("dynamodb")
        dynamodb.update_item(
            TableName=records.name,
            Key={"challengeId": {"S": challenge_id}},
            UpdateExpression="SET nextCheckAt = :now",
            ConditionExpression="attribute_exists(nextCheckAt)",
            ExpressionAttributeValues={":now": {"N": str(int(time.time()) - 1)}},
        )
        rate_limits = service.resource("RateLimitsTable")
        for item in dynamodb.scan(TableName=rate_limits)["Items"]:
            dynamodb.delete_item(TableName=rate_limits, Key={"limitKey": item["limitKey"]})

    return make_due


@pytest.fixture
def start_now(aws):
    """Makes a second schedule like one of a stack, which starts its target once, and at once."""

    def start(schedule):
        aws.client("scheduler").create_schedule(
            Name=f"{schedule['Name']}-now",
            ScheduleExpression=time.strftime("at(%Y-%m-%dT%H:%M:%S)", time.gmtime()),
            FlexibleTimeWindow={"Mode": "OFF"},
            Target=schedule["Target"],
            ActionAfterCompletion="DELETE",
        )

    return start


@pytest.fixture
def metrics(service):
    """The metrics that the functions have logged since the test began."""
    begin = int(time.time() * 1000)

    def logged():
        lines = [json.loads(message) for when, _, message in service.log() if when >= begin and message[0] == "{"]
        return {line["metric"] for line in lines if "metric" in line}

    return logged


STACKS = pytest.StashKey()
STARTED = pytest.StashKey()


def pytest_sessionstart(session):
    session.config.stash[STACKS] = []


def pytest_runtest_setup(item):
    item.stash[STARTED] = int(time.time() * 1000)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    """A failure shows what the functions logged during the test."""
    report = yield
    if report.failed:
        for stack in item.config.stash[STACKS]:
            try:
                lines = [line for line in stack.log() if line[0] >= item.stash[STARTED]]
            except Exception as error:
                lines = [(0, "the log cannot be read", repr(error))]
            text = "\n".join(f"{function}: {short(message)}" for _, function, message in lines[-60:])
            report.sections.append((f"functions of {stack.name}", text))
    return report


def short(message):
    """A line of a function's log, without the fields that every line has."""
    try:
        line = json.loads(message)
        return f"{line.pop('level')} " + " ".join(
            f"{name}={value}" for name, value in line.items() if name not in ("timestamp", "target", "span", "_aws")
        )
    except ValueError:
        return message.rstrip()
