"""tests/aws/run, against a sound stack: with the permissions of its policy, with none, and for users who are stopped."""

import json

import pytest

from deployment import source
from processes import until
from proof.alarms import failed_actions, notifying, unconfirmed_protocols
from proof.deployment import file_name
from proof.listener import queue_policy
from proof_run import ROOT_USER, SCOPE, Proof, deploy, leftovers, policy_of, prove, user_with

FUNCTIONS = [
    f"function {file_name(name)}"
    for name, resource in source()["Resources"].items()
    if resource["Type"] in ("AWS::Serverless::Function", "AWS::Lambda::Function")
]
API = [
    "routes",
    "issuer and audience",
    "no token: 401",
    "invalid token: 401",
    "token without the scope: 403",
    "unknown route: 404",
    "CORS",
    "throttles",
    "HEAD of the webhook route",
    "forged webhook",
]
CALLERS = ["session", "state of the PIN", "challenge", "status of the challenge", "list of challenges"]
BACKGROUND = [
    "stream of the table",
    "schedules",
    "run of reconciliation",
    "webhook received",
    "subscription at Circle",
    "leftovers of earlier runs",
    "events of a synthetic challenge",
]
ALARMS = ["actions of the alarms", "states of the alarms", "recipients of the alarms"]
LOGS = ["retention of the logs", "no token in the logs"]


@pytest.fixture(scope="module")
def topic(aws):
    """A topic with a confirmed subscription: a queue that receives what the alarms say."""
    topic = aws.client("sns").create_topic(Name="alarms")["TopicArn"]
    queue_arn = topic.replace(":sns:", ":sqs:")
    policy = queue_policy(queue_arn, "sns", topic)
    aws.client("sqs").create_queue(QueueName="alarms", Attributes={"Policy": policy})
    aws.client("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue_arn)
    return topic


@pytest.fixture(scope="module")
def proved(aws, circle, parameters, topic, request):
    return deploy(aws, "proved", parameters, topic, request)


@pytest.fixture(scope="module")
def prover(aws, proved):
    """Somebody with the permissions of the policy, and no others."""
    return user_with(aws, "prover", policy_of(proved))


@pytest.fixture
def scoped_user(new_user, proved):
    return new_user(proved, scope=f"openid {SCOPE}")


def records_of(aws, stack, user_id):
    items = aws.client("dynamodb").scan(TableName=stack.resource("ChallengesTable"))["Items"]
    return [item for item in items if item.get("userId") == {"S": user_id}]


def test_a_sound_deployment_passes_with_the_permissions_of_the_policy(
    aws, circle, proved, prover, scoped_user, issuer, tmp_path
):
    # What an earlier run left behind when it was killed.
    bus = proved.resource("EventBus")
    aws.client("events").put_rule(
        Name="proof-record-1000", EventBusName=bus, EventPattern=json.dumps({"source": ["circle-pin-reset"]})
    )
    aws.client("sqs").create_queue(QueueName="proved-proof-record-1000")

    wrong_scope_token = tmp_path / "wrong-scope-token"
    wrong_scope_token.write_text(issuer.token(scoped_user.id, scope="openid") + "\n")
    proof = Proof(
        proved,
        prover,
        "--interactive",
        "--wrong-scope-token-file",
        wrong_scope_token,
        TOKEN=scoped_user.token,
    )

    # The person: completes a challenge of the app once the program waits for that.
    def listens():
        assert proof.process.poll() is None, proof.finish().output
        return any("person" in name for name in leftovers(aws, proved))

    until("the program waits for a person", listens, patience=60)
    in_app = scoped_user.create_challenge()["challengeId"]
    circle.control("POST", f"/challenges/{in_app}/pin", {"correct": True})
    proof.finish()

    wanted = ["stack", *FUNCTIONS, *API, *CALLERS, *BACKGROUND, *ALARMS, *LOGS]
    wanted += ["removal of proof-record", "removal of proof-person"]
    wanted += ["PIN change by a person", *(f"{part} of the PIN change" for part in ("record", "webhook", "event"))]
    assert proof.results == dict.fromkeys(wanted, "passed"), proof.output
    assert proof.exit_code == 0
    assert proof.details["PIN change by a person"].startswith(in_app)
    assert proof.details["record of the PIN change"] == "COMPLETE, settledBy webhook"
    assert proof.details["leftovers of earlier runs"] == "removed proof-record-1000"
    sessions = [scoped_user.token, wrong_scope_token.read_text().strip(), circle.api_key]
    assert not any(secret in proof.output + proof.progress for secret in sessions)
    assert "eyJ" not in proof.output + proof.progress

    assert leftovers(aws, proved) == []
    assert records_of(aws, proved, "synthetic-check") == []
    # The example consumer was told of the person's PIN, and of nothing synthetic.
    queue = proved.resource("PinChangedQueue")
    messages = aws.client("sqs").receive_message(QueueUrl=queue, MaxNumberOfMessages=10, WaitTimeSeconds=5)["Messages"]
    assert [json.loads(message["Body"])["challengeId"] for message in messages] == [in_app]


def test_without_permissions_and_tokens_the_table_says_what_each_check_needs(aws, proved):
    reads = {"Effect": "Allow", "Action": "cloudformation:*", "Resource": "*"}
    credentials = user_with(aws, "stranger", json.dumps({"Version": "2012-10-17", "Statement": [reads]}))
    proof = prove(proved, credentials)
    assert proof.exit_code == 3, proof.output
    passed = {name for name, result in proof.results.items() if result == "passed"}
    assert passed == {"stack", *API} - {
        "routes",
        "issuer and audience",
        "throttles",
        "token without the scope: 403",
    }
    needs = {name: proof.details[name] for name in proof.results if name not in passed}
    assert {proof.results[name] for name in needs} == {"could not be checked"}
    # The emulator takes the reading of one alias or mapping for a list of all.
    assert {needs.pop(name) for name in FUNCTIONS} == {"needs lambda:ListAliases", "needs lambda:GetFunction"}
    assert needs == {
        **dict.fromkeys(["routes", "issuer and audience", "throttles"], "needs apigateway:GET"),
        "token without the scope: 403": "needs --wrong-scope-token-file with a valid token without RequiredScope",
        "session": "needs the token of a test user who has a PIN: the variable TOKEN, or --token-file",
        "stream of the table": "needs lambda:ListEventSourceMappings",
        "schedules": "needs scheduler:GetSchedule",
        "run of reconciliation": "needs logs:FilterLogEvents",
        "webhook received": "needs logs:FilterLogEvents",
        "subscription at Circle": "needs lambda:InvokeFunction",
        "leftovers of earlier runs": "needs events:ListRules",
        "events of a synthetic challenge": "needs events:PutRule",
        **dict.fromkeys(ALARMS, "needs cloudwatch:DescribeAlarms"),
        "retention of the logs": "needs logs:DescribeLogGroups",
        "no token in the logs": "needs logs:FilterLogEvents",
    }


def test_another_stack_is_a_usage_error(aws, proved):
    class Other:
        name, url, aws = "another", proved.url, proved.aws

    proof = prove(Other, ROOT_USER)
    assert (proof.exit_code, proof.output) == (2, "")
    assert "another cannot be read" in proof.progress

    body = json.dumps({"Resources": {"Topic": {"Type": "AWS::SNS::Topic"}}})
    aws.client("cloudformation").create_stack(StackName=Other.name, TemplateBody=body)
    proof = prove(Other, ROOT_USER)
    assert (proof.exit_code, proof.output) == (2, "")
    assert "has no output ApiUrl" in proof.progress


def test_a_token_that_cannot_be_sent_is_not_printed(proved):
    proof = prove(proved, ROOT_USER, TOKEN="first-line\nsecond-line")
    assert proof.results["session"] == "could not be checked"
    assert "-line" not in proof.output + proof.progress


def test_a_terminated_run_removes_what_it_has_made(aws, proved, scoped_user):
    proof = Proof(proved, ROOT_USER, "--interactive", TOKEN=scoped_user.token)
    until("the program waits for a person", lambda: any("person" in one for one in leftovers(aws, proved)), patience=60)
    proof.process.terminate()
    assert proof.finish().exit_code == 143
    assert leftovers(aws, proved) == []


def test_each_call_of_a_user_can_fail(aws, circle, proved, scoped_user):
    """Circle rejects the questions about the user and the challenge, and the list cannot be read."""
    for path in (f"/v1/w3s/users/{scoped_user.id}", "/v1/w3s/user/challenges/"):
        circle.control("POST", "/faults", {"method": "GET", "path": path, "status": 500, "times": 100})
    iam, role = aws.client("iam"), proved.resource("GetChallengeRole")
    deny = {"Effect": "Deny", "Action": "dynamodb:Query", "Resource": "*"}
    iam.put_role_policy(
        RoleName=role, PolicyName="deny", PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [deny]})
    )
    try:
        proof = prove(proved, ROOT_USER, TOKEN=scoped_user.token)
    finally:
        iam.delete_role_policy(RoleName=role, PolicyName="deny")
    found = {name: (proof.results[name], proof.details[name]) for name in CALLERS}
    assert found["session"][0] == found["challenge"][0] == "passed"
    failed = ("state of the PIN", "status of the challenge", "list of challenges")
    assert {name: found[name][0] for name in failed} == dict.fromkeys(failed, "failed"), found


def test_a_locked_pin_fails_the_challenge(circle, proved, scoped_user):
    challenge_id = scoped_user.create_challenge()["challengeId"]
    for _ in range(3):
        circle.control("POST", f"/challenges/{challenge_id}/pin", {"pin": "000000"})
    proof = prove(proved, ROOT_USER, TOKEN=scoped_user.token)
    assert {name: proof.results[name] for name in CALLERS if name in proof.results} == {
        "session": "passed",
        "state of the PIN": "passed",
        "challenge": "failed",
    }
    assert "PIN LOCKED" in proof.details["state of the PIN"]
    assert proof.details["challenge"].startswith("POST /challenges: 423 pin_locked")


def test_alarms_and_bursts_work_as_far_as_the_emulator_has_them(aws, proved, prover):
    """The emulator notifies the topic, but it has no history of that, and no throttles."""
    queue = aws.client("sqs").get_queue_url(QueueName="alarms")["QueueUrl"]
    aws.client("sqs").purge_queue(QueueUrl=queue)
    proof = prove(proved, prover, "--alarms", "--burst", "--patience", "2")
    assert proof.details["throttle in effect"].startswith("no 429 after 1000 requests")
    assert proof.details["test of each alarm"].startswith("CloudWatch recorded no action of ")
    resources = aws.client("cloudformation").get_paginator("list_stack_resources").paginate(StackName=proved.name)
    states = {
        resource["PhysicalResourceId"]: []
        for page in resources
        for resource in page["StackResourceSummaries"]
        if resource["ResourceType"] == "AWS::CloudWatch::Alarm"
    }

    def received():
        messages = aws.client("sqs").receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages", [])
        for message in messages:
            alarm = json.loads(json.loads(message["Body"])["Message"])
            states[alarm["AlarmName"]].append(alarm["NewStateValue"])
            aws.client("sqs").delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
        return all("ALARM" in one for one in states.values())

    until("each alarm has notified the topic", received)
    alarms = aws.client("cloudwatch").describe_alarms(AlarmNames=list(states))["MetricAlarms"]
    assert {alarm["StateValue"] for alarm in alarms} == {"OK"}


def test_a_failed_action_is_found_in_the_history():
    # As AWS documents and shows them.
    topic = "arn:aws:sns:us-east-1:123456789012:alarms"
    succeeded = {
        "HistorySummary": f"Successfully executed action {topic}",
        "HistoryData": json.dumps({"actionState": "Succeeded", "notificationResource": topic}),
    }
    failed = {
        "HistorySummary": f"Failed to execute action {topic}. Received error: CloudWatch Alarms does not have"
        " authorization to access the SNS topic encryption key.",
        "HistoryData": json.dumps({"actionState": "Failed", "notificationResource": topic}),
    }
    assert failed_actions([succeeded, failed, succeeded]) == [failed["HistorySummary"]]


def test_the_windows_of_a_composite_alarm_need_no_action():
    day, hours, other = ({"AlarmName": f"stack-{name}-1A2B"} for name in ["Day", "TwoHours", "Other"])
    rule = 'ALARM("stack-Day-1A2B") AND ALARM("stack-TwoHours-1A2B")'
    composite = {"AlarmName": "stack-Burn-1A2B", "AlarmRule": rule}
    assert notifying([day, composite, hours, other]) == [composite, other]


def test_an_unconfirmed_address_is_found():
    confirmed = {"Protocol": "sqs", "SubscriptionArn": "arn:aws:sns:us-east-1:123456789012:alarms:5be8f9e2"}
    pending = {"Protocol": "email", "SubscriptionArn": "PendingConfirmation"}
    assert unconfirmed_protocols([confirmed, pending]) == ["email"]
