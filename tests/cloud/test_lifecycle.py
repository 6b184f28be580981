"""A stack with a scope, several API keys and a domain, beside another one: created, updated under load, deleted."""

import base64
import hashlib
import json
import threading
import uuid

import pytest
from botocore.exceptions import ClientError

from conftest import STACKS
from deployment import Stack, archive, invoke
from processes import HTTP, until
from test_flow import settled

# CloudFormation, SAM or OpenAPI could each misread the punctuation.
SCOPE = "https://api.example.com/pin:reset"
DOMAIN = "pin.example.com"


@pytest.fixture(scope="module")
def stack(aws, circle, parameters, service, request):
    keys = {
        f"{purpose}ApiKeySecretArn": aws.client("secretsmanager").create_secret(
            Name=f"{purpose}-api-key", SecretString=circle.api_key
        )["ARN"]
        for purpose in ["Webhook", "Subscription"]
    }
    domain = {
        "DomainName": DOMAIN,
        "CertificateArn": aws.client("acm").request_certificate(DomainName=DOMAIN)["CertificateArn"],
        "HostedZoneId": hosted_zone(aws),
    }
    stack = Stack(aws, "scoped", {**parameters, **keys, **domain, "RequiredScope": SCOPE})
    request.config.stash[STACKS].append(stack)
    return stack


def hosted_zone(aws):
    zone = aws.client("route53").create_hosted_zone(Name="example.com", CallerReference="tests")["HostedZone"]
    return zone["Id"].rpartition("/")[2]


@pytest.fixture
def scoped_user(new_user, stack):
    return new_user(stack, scope=f"openid {SCOPE}")


@pytest.mark.parametrize("claims", [{}, {"scope": "openid"}, {"scope": SCOPE + "s"}, {"scp": ["pin:reset"]}])
@pytest.mark.parametrize("method,path", [("POST", "/session-tokens"), ("POST", "/challenges"), ("GET", "/pin")])
def test_a_token_without_the_scope_is_rejected(stack, new_user, method, path, claims):
    response = new_user(stack, **claims).call(method, path)
    assert (response.status, response.json()) == (403, {"message": "Forbidden"})


def test_a_token_with_the_scope_is_accepted(scoped_user, issuer, stack):
    assert scoped_user.call("GET", "/pin").status == 200
    assert stack.call("GET", "/pin", issuer.token(scoped_user.id, scp=[SCOPE])).status == 200


def test_circle_needs_no_scope(stack):
    assert HTTP.request("HEAD", stack.webhook_url).status == 200


def test_the_deployment_has_subscribed_its_webhook_route(aws, circle, stack, service):
    for one in (stack, service):
        [subscription] = circle.subscriptions(one.webhook_url)
        assert subscription["id"] == one.resource("CircleSubscription")
        assert subscription["enabled"] is True

        def tests(endpoint=one.webhook_url):
            return [sent for sent in circle.deliveries(endpoint) if sent["notificationType"] == "webhooks.test"]

        [test] = until("the test webhook was delivered", tests)
        assert (test["attempt"], test["status"]) == (1, 200)
        assert outputs(aws, one)["CircleSubscriptionId"] == subscription["id"]


def outputs(aws, stack):
    outputs = aws.client("cloudformation").describe_stacks(StackName=stack.name)["Stacks"][0]["Outputs"]
    return {output["OutputKey"]: output["OutputValue"] for output in outputs}


def test_a_domain_leads_to_the_api(aws, stack, service):
    """The emulator serves no domain, so Circle calls the stack by another name."""
    values = outputs(aws, stack)
    assert values["ApiUrl"] == f"https://{DOMAIN}"
    assert values["WebhookUrl"] == f"https://{DOMAIN}/webhooks/circle"
    [mapping] = aws.client("apigatewayv2").get_api_mappings(DomainName=DOMAIN)["Items"]
    assert (mapping["ApiId"], mapping["Stage"]) == (stack.resource("HttpApi"), "$default")
    zone = stack.parameters["HostedZoneId"]
    records = aws.client("route53").list_resource_record_sets(HostedZoneId=zone)["ResourceRecordSets"]
    [target] = [one["AliasTarget"]["DNSName"] for one in records if one["Type"] == "A"]
    assert target.rstrip(".") == values["DomainTarget"]
    # The other stack has none.
    assert not {"DomainTarget"} & set(outputs(aws, service))
    assert "execute-api" in outputs(aws, service)["ApiUrl"]


def test_a_function_can_read_only_the_secret_of_its_own_key(aws, stack):
    iam = aws.client("iam")
    secrets = {
        "CreateToken": "CircleApiKeySecretArn",
        "ReceiveWebhook": "WebhookApiKeySecretArn",
        "ManageSubscription": "SubscriptionApiKeySecretArn",
    }
    for function, own in secrets.items():
        role = iam.get_role(RoleName=stack.resource(f"{function}Role"))["Role"]["Arn"]
        for parameter in secrets.values():
            [result] = iam.simulate_principal_policy(
                PolicySourceArn=role,
                ActionNames=["secretsmanager:GetSecretValue"],
                ResourceArns=[stack.parameters[parameter]],
            )["EvaluationResults"]
            assert (result["EvalDecision"] == "allowed") == (parameter == own), (function, parameter)


def test_an_update_loses_no_request(aws, stack, circle, scoped_user, new_user):
    function = stack.resource("CreateChallengeFunction")

    def deployed():
        return aws.client("lambda").get_function(FunctionName=function)["Configuration"]["CodeSha256"]

    def sha(release):
        return base64.b64encode(hashlib.sha256(archive("create-challenge", release)).digest()).decode()

    assert deployed() == sha("1")
    over = threading.Event()
    responses = []
    # Enough users that none of them exceeds a rate limit.
    users = [new_user(stack, scope=SCOPE) for _ in range(20)]

    def request(user, method, path, **headers):
        response = user.call(method, path, headers=headers)
        if response.status == 502 and response.json()["errorType"] == "Runtime.ExitError":
            # The emulator ends processes of a function in the middle of a request. On AWS they finish it.
            response = user.call(method, path, headers=headers)
        responses.append((path, response.status, response.data))
        return response

    def call(mine):
        challenges = {}
        for round in range(60):
            if over.is_set() and round >= 6:
                return
            user = mine[round % len(mine)]
            if round < 10:
                created = request(user, "POST", "/challenges", **{"Idempotency-Key": str(uuid.uuid4())})
                challenges[user.id] = created.json().get("challengeId")
                # The user enters the PIN, so that Circle sends webhooks too.
                circle.control("POST", f"/challenges/{challenges[user.id]}/pin", {"correct": True})
            request(user, "GET", "/pin")
            request(user, "GET", f"/challenges/{challenges[user.id]}")
            request(user, "POST", "/session-tokens")

    threads = [threading.Thread(target=call, args=(users[i::2],)) for i in range(2)]
    for thread in threads:
        thread.start()
    until("requests are under way", lambda: len(responses) >= 4)
    try:
        stack.deploy("update", "2", "UPDATE_COMPLETE")
    finally:
        over.set()
        for thread in threads:
            thread.join(timeout=60)
    assert deployed() == sha("2")
    assert len(responses) >= 30
    assert [one for one in responses if one[1] not in (200, 201)] == []
    for user in users:
        # A user who had no turn has no challenges.
        for challenge in circle.challenges(user.id):
            assert settled(user, challenge["id"])["status"] == "COMPLETE"
    assert scoped_user.create_challenge()["status"] == "PENDING"
    [subscription] = circle.subscriptions(stack.webhook_url)
    assert subscription["id"] == stack.resource("CircleSubscription")


def test_changed_parameters_reach_the_functions(stack, scoped_user):
    stack.parameters["ChallengesPerHour"] = "1"
    stack.parameters |= {"CallBurst": "5", "CallIntervalSeconds": "60"}
    stack.parameters["CircleSourceIps"] = "192.0.2.1, 2001:db8::1"
    stack.deploy("update", "2", "UPDATE_COMPLETE")
    assert scoped_user.create_challenge()["status"] == "PENDING"
    response = scoped_user.call("POST", "/challenges")
    assert (response.status, response.json()["code"]) == (429, "too_many_challenges")
    for status in (200, 200, 200, 429):
        response = scoped_user.call("GET", "/pin")
        assert response.status == status, response.data
    assert (response.json()["code"], response.headers["retry-after"]) == ("too_many_requests", "60")
    response = HTTP.request("POST", stack.webhook_url, body=b"{}")
    assert (response.status, response.json()["code"]) == (403, "source_not_allowed")


def test_a_disabled_subscription_is_noticed_by_the_schedule_and_repaired_by_an_update(aws, circle, stack, start_now):
    subscription = stack.resource("CircleSubscription")
    schedule = aws.client("scheduler").get_schedule(Name=f"{stack.name}-webhook")
    assert (schedule["State"], schedule["ScheduleExpression"]) == ("ENABLED", "rate(1 hour)")

    def not_enabled():
        lines = events(aws, stack.resource("ManageSubscriptionLogGroup"))
        return [line["state"] for line in lines if line.get("metric") == "subscription_not_enabled"]

    def check():
        return invoke(aws, schedule["Target"]["Arn"], json.loads(schedule["Target"]["Input"]))

    assert check() == {"subscription": "enabled"} and not_enabled() == []
    response = circle.notifications("PATCH", f"/{subscription}", {"name": "disabled", "enabled": False})
    assert response.status == 200, response.data
    start_now(schedule)
    until("the check has counted the subscription", not_enabled, patience=60)
    assert not_enabled() == ["Disabled"]

    stack.parameters["SubscriptionRevision"] = "2"
    stack.deploy("update", "2", "UPDATE_COMPLETE")
    assert stack.resource("CircleSubscription") == subscription
    assert check() == {"subscription": "enabled"}


def test_the_subscription_moves_to_another_circle_account(aws, circle, stack):
    before = stack.resource("CircleSubscription")
    # The simulator has one account. Without the subscription it looks like another one.
    circle.unsubscribe(before)
    secret = aws.client("secretsmanager").create_secret(Name="another-account", SecretString=circle.api_key)
    stack.parameters["SubscriptionApiKeySecretArn"] = secret["ARN"]
    stack.deploy("update", "2", "UPDATE_COMPLETE")
    [subscription] = circle.subscriptions(stack.webhook_url)
    assert subscription["id"] == stack.resource("CircleSubscription") != before
    # The new key cannot delete the old subscription.
    lines = events(aws, stack.resource("ManageSubscriptionLogGroup"))
    assert [line["subscription_id"] for line in lines if line.get("metric") == "subscription_left_behind"] == [before]


def events(aws, log_group):
    """The lines that a function has logged, without Lambda's own."""
    lines = [event["message"] for event in aws.client("logs").filter_log_events(logGroupName=log_group)["events"]]
    return [json.loads(line) for line in lines if line.startswith("{")]


def buckets(aws):
    return [bucket["Name"] for bucket in aws.client("s3").list_buckets()["Buckets"]]


def test_the_functions_that_know_users_share_one_generated_key(aws, stack):
    secret = aws.client("secretsmanager").get_secret_value(SecretId=outputs(aws, stack)["UserHashKeyArn"])
    assert secret["Name"].startswith(f"{stack.name}/user-hash-key-") and len(secret["SecretString"]) == 64
    functions = ["CreateToken", "CreateChallenge", "GetChallenge", "GetPin", "ReconcileChallenges"]
    for function in [*functions, "ReceiveWebhook", "AnnounceChallenges", "ManageSubscription"]:
        name = stack.resource(f"{function}Function")
        variables = aws.client("lambda").get_function_configuration(FunctionName=name)["Environment"]["Variables"]
        assert variables.get("USER_HASH_KEY") == (secret["SecretString"] if function in functions else None), function
        assert variables["METRICS_NAMESPACE"] == f"circle-pin-reset/{stack.name}"


def test_a_deletion_removes_the_subscription_and_keeps_the_records(aws, circle, stack, scoped_user, service, request):
    challenge_id = scoped_user.create_challenge()["challengeId"]
    challenges, rate_limits = stack.resource("ChallengesTable"), stack.resource("RateLimitsTable")
    log, bucket = stack.resource("ManageSubscriptionLogGroup"), stack.resource("FailedRecordsBucket")
    audited, key = (outputs(aws, stack)[name] for name in ["AuditLogGroups", "UserHashKeyArn"])
    stack.delete()
    request.config.stash[STACKS].remove(stack)

    assert circle.subscriptions(stack.webhook_url) == []
    assert circle.subscriptions(service.webhook_url) != []
    item = aws.client("dynamodb").get_item(TableName=challenges, Key={"challengeId": {"S": challenge_id}})["Item"]
    assert item["userId"] == {"S": scoped_user.id}
    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        aws.client("dynamodb").describe_table(TableName=rate_limits)
    assert bucket in buckets(aws)
    # The log of the deletion outlives the stack, and so do the logs of an auditor.
    assert events(aws, log)[-1]["status"] == "Success"
    of_tokens, of_challenges, of_requests = audited.split()
    assert events(aws, of_tokens) and events(aws, of_challenges)
    groups = aws.client("logs").describe_log_groups(logGroupNamePrefix=of_requests)["logGroups"]
    assert [group["retentionInDays"] for group in groups] == [400]
    assert aws.client("secretsmanager").get_secret_value(SecretId=key)["SecretString"]
    assert scoped_user.call("GET", "/pin").status in (403, 404)
