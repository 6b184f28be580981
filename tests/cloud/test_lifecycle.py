"""A stack's life: deployed with a required scope beside another one, updated under load, deleted."""

import base64
import hashlib
import json
import threading
import uuid

import pytest
from botocore.exceptions import ClientError

from conftest import STACKS
from deployment import Stack, archive
from processes import HTTP, until
from test_flow import settled

# Letters, and punctuation that CloudFormation, SAM and OpenAPI could each misread.
SCOPE = "https://api.example.com/pin:reset"


@pytest.fixture(scope="module")
def stack(aws, parameters, service, request):
    stack = Stack(aws, "scoped", {**parameters, "RequiredScope": SCOPE})
    request.config.stash[STACKS].append(stack)
    return stack


@pytest.fixture
def scoped_user(new_user, issuer, stack):
    user = new_user(stack)
    user.token = issuer.token(user.id, scope=f"openid {SCOPE}")
    return user


@pytest.mark.parametrize("claims", [{}, {"scope": "openid"}, {"scope": SCOPE + "s"}, {"scp": ["pin:reset"]}])
@pytest.mark.parametrize("method,path", [("POST", "/session-tokens"), ("POST", "/challenges"), ("GET", "/pin")])
def test_without_the_scope_nobody_is_let_in(stack, new_user, issuer, method, path, claims):
    user = new_user(stack)
    answer = stack.call(method, path, issuer.token(user.id, **claims))
    assert (answer.status, answer.json()) == (403, {"message": "Forbidden"})


def test_with_the_scope_callers_are_let_in(scoped_user, issuer, stack):
    assert scoped_user.call("GET", "/pin").status == 200
    assert stack.call("GET", "/pin", issuer.token(scoped_user.id, scp=[SCOPE])).status == 200


def test_circle_needs_no_scope(stack):
    assert HTTP.request("HEAD", stack.webhook_url).status == 200


def test_the_deployment_has_subscribed_its_webhook(aws, circle, stack, service):
    for one in (stack, service):
        [subscription] = circle.subscriptions(one.webhook_url)
        assert subscription["id"] == one.resource("CircleSubscription")
        assert subscription["enabled"] is True
        [test] = [it for it in circle.deliveries(one.webhook_url) if it["notificationType"] == "webhooks.test"]
        assert (test["attempt"], test["status"]) == (1, 200)
        outputs = aws.client("cloudformation").describe_stacks(StackName=one.name)["Stacks"][0]["Outputs"]
        values = {output["OutputKey"]: output["OutputValue"] for output in outputs}
        assert values["CircleSubscriptionId"] == subscription["id"]


def test_an_update_loses_no_request(aws, stack, circle, scoped_user, issuer, new_user):
    function = stack.resource("CreateChallengeFunction")

    def deployed():
        return aws.client("lambda").get_function(FunctionName=function)["Configuration"]["CodeSha256"]

    def sha(release):
        return base64.b64encode(hashlib.sha256(archive("create-challenge", release)).digest()).decode()

    assert deployed() == sha("1")
    over = threading.Event()
    answers = []
    # Few enough users to stay below what each may do in an hour.
    users = [new_user(stack) for _ in range(6)]
    for user in users:
        user.token = issuer.token(user.id, scope=SCOPE)

    def request(user, method, path, **headers):
        answer = user.call(method, path, headers=headers)
        if answer.status == 502 and answer.json()["errorType"] == "Runtime.ExitError":
            # The emulator ends a function's processes in the middle of their requests. On AWS they finish them.
            answer = user.call(method, path, headers=headers)
        answers.append((path, answer.status, answer.data))
        return answer

    def call(mine):
        made = {}
        for round in range(60):
            if over.is_set() and round >= 6:
                return
            user = mine[round % len(mine)]
            if round < 10:
                created = request(user, "POST", "/challenges", **{"Idempotency-Key": str(uuid.uuid4())})
                made[user.id] = created.json().get("challengeId")
                # The user enters the PIN, so that webhooks come too.
                circle.control("POST", f"/challenges/{made[user.id]}/pin", {"correct": True})
            request(user, "GET", "/pin")
            request(user, "GET", f"/challenges/{made[user.id]}")
            request(user, "POST", "/session-tokens")

    threads = [threading.Thread(target=call, args=(users[i::2],)) for i in range(2)]
    for thread in threads:
        thread.start()
    until("requests are under way", lambda: len(answers) >= 4)
    try:
        stack.deploy("update", "2", "UPDATE_COMPLETE")
    finally:
        over.set()
        for thread in threads:
            thread.join(timeout=60)
    assert deployed() == sha("2")
    assert len(answers) >= 30
    assert [it for it in answers if it[1] not in (200, 201)] == []
    for user in users:
        for challenge in circle.challenges(user.id):
            assert settled(user, challenge["id"])["status"] == "COMPLETE"
    assert scoped_user.create_challenge()["status"] == "PENDING"
    [subscription] = circle.subscriptions(stack.webhook_url)
    assert subscription["id"] == stack.resource("CircleSubscription")


def test_changed_parameters_reach_the_functions(stack, scoped_user):
    stack.parameters["ChallengesPerHour"] = "1"
    stack.parameters["CircleSourceIps"] = "192.0.2.1, 2001:db8::1"
    stack.deploy("update", "2", "UPDATE_COMPLETE")
    assert scoped_user.create_challenge()["status"] == "PENDING"
    answer = scoped_user.call("POST", "/challenges")
    assert (answer.status, answer.json()["code"]) == (429, "too_many_challenges")
    answer = HTTP.request("POST", stack.webhook_url, body=b"{}")
    assert (answer.status, answer.json()["code"]) == (403, "source_not_allowed")


def test_another_account_gets_the_subscription(aws, circle, stack):
    before = stack.resource("CircleSubscription")
    # An account without the subscription, as another one is.
    circle.unsubscribe(before)
    secret = aws.client("secretsmanager").create_secret(Name="another-account", SecretString=circle.api_key)
    stack.parameters["CircleApiKeySecretArn"] = secret["ARN"]
    stack.deploy("update", "2", "UPDATE_COMPLETE")
    [subscription] = circle.subscriptions(stack.webhook_url)
    assert subscription["id"] == stack.resource("CircleSubscription") != before


def events(aws, log_group):
    """A function's own lines."""
    lines = [event["message"] for event in aws.client("logs").filter_log_events(logGroupName=log_group)["events"]]
    return [json.loads(line) for line in lines if line.startswith("{")]


def test_a_key_of_the_other_environment_fails_the_deployment(aws, circle, parameters):
    before = circle.subscriptions()
    stack = Stack(aws, "wrong-key", {**parameters, "CircleEnvironment": "LIVE"}, wanted="ROLLBACK_COMPLETE")
    # What CloudFormation shows to whoever deploys.
    [reason] = [reason for name, reason in stack.reasons() if name == "CircleSubscription"]
    assert "holds a TEST Circle API key, and CIRCLE_ENVIRONMENT asks for a LIVE one" in reason
    # The log that it points to is still there, and no other.
    [log] = aws.client("logs").describe_log_groups(logGroupNamePattern="wrong-key")["logGroups"]
    assert any("could not be subscribed" in line["message"] for line in events(aws, log["logGroupName"]))
    assert circle.subscriptions() == before


def test_a_deletion_removes_the_subscription_and_keeps_the_records(aws, circle, stack, scoped_user, service, request):
    challenge_id = scoped_user.create_challenge()["challengeId"]
    challenges, requests = stack.resource("ChallengesTable"), stack.resource("RateLimitsTable")
    log = stack.resource("ManageSubscriptionLogGroup")
    stack.delete()
    request.config.stash[STACKS].remove(stack)

    assert circle.subscriptions(stack.webhook_url) == []
    assert circle.subscriptions(service.webhook_url) != []
    item = aws.client("dynamodb").get_item(TableName=challenges, Key={"challengeId": {"S": challenge_id}})["Item"]
    assert item["userId"] == {"S": scoped_user.id}
    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        aws.client("dynamodb").describe_table(TableName=requests)
    # What the deletion itself did can be read after it.
    assert events(aws, log)[-1]["status"] == "Success"
    assert scoped_user.call("GET", "/pin").status in (403, 404)
