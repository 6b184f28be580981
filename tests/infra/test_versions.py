"""Versions of the functions: what publishes one, what tests it, and what reaches it."""

import hashlib
import io
import json
import urllib.request

import boto3
import pytest

from conftest import REQUIRED, expanded, references

# CloudFormation itself invokes these functions.
UNVERSIONED = {"CheckApiKeysFunction", "ManageSubscriptionFunction"}


@pytest.fixture(scope="module")
def versioned(template):
    """The functions that callers, the stream and the schedule invoke."""
    resources = template["Resources"].items()
    return {name for name, one in resources if one["Type"] == "AWS::Serverless::Function"} - UNVERSIONED


def of_type(deployed, kind):
    return {name: one for name, one in deployed.items() if one["Type"] == kind}


def test_each_function_that_gets_requests_has_an_alias(deployed, versioned):
    assert len(versioned) >= 6
    assert set(of_type(deployed, "AWS::Lambda::Alias")) == {f"{name}Aliaslive" for name in versioned}
    digest = {"Fn::GetAtt": ["Settings", "Digest"]}
    versions = of_type(deployed, "AWS::Lambda::Version").values()
    assert {one["Properties"]["FunctionName"]["Ref"] for one in versions} == versioned
    for version in versions:
        assert version["Properties"]["Description"] == digest
        # A version that outlived a failed update would fail the next one, if its code is the same.
        assert version["DeletionPolicy"] == "Delete"
    for name in versioned:
        # Lambda publishes no version of a function that is as it was.
        assert "Settings" in references(deployed[name]["Properties"]["Description"])
        alias = deployed[f"{name}Aliaslive"]
        assert alias["UpdatePolicy"] == {
            "CodeDeployLambdaAliasUpdate": {
                "ApplicationName": {"Ref": "ServerlessDeploymentApplication"},
                "DeploymentGroupName": {"Ref": f"{name}DeploymentGroup"},
                "BeforeAllowTrafficHook": {"Ref": "SmokeTestFunction"},
            }
        }
        group = deployed[f"{name}DeploymentGroup"]["Properties"]
        assert group["ServiceRoleArn"] == {"Fn::GetAtt": ["DeploymentRole", "Arn"]}


def test_everything_that_invokes_a_function_invokes_its_alias(deployed, versioned):
    kinds = ["ApiGatewayV2::Api", "Lambda::Permission", "Scheduler::Schedule", "Lambda::EventSourceMapping"]
    reached = set()
    for kind in kinds:
        for name, resource in of_type(deployed, f"AWS::{kind}").items():
            found = references(resource)
            assert not found & versioned, name
            reached |= {one for one in found if one.endswith("Aliaslive")}
    assert reached == {f"{name}Aliaslive" for name in versioned}
    # The limits of retries belong to the alias that the schedule invokes.
    assert deployed["ReconcileChallengesFunctionEventInvokeConfig"]["Properties"]["Qualifier"] == "live"


def test_a_changed_property_publishes_a_version(template, versioned):
    """SAM looks at the code and the environment only, unless it is told otherwise."""
    for name in versioned:
        assert template["Resources"][name]["Properties"]["AutoPublishAliasAllProperties"] is True, name


def test_a_changed_setting_publishes_a_version(versioned):
    """SAM does not look at the values of parameters. So everything that a version's settings use is in the digest."""
    document = expanded()
    resources, conditions = document["Resources"], document["Conditions"]
    digest = references(resources["Settings"]["Properties"]["Values"], conditions)
    # The code has a name of its own for each content, and so is seen by SAM. The ARN of a role and the name of a log
    # group do not change. A reservation belongs to the function, not to a version.
    ignored = {"Code", "Role", "Description", "ReservedConcurrentExecutions"}
    used = set()
    for name in versioned:
        properties = {key: value for key, value in resources[name]["Properties"].items() if key not in ignored}
        used |= {one for one in references(properties, conditions) if not one.endswith("LogGroup")}
    assert digest == used


def code(deployed, function):
    """The Python code of a function, executed."""
    module = {}
    exec(deployed[function]["Properties"]["Code"]["ZipFile"], module)
    return module


def test_the_digest_is_that_of_the_settings(deployed, monkeypatch):
    sent = []
    monkeypatch.setattr(urllib.request, "urlopen", lambda request, timeout: sent.append(request))
    handler = code(deployed, "SettingsDigestFunction")["handler"]
    event = {"ResponseURL": "https://example.com/?signed", "StackId": "s", "RequestId": "r", "LogicalResourceId": "l"}

    def digest(*values):
        handler({**event, "ResourceProperties": {"Values": list(values)}}, None)
        request = sent.pop()
        assert (request.full_url, request.method) == (event["ResponseURL"], "PUT")
        assert request.get_header("Content-type") == ""
        response = json.loads(request.data)
        data = response.pop("Data")
        assert response == {
            "Status": "SUCCESS",
            "PhysicalResourceId": "settings",
            "StackId": "s",
            "RequestId": "r",
            "LogicalResourceId": "l",
        }
        return data["Digest"]

    assert digest("8", "10") == digest("8", "10") == hashlib.sha256(b'{"Values": ["8", "10"]}').hexdigest()[:16]
    assert len({digest("8", "10"), digest("10", "8"), digest("81", "0"), digest("8", "10", "")}) == 4


class Throttled(Exception):
    pass


class Lambda:
    """Lambda, with the given responses in this order."""

    class exceptions:
        TooManyRequestsException = Throttled

    def __init__(self, *responses):
        self.responses, self.invoked = list(responses), []

    def invoke(self, FunctionName, Payload):
        self.invoked.append((FunctionName, json.loads(Payload)))
        response = self.responses.pop(0)
        if isinstance(response, Exception):
            raise response
        error = {"FunctionError": "Unhandled"} if "errorType" in response else {}
        return {"Payload": io.BytesIO(json.dumps(response).encode()), **error}


class CodeDeploy:
    def __init__(self):
        self.reported = []

    def put_lifecycle_event_hook_execution_status(self, **status):
        self.reported.append(status)


class Context:
    """An invocation with some time left, which passes with each look at the clock."""

    def __init__(self, left):
        self.left = left

    def get_remaining_time_in_millis(self):
        self.left -= 10_000
        return self.left


@pytest.fixture
def smoke_test(deployed, monkeypatch):
    monkeypatch.setenv("GET_CHALLENGE", "get-challenge:8")
    monkeypatch.setenv("OTHERS", "get-pin:8,reconcile:3")
    monkeypatch.setenv("USER_ID_CLAIM", "sub")

    def run(*responses, left=180_000):
        clients = {"lambda": Lambda(*responses), "codedeploy": CodeDeploy()}
        monkeypatch.setattr(boto3, "client", lambda service, **_: clients[service])
        module = code(deployed, "SmokeTestFunction")
        waits = []
        monkeypatch.setattr(module["time"], "sleep", waits.append)
        module["handler"]({"DeploymentId": "d", "LifecycleEventHookExecutionId": "e"}, Context(left))
        [report] = clients["codedeploy"].reported
        assert (report["deploymentId"], report["lifecycleEventHookExecutionId"]) == ("d", "e")
        return report["status"], clients["lambda"].invoked, waits

    return run


def test_the_smoke_test_knows_every_new_version(deployed, versioned):
    variables = deployed["SmokeTestFunction"]["Properties"]["Environment"]["Variables"]
    [separator, others] = variables["OTHERS"]["Fn::Join"]
    tested = [variables["GET_CHALLENGE"]["Ref"], *(one["Ref"] for one in others)]
    assert separator == ","
    assert sorted(tested) == sorted(of_type(deployed, "AWS::Lambda::Version"))
    assert deployed[tested[0]]["Properties"]["FunctionName"]["Ref"] == "GetChallengeFunction"


NOT_FOUND, UNAUTHENTICATED, RUN = {"statusCode": 404}, {"statusCode": 401}, {"due": 0, "stopped": None}


def test_the_smoke_test_invokes_the_new_versions(smoke_test):
    status, invoked, _ = smoke_test(NOT_FOUND, UNAUTHENTICATED, RUN)
    assert status == "Succeeded"
    [(_, read), (_, event), (_, other)] = invoked
    assert [version for version, _ in invoked] == ["get-challenge:8", "get-pin:8", "reconcile:3"]
    assert read["requestContext"]["authorizer"] == {"jwt": {"claims": {"sub": "smoke-test"}}}
    assert event == other and "authorizer" not in event["requestContext"]
    assert (event["Records"], event["dryRun"]) == ([], True)


FAILURES = [{"statusCode": 503}, {"errorType": "Runtime.ExitError"}, OSError("read timeout")]


@pytest.mark.parametrize("response", FAILURES)
def test_a_failure_of_a_new_version_is_reported(smoke_test, response):
    assert smoke_test(response)[0] == "Failed"
    assert smoke_test(NOT_FOUND, UNAUTHENTICATED, response)[0] == "Failed"


def test_the_smoke_test_waits_for_a_reservation_that_is_in_use(smoke_test):
    status, invoked, waits = smoke_test(NOT_FOUND, UNAUTHENTICATED, Throttled(), Throttled(), RUN)
    assert (status, len(invoked), waits) == ("Succeeded", 5, [5, 5])
    # It reports the failure before its own time ends.
    status, invoked, waits = smoke_test(*[Throttled()] * 20)
    assert status == "Failed" and 2 < len(waits) < 15


def test_the_smoke_test_can_wait_for_a_run_of_the_schedule(deployed):
    """With one reserved execution, its own run comes after that. It stops waiting 90 seconds before its own end."""
    names = ["ReconcileChallengesFunction", "SmokeTestFunction"]
    [run, smoke_test] = [deployed[name]["Properties"]["Timeout"] for name in names]
    assert smoke_test - 90 > run


def test_requests_move_at_once_or_gradually(template):
    parameter = template["Parameters"]["Deployment"]
    assert parameter["Default"] == "AllAtOnce"
    for value in parameter["AllowedValues"]:
        groups = of_type(expanded(Deployment=value)["Resources"], "AWS::CodeDeploy::DeploymentGroup")
        for group in groups.values():
            # SAM takes other values for the names of configurations of the account.
            name = {"Fn::Sub": ["CodeDeployDefault.Lambda${ConfigName}", {"ConfigName": value}]}
            assert group["Properties"]["DeploymentConfigName"] == name
            condition, watched, otherwise = group["Properties"]["AlarmConfiguration"]["Fn::If"]
            assert (condition, otherwise) == ("ShiftsGradually", {})
            alarms = {alarm["Name"]["Ref"] for alarm in watched["Alarms"]}
            assert alarms == {"FunctionErrorsAlarm", "InternalAlarm", "MisconfiguredAlarm"}


def holds(node, parameters, conditions):
    """The value of a condition."""
    if not isinstance(node, dict):
        return node
    [(key, value)] = node.items()
    if key == "Ref":
        return parameters[value]
    if key == "Condition":
        return holds(conditions[value], parameters, conditions)
    values = [holds(one, parameters, conditions) for one in value]
    return {
        "Fn::Equals": lambda: values[0] == values[1],
        "Fn::Not": lambda: not values[0],
        "Fn::And": lambda: all(values),
        "Fn::Or": lambda: any(values),
    }[key]()


NAME, CERTIFICATE = "pin.example.com", "arn:aws:acm:us-east-1:123456789012:certificate/a"


@pytest.mark.parametrize(
    ("given", "is_allowed", "uses_domain", "makes_record"),
    [
        ({}, True, False, False),
        # The operator's record does not exist yet, then it does.
        ({"DomainName": NAME, "CertificateArn": CERTIFICATE}, True, False, False),
        ({"DomainName": NAME, "CertificateArn": CERTIFICATE, "DomainHasRecord": "true"}, True, True, False),
        ({"DomainName": NAME, "CertificateArn": CERTIFICATE, "HostedZoneId": "Z1"}, True, True, True),
        ({"DomainName": NAME}, False, False, False),
        ({"DomainHasRecord": "true"}, False, False, False),
        ({"HostedZoneId": "Z1"}, False, False, False),
    ],
)
def test_a_domain_is_used_once_its_record_exists(template, given, is_allowed, uses_domain, makes_record):
    defaults = {name: one.get("Default", REQUIRED.get(name)) for name, one in template["Parameters"].items()}
    conditions, parameters = template["Conditions"], defaults | given
    allowed = [
        holds(assertion["Assert"], parameters, conditions)
        for rule in template["Rules"].values()
        if holds(rule["RuleCondition"], parameters, conditions)
        for assertion in rule["Assertions"]
    ]
    assert all(allowed) == is_allowed
    found = [holds({"Condition": name}, parameters, conditions) for name in ["UsesDomain", "MakesRecord", "HasDomain"]]
    assert found == [uses_domain, makes_record, "DomainName" in given]


def test_a_domain_leads_to_the_api_before_circle_is_told(template):
    resources, outputs = template["Resources"], template["Outputs"]
    assert [resources[name]["Condition"] for name in ["Domain", "DomainMapping"]] == ["HasDomain"] * 2
    record = resources["DomainRecord"]
    assert (record["Condition"], record["DependsOn"]) == ("MakesRecord", "DomainMapping")
    subscription = resources["CircleSubscription"]["Properties"]
    mapping = {"Fn::If": ["HasDomain", {"Ref": "DomainMapping"}, ""]}
    assert subscription["Domain"] == {"Fn::If": ["MakesRecord", {"Ref": "DomainRecord"}, mapping]}
    condition, domain, _ = outputs["ApiUrl"]["Value"]["Fn::If"]
    assert (condition, domain) == ("UsesDomain", {"Fn::Sub": "https://${DomainName}"})
