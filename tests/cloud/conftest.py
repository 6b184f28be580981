"""The service, deployed to a local AWS, with Circle (the simulator) and an issuer of tokens beside it."""

import json
import os
import pathlib
import signal
import time
import uuid

import pytest

import deployment
from deployment import BUCKET, Stack
from issuer import AUDIENCE, Issuer
from local_aws import REGION, LocalAws
from processes import Circle, Process

TARGET = deployment.ROOT / "target"

# Whatever is found here beside what the tests set is none of their business.
for name in [name for name in os.environ if name.startswith("AWS_")]:
    del os.environ[name]
os.environ["AWS_DEFAULT_REGION"] = REGION


def pytest_configure():
    # A run that is told to end stops what it started, as one that is interrupted does.
    signal.signal(signal.SIGTERM, lambda *_: pytest.exit("told to end", returncode=143))


def pytest_unconfigure():
    # Also what did not get as far as a fixture that ends it.
    for process in Process.started:
        process.stop()


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("cloud")


@pytest.fixture(scope="session")
def aws(folder):
    aws = LocalAws(pathlib.Path(os.environ["VIRTUAL_ENV"]) / "bin" / "ministack", folder)
    yield aws
    aws.stop()


@pytest.fixture(scope="session")
def circle(folder):
    circle = Circle(TARGET / "debug" / "examples" / "circle_simulator", folder)
    yield circle
    circle.stop()


@pytest.fixture(autouse=True)
def untroubled(circle):
    """No test leaves its troubles to the next one."""
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
    """Those that have no default, and those that a cloud on loopback needs."""
    aws.client("s3").create_bucket(Bucket=BUCKET)
    secret = aws.client("secretsmanager").create_secret(Name="circle-api-key", SecretString=circle.api_key)
    return {
        "CircleApiKeySecretArn": secret["ARN"],
        "CircleBaseUrl": circle.url,
        "CircleSourceIps": "127.0.0.1",
        "JwtIssuer": issuer.url,
        "JwtAudience": f"another-app,{AUDIENCE}",
        "PinChangedAlerts": "ENABLED",
        "Architecture": "x86_64",
        "LogLevel": "DEBUG",
    }


@pytest.fixture(scope="session")
def service(aws, parameters, request):
    stack = Stack(aws, "pin-reset", parameters)
    request.config.stash[STACKS].append(stack)
    return stack


class User:
    """A user whom Circle knows, signed in to the app."""

    def __init__(self, service, issuer, user_id):
        self.id = user_id
        self.token = issuer.token(user_id)
        self.service = service

    def call(self, method, path, body=None, headers=()):
        return self.service.call(method, path, self.token, body, headers)

    def create_challenge(self, challenge_type="CHANGE_PIN", **headers):
        answer = self.call("POST", "/challenges", {"type": challenge_type}, headers)
        assert answer.status == 201, answer.data
        return answer.json()

    def challenge(self, challenge_id, **headers):
        answer = self.call("GET", f"/challenges/{challenge_id}", headers=headers)
        assert answer.status == 200, answer.data
        return answer.json()


@pytest.fixture
def new_user(service, circle, issuer):
    """Makes a user with a PIN and security questions."""

    def make(stack=service):
        user_id = f"cloud-{uuid.uuid4()}"
        circle.control("PUT", f"/users/{user_id}", {"pin": "135790", "securityQuestionStatus": "ENABLED"})
        return User(stack, issuer, user_id)

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


@pytest.fixture
def overdue(aws, service, records):
    """Makes the next look at a challenge, due in ten minutes, due now, as if nobody had asked for one lately."""

    def set_back(challenge_id):
        dynamodb = aws.client("dynamodb")
        dynamodb.update_item(
            TableName=records.name,
            Key={"challengeId": {"S": challenge_id}},
            UpdateExpression="SET nextCheckAt = :now",
            ConditionExpression="attribute_exists(nextCheckAt)",
            ExpressionAttributeValues={":now": {"N": str(int(time.time()) - 1)}},
        )
        requests = service.resource("RateLimitsTable")
        for item in dynamodb.scan(TableName=requests)["Items"]:
            dynamodb.delete_item(TableName=requests, Key={"userHour": item["userHour"]})

    return set_back


@pytest.fixture
def metrics(service):
    """The words that the functions have counted since the test began."""
    begin = int(time.time() * 1000)

    def counted():
        lines = [json.loads(message) for when, _, message in service.log() if when >= begin and message[0] == "{"]
        return {line["metric"] for line in lines if "metric" in line}

    return counted


STACKS = pytest.StashKey()
STARTED = pytest.StashKey()


def pytest_sessionstart(session):
    session.config.stash[STACKS] = []


def pytest_runtest_setup(item):
    item.stash[STARTED] = int(time.time() * 1000)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    """What the functions logged meanwhile is part of a failure."""
    report = yield
    if report.failed:
        for stack in item.config.stash[STACKS]:
            try:
                lines = [line for line in stack.log() if line[0] >= item.stash[STARTED]]
            except Exception as error:
                lines = [(0, "no log", repr(error))]
            text = "\n".join(f"{function}: {short(message)}" for _, function, message in lines[-60:])
            report.sections.append((f"functions of {stack.name}", text))
    return report


def short(message):
    """A line of a function's log, without what every line has."""
    try:
        line = json.loads(message)
        return f"{line.pop('level')} " + " ".join(
            f"{name}={value}" for name, value in line.items() if name not in ("timestamp", "target", "span", "spans")
        )
    except ValueError:
        return message.rstrip()
