"""Properties of the template whose absence no deployment would report."""

import json
import re

import pytest

from conftest import ROOT, alarms, references
from functions import CIRCLE, COMMON, FUNCTIONS, OWN_SECRETS, SECRET, TRACES, WEBHOOK_URL, listed, logical


def test_each_folder_of_a_function_is_deployed(template):
    folders = {path.parent.name for path in (ROOT / "functions").glob("*/Cargo.toml")}
    resources = [resource.get("Properties", {}) for resource in template["Resources"].values()]
    deployed = {properties["CodeUri"] for properties in resources if "CodeUri" in properties}
    assert deployed == {f"{name}.zip" for name in folders} == {f"{name}.zip" for name in FUNCTIONS}


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_function_is_configured(template, deployed, function):
    name = logical(function)
    properties = deployed[f"{name}Function"]["Properties"]
    secret = {"CIRCLE_API_KEY_SECRET_ID": OWN_SECRETS.get(function, SECRET)}
    circle = {} if function == "announce-challenges" else CIRCLE | secret
    assert properties["Environment"]["Variables"] == COMMON | TRACES | circle | FUNCTIONS[function][1]
    assert properties["Role"] == {"Fn::GetAtt": [f"{name}Role", "Arn"]}
    assert properties["Runtime"] == "provided.al2023" and properties["Handler"] == "bootstrap"
    assert properties["Architectures"] == ["arm64"]
    assert properties["LoggingConfig"] == {
        "LogFormat": "JSON",
        "ApplicationLogLevel": {"Ref": "LogLevel"},
        "LogGroup": {"Ref": f"{name}LogGroup"},
    }
    # Above the maximum of RequestTimeoutSeconds, and below the thirty seconds that API Gateway waits.
    timeouts = {"reconcile-challenges": 60, "announce-challenges": 30, "manage-subscription": 120}
    assert properties["Timeout"] == timeouts.get(function, 10)
    special = {"receive-webhook": "Webhook", "reconcile-challenges": "Reconcile"}
    # Lambda runs one announce-challenges for each shard of the stream.
    if function in ("announce-challenges", "manage-subscription"):
        assert "ReservedConcurrentExecutions" not in properties
    else:
        parameter = {"Ref": f"{special.get(function, name)}ReservedConcurrency"}
        condition, reserved, otherwise = properties["ReservedConcurrentExecutions"]["Fn::If"]
        assert (reserved, otherwise) == (parameter, {"Ref": "AWS::NoValue"})
        assert template["Conditions"][condition] == {"Fn::Not": [{"Fn::Equals": [parameter, "0"]}]}


def test_the_settings_are_those_of_the_code(template, facts):
    """The template and the documentation have the names, defaults and ranges of the code."""
    given = COMMON | CIRCLE
    for _, settings in FUNCTIONS.values():
        given = given | settings
    assert set(given) == {setting["name"] for setting in facts["settings"]}
    table = (ROOT / "docs/operations.md").read_text().split("## Settings")[1].split("\n## ")[0]
    documented = dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", table, re.MULTILINE))
    assert set(documented) == set(given) | {"AWS_LAMBDA_LOG_LEVEL"}
    for setting in facts["settings"]:
        if "default" not in setting:
            continue
        name, default = setting["name"], setting["default"]
        if name in COMMON:
            # The template has the stack's name in it.
            assert documented[name] == f"`{default}`"
            continue
        parameter = template["Parameters"][given[name]["Ref"]]
        assert parameter["Default"] == default, name
        if "range" in setting:
            minimum, maximum = setting["range"]["start"], setting["range"]["end"]
            assert parameter["ConstraintDescription"] == f"must be a whole number from {minimum} to {maximum}.", name
            assert documented[name] == f"`{default}`, from {minimum} to {maximum}"
        else:
            assert documented[name] in (f"`{default}`", "Circle's four documented addresses"), name


@pytest.mark.parametrize("resource,name", [("ChallengesTable", "challenges"), ("RateLimitsTable", "rate-limits")])
def test_a_table_is_that_of_the_local_dynamodb(template, facts, resource, name):
    [local] = [table for table in facts["tables"] if table["TableName"] == name]
    deployed = template["Resources"][resource]["Properties"]
    for member in ["AttributeDefinitions", "KeySchema", "GlobalSecondaryIndexes", "TimeToLiveSpecification"]:
        assert deployed.get(member) == local.get(member), member
    streams = [table.get("StreamSpecification", {}).get("StreamViewType") for table in (deployed, local)]
    assert streams[0] == streams[1]


def test_the_challenges_table(template):
    table = template["Resources"]["ChallengesTable"]
    assert table["DeletionPolicy"] == table["UpdateReplacePolicy"] == "Retain"
    properties = table["Properties"]
    assert "TableName" not in properties
    assert properties["BillingMode"] == "PAY_PER_REQUEST"
    assert properties["DeletionProtectionEnabled"] is True
    assert properties["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
    assert properties["SSESpecification"] == {"SSEEnabled": True}


def test_the_rate_limits_table(template):
    properties = template["Resources"]["RateLimitsTable"]["Properties"]
    assert properties["BillingMode"] == "PAY_PER_REQUEST"
    assert properties["SSESpecification"] == {"SSEEnabled": True}
    assert "TableName" not in properties


def test_the_authorizer(deployed):
    body = deployed["HttpApi"]["Properties"]["Body"]
    authorizer = body["components"]["securitySchemes"]["Jwt"]["x-amazon-apigateway-authorizer"]
    assert authorizer == {
        "type": "jwt",
        "identitySource": "$request.header.Authorization",
        "jwtConfiguration": {
            "issuer": {"Ref": "JwtIssuer"},
            "audience": {"Fn::Split": [",", {"Ref": "JwtAudience"}]},
        },
    }


def test_cors_is_off_or_for_the_given_origins(deployed):
    condition, cors, otherwise = deployed["HttpApi"]["Properties"]["Body"]["x-amazon-apigateway-cors"]["Fn::If"]
    assert (condition, otherwise) == ("AllowsOrigins", {"Ref": "AWS::NoValue"})
    # SAM inserts the value of the parameter, which is empty by default.
    assert cors.pop("allowOrigins")["Fn::Split"][0] == ","
    assert cors == {
        "allowHeaders": ["authorization", "content-type", "x-user-token", "idempotency-key"],
        "allowMethods": ["GET", "POST"],
        "exposeHeaders": ["retry-after", "location", "www-authenticate", "apigw-requestid"],
        "maxAge": 300,
    }


def test_cors_is_that_of_the_local_api(template, facts):
    cors = template["Resources"]["HttpApi"]["Properties"]["CorsConfiguration"]["Fn::If"][1]
    local = facts["cors"]
    for name in ["AllowHeaders", "AllowMethods", "ExposeHeaders"]:
        assert sorted(cors[name]) == sorted(local[name])
    assert cors["MaxAge"] == local["MaxAge"]


def test_throttling_and_access_logs(deployed):
    stage = deployed["HttpApiApiGatewayDefaultStage"]["Properties"]
    assert stage["DefaultRouteSettings"] == {
        "ThrottlingRateLimit": {"Ref": "RouteThrottleRate"},
        "ThrottlingBurstLimit": {"Ref": "RouteThrottleBurst"},
    }
    assert set(stage["RouteSettings"]) == {"POST /webhooks/circle", "HEAD /webhooks/circle"}
    # A lower limit for HEAD would let a stranger keep Circle from subscribing the route.
    for settings in stage["RouteSettings"].values():
        assert settings == {
            "ThrottlingRateLimit": {"Ref": "WebhookThrottleRate"},
            "ThrottlingBurstLimit": {"Ref": "WebhookThrottleBurst"},
        }
    line = stage["AccessLogSettings"]["Format"]
    logged = re.findall(r"\$context\.([\w.]+)", line)
    # What an auditor needs of each request, also of one that no function has seen.
    audited = {"requestId", "requestTime", "identity.sourceIp", "routeKey", "status", "error.responseType"}
    assert audited | {"authorizer.error", "integrationErrorMessage"} <= set(logged)
    # API Gateway writes a hyphen for a value that is missing.
    assert set(json.loads(re.sub(r"\$context\.[\w.]+", "-", line)).values()) == {"-"}
    # A quote in an error message would break the line.
    assert "error.message" not in logged
    # No header and no claim is logged. The path is not logged either, because it has the challenge's id.
    assert not any(re.search("header|claims|path|userAgent|query", name, re.IGNORECASE) for name in logged)


def test_default_throttles_are_those_of_the_local_api(template, facts):
    http_api = template["Resources"]["HttpApi"]["Properties"]

    def default(value):
        return int(template["Parameters"][value["Ref"]]["Default"]) if isinstance(value, dict) else value

    for throttle in facts["throttles"]:
        settings = http_api["RouteSettings"].get(throttle["routeKey"], http_api["DefaultRouteSettings"])
        found = [default(settings[f"Throttling{name}Limit"]) for name in ["Rate", "Burst"]]
        assert found == [throttle["rate"], throttle["burst"]], throttle["routeKey"]


def test_only_the_schedule_repeats_a_reconciliation_run(deployed):
    schedule = deployed["ReconcileChallengesFunctionEveryFiveMinutes"]["Properties"]
    assert schedule["ScheduleExpression"] == "rate(5 minutes)"
    assert schedule["Target"]["RetryPolicy"]["MaximumRetryAttempts"] == 0
    # Names of schedules are unique in an account. With a fixed name, a second stack could not be deployed.
    assert schedule["Name"] == {"Fn::Sub": "${AWS::StackName}-reconcile"}
    invocation = deployed["ReconcileChallengesFunctionEventInvokeConfig"]["Properties"]
    assert invocation["MaximumRetryAttempts"] == 0


def test_the_webhook_route_exists_before_its_subscription(template, deployed):
    subscription = template["Resources"]["CircleSubscription"]
    webhook = {name for name in deployed if re.fullmatch("ReceiveWebhookFunction.*Permission", name)}
    stage = {name for name, resource in deployed.items() if resource["Type"] == "AWS::ApiGatewayV2::Stage"}
    assert len(webhook) == 2 and len(stage) == 1
    # It also waits for the limits on retries of its own function.
    assert set(subscription["DependsOn"]) == webhook | stage | {"ManageSubscriptionFunctionEventInvokeConfig"}
    properties = subscription["Properties"]
    # The function rejects any other endpoint than that of its setting.
    assert properties["Endpoint"] == WEBHOOK_URL == template["Outputs"]["WebhookUrl"]["Value"]
    # These select the Circle account. CloudFormation invokes the function only if a property changes.
    for parameter in ["CircleEnvironment", "CircleBaseUrl", "SubscriptionRevision"]:
        assert properties[parameter] == {"Ref": parameter}
    assert properties["CircleApiKeySecretArn"] == OWN_SECRETS["manage-subscription"]
    # The last retry ends before CloudFormation's timeout.
    assert deployed["ManageSubscriptionFunctionEventInvokeConfig"]["Condition"] == "ManagesSubscription"
    retries = deployed["ManageSubscriptionFunctionEventInvokeConfig"]["Properties"]
    timeout = deployed["ManageSubscriptionFunction"]["Properties"]["Timeout"]
    # Lambda's first retry, a minute after a run that took all its time, is still young enough.
    assert timeout + 60 < retries["MaximumEventAgeInSeconds"]
    assert retries["MaximumEventAgeInSeconds"] + timeout < properties["ServiceTimeout"] == 420
    # The check of the API keys writes to the same log.
    always = "ManageSubscriptionLogGroup"
    for name, resource in template["Resources"].items():
        if name.startswith("ManageSubscription") and name != always or name == "CircleSubscription":
            assert resource["Condition"] == "ManagesSubscription", name


def test_the_subscription_is_checked_every_hour_once_it_exists(template):
    schedule = template["Resources"]["SubscriptionSchedule"]
    # Scheduler invokes the function at once. Before the subscription exists, it would ring the alarm.
    assert schedule["DependsOn"] == "CircleSubscription" and schedule["Condition"] == "ManagesSubscription"
    properties = schedule["Properties"]
    assert properties["Name"] == {"Fn::Sub": "${AWS::StackName}-webhook"}
    assert properties["ScheduleExpression"] == "rate(1 hour)" and properties["FlexibleTimeWindow"] == {"Mode": "OFF"}
    target = properties["Target"]
    assert target["Arn"] == {"Fn::GetAtt": ["ManageSubscriptionFunction", "Arn"]}
    assert json.loads(target["Input"]) == {"action": "check-subscription"}
    assert target["RetryPolicy"]["MaximumRetryAttempts"] == 0
    # The windows of the alarms are long enough for the checks that they count.
    for name in ["SubscriptionNotEnabledAlarm", "SubscriptionNotCheckedAlarm"]:
        alarm = alarms(template)[name]
        assert template["Resources"][name]["Condition"] == "ManagesSubscription"
        assert alarm["Period"] >= (alarm["Threshold"] + 1) * 3600


def needed_by(resource, resources):
    """The resources that CloudFormation creates before this one: those that it refers to, and so on."""
    found, unseen = set(), {resource}
    while unseen:
        one = resources[unseen.pop()]
        names = (references(one) | set(listed(one.get("DependsOn", [])))) & resources.keys()
        unseen |= names - found
        found |= names
    return found


def test_no_resource_needs_itself(deployed):
    for name in deployed:
        assert name not in needed_by(name, deployed), name


def test_the_api_keys_and_the_issuer_are_checked_before_anything_else_is_created(template, deployed):
    """A first deployment with a wrong key or issuer leaves nothing but the log that says so."""
    check = {"CheckApiKeysFunction", "CheckApiKeysRole", "ManageSubscriptionLogGroup"}
    assert needed_by("CircleApiKeyCheck", deployed) == check
    of_issuer = {"CheckJwtIssuerFunction", "CheckJwtIssuerRole", "ManageSubscriptionLogGroup"}
    assert needed_by("JwtIssuerCheck", deployed) == of_issuer
    kept = {name for name, one in deployed.items() if one.get("DeletionPolicy", "Delete") != "Delete"}
    assert "ChallengesTable" in kept
    tables = {name for name, one in deployed.items() if one["Type"] == "AWS::DynamoDB::Table"}
    # The functions with code in the template only help with deployments.
    functions = {
        name
        for name, one in deployed.items()
        if one["Type"] == "AWS::Lambda::Function" and "ZipFile" not in one["Properties"]["Code"]
    }
    for name in (kept | tables | functions) - check:
        assert {"CircleApiKeyCheck", "JwtIssuerCheck"} <= needed_by(name, deployed), name
    # So does the API itself, in which API Gateway would silently leave out routes.
    assert "JwtIssuerCheck" in needed_by("HttpApi", deployed)
    checks = {"CircleApiKeyCheck", "JwtIssuerCheck"}
    assert not any("Condition" in deployed[name] for name in check | of_issuer | checks)

    # CloudFormation invokes the function only if a property changes.
    properties = template["Resources"]["CircleApiKeyCheck"]["Properties"]
    assert properties.pop("ServiceToken") == {"Fn::GetAtt": ["CheckApiKeysFunction", "Arn"]}
    timeout = deployed["CheckApiKeysFunction"]["Properties"]["Timeout"]
    # Lambda's retries come one and two minutes after a failed run.
    assert timeout + 60 + timeout + 120 == properties.pop("ServiceTimeout") == 300
    secrets = ["CircleApiKeySecretArn", "WebhookApiKeySecretArn", "SubscriptionApiKeySecretArn"]
    others = ["ManageSubscription", "CircleEnvironment", "CircleBaseUrl", "CircleSourceIps"]
    assert properties == {name: {"Ref": name} for name in [*secrets, *others]}


def test_the_function_that_checks_the_api_keys_is_manage_subscription_without_an_api(template, deployed):
    resources = template["Resources"]
    [check, manage] = [resources[f"{name}Function"]["Properties"] for name in ["CheckApiKeys", "ManageSubscription"]]
    assert check["CodeUri"] == manage["CodeUri"]
    [check, manage] = [deployed[f"{name}Function"]["Properties"] for name in ["CheckApiKeys", "ManageSubscription"]]
    assert check["Environment"]["Variables"] == COMMON | TRACES | CIRCLE | {"CIRCLE_SOURCE_IPS": {"Ref": "CircleSourceIps"}}
    assert check["LoggingConfig"] == manage["LoggingConfig"]
    assert (check["Runtime"], check["Handler"]) == (manage["Runtime"], manage["Handler"])
    assert check["Role"] == {"Fn::GetAtt": ["CheckApiKeysRole", "Arn"]}


def test_the_log_of_the_subscription_outlives_a_failed_deployment(template):
    group = template["Resources"]["ManageSubscriptionLogGroup"]
    assert group["DeletionPolicy"] == group["UpdateReplacePolicy"] == "Retain"
    # With a fixed name, the next stack of the same name could not be deployed.
    assert "LogGroupName" not in group["Properties"]
    kept = {name for name, one in template["Resources"].items() if one.get("DeletionPolicy") == "Retain"}
    assert kept == {"ManageSubscriptionLogGroup", "ChallengesTable"}


def test_a_first_deployment_reserves_no_concurrency(template):
    """A new account does not have enough concurrency to reserve any."""
    reservations = [name for name in template["Parameters"] if name.endswith("ReservedConcurrency")]
    assert len(reservations) == 6
    assert all(template["Parameters"][name]["Default"] == "0" for name in reservations)


def test_queues(template):
    resources = template["Resources"]
    queues = {name for name, resource in resources.items() if resource["Type"] == "AWS::SQS::Queue"}
    assert queues == {"UnreadableRecordsQueue", "PinChangedQueue", "PinChangedDeadLetterQueue"}
    for name in queues:
        properties = resources[name]["Properties"]
        assert properties == {"MessageRetentionPeriod": 14 * 24 * 3600, "SqsManagedSseEnabled": True}
        policy = resources[f"{name}Policy"]["Properties"]
        assert policy["Queues"] == [{"Ref": name}]
        assert {
            "Sid": "RequireTls",
            "Effect": "Deny",
            "Principal": "*",
            "Action": "sqs:*",
            "Resource": {"Fn::GetAtt": [name, "Arn"]},
            "Condition": {"Bool": {"aws:SecureTransport": "false"}},
        } in policy["PolicyDocument"]["Statement"]
