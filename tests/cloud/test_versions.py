"""The smoke test of a new version, invoked as CodeDeploy invokes it before it sends requests to the version."""

import io
import re
import zipfile

import pytest

from codedeploy import CodeDeploy
from deployment import archive, invoke

FUNCTIONS = {
    "CreateToken": "create-token",
    "CreateChallenge": "create-challenge",
    "GetChallenge": "get-challenge",
    "GetPin": "get-pin",
    "ReceiveWebhook": "receive-webhook",
    "ReconcileChallenges": "reconcile-challenges",
    "AnnounceChallenges": "announce-challenges",
}
# ELF has the machine in two bytes from here; 183 is AArch64.
ELF_MACHINE = slice(18, 20)
AARCH64 = (183).to_bytes(2, "little")


@pytest.fixture(scope="module")
def smoke_test(aws, service):
    """Runs the smoke test, with another version of a function. Returns the error, if it reports a failure."""
    client, codedeploy = aws.client("lambda"), CodeDeploy()
    hook = service.resource("SmokeTestFunction")
    variables = client.get_function_configuration(FunctionName=hook)["Environment"]["Variables"]

    def run(function=None, version=None):
        changed = {"AWS_ENDPOINT_URL_CODEDEPLOY": codedeploy.url}
        if function:
            name = service.resource(f"{function}Function")
            tested = ",".join([variables["GET_CHALLENGE"], variables["OTHERS"]])
            assert f":{name}:" in tested, "the smoke test does not know the function"
            for key in ["GET_CHALLENGE", "OTHERS"]:
                changed[key] = re.sub(rf":{name}:[0-9]+", f":{name}:{version}", variables[key])
        client.update_function_configuration(FunctionName=hook, Environment={"Variables": variables | changed})
        event = codedeploy.deploy()
        result = invoke(aws, hook, event)
        assert codedeploy.statuses.get(timeout=1) == (event["DeploymentId"], result["status"])
        assert codedeploy.statuses.empty()
        assert ("error" in result) == (result["status"] == "Failed")
        return result.get("error")

    yield run
    codedeploy.stop()


@pytest.fixture
def publish(aws, service):
    """Publishes a version with another package or other settings; None removes one. The alias stays where it is."""
    client = aws.client("lambda")
    changed = []

    def publish(function, package=None, **settings):
        name = service.resource(f"{function}Function")
        variables = client.get_function_configuration(FunctionName=name)["Environment"]["Variables"]
        changed.append((name, function, variables))
        if package:
            client.update_function_code(FunctionName=name, ZipFile=package)
        new = {key: value for key, value in {**variables, **settings}.items() if value is not None}
        client.update_function_configuration(FunctionName=name, Environment={"Variables": new})
        return client.publish_version(FunctionName=name)["Version"]

    yield publish
    for name, function, variables in changed:
        client.update_function_code(FunctionName=name, ZipFile=archive(FUNCTIONS[function], "1"))
        client.update_function_configuration(FunctionName=name, Environment={"Variables": variables})


def test_versions_that_work_get_requests(circle, smoke_test):
    circle.control("DELETE", "/calls")
    assert smoke_test() is None
    # A deployment must not need Circle: it may be the remedy. A start opens a connection, and goes on if it cannot.
    assert set(circle.control("GET", "/calls")) <= {"GET /ping"}


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_package_for_another_machine_gets_no_requests(service, smoke_test, publish, function):
    with zipfile.ZipFile(io.BytesIO(archive(FUNCTIONS[function], "1"))) as package:
        bootstrap = bytearray(package.read("bootstrap"))
        info = package.getinfo("bootstrap")
    bootstrap[ELF_MACHINE] = AARCH64
    other = io.BytesIO()
    with zipfile.ZipFile(other, "w") as package:
        package.writestr(info, bytes(bootstrap))
    version = publish(function, package=other.getvalue())
    error = smoke_test(function, version)
    assert f"{service.resource(f'{function}Function')}:{version} responded" in error and "Runtime." in error


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_version_without_a_setting_gets_no_requests(smoke_test, publish, function):
    setting = "EVENT_BUS_NAME" if function == "AnnounceChallenges" else "RATE_LIMITS_TABLE"
    assert "Runtime." in smoke_test(function, publish(function, **{setting: None}))


@pytest.mark.parametrize("function", ["GetChallenge", "ReconcileChallenges"])
def test_a_version_that_cannot_read_the_table_gets_no_requests(smoke_test, publish, function):
    reason = {"GetChallenge": "storage_unavailable", "ReconcileChallenges": "the table cannot be reached"}[function]
    assert reason in smoke_test(function, publish(function, CHALLENGES_TABLE="no-such-table"))
