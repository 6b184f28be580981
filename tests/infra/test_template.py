"""What a deployment would not notice if it were missing, asserted on the template itself."""

import re

import pytest

from conftest import REQUIRED, ROOT

SECRET = {"Ref": "CircleApiKeySecretArn"}
TABLE = {"Fn::GetAtt": ["ChallengesTable", "Arn"]}
REQUESTS = {"Fn::GetAtt": ["ChallengeRequestsTable", "Arn"]}
INDEX = {"Fn::Sub": "${ChallengesTable.Arn}/index/pending-challenges"}

CIRCLE = {
    "CIRCLE_API_KEY_SECRET_ID": SECRET,
    "CIRCLE_BASE_URL": {"Ref": "CircleBaseUrl"},
    "CIRCLE_ENVIRONMENT": {"Ref": "CircleEnvironment"},
}
CLAIM = {"USER_ID_CLAIM": {"Ref": "UserIdClaim"}}
CHALLENGES = {"CHALLENGES_TABLE": {"Ref": "ChallengesTable"}}
CHALLENGE_REQUESTS = {"CHALLENGE_REQUESTS_TABLE": {"Ref": "ChallengeRequestsTable"}}

# Of each function: what it may do beside reading the API key and writing its log, and its settings beside Circle's.
FUNCTIONS = {
    "create-token": ([], CLAIM),
    "create-challenge": (
        [("dynamodb:UpdateItem", TABLE), ("dynamodb:UpdateItem", REQUESTS)],
        CLAIM
        | CHALLENGES
        | CHALLENGE_REQUESTS
        | {
            "CHALLENGES_PER_HOUR": {"Ref": "ChallengesPerHour"},
            "CHALLENGE_RETENTION_DAYS": {"Ref": "ChallengeRetentionDays"},
        },
    ),
    "get-challenge": ([("dynamodb:GetItem", TABLE), ("dynamodb:UpdateItem", TABLE)], CLAIM | CHALLENGES),
    "get-pin": ([], CLAIM),
    "receive-webhook": (
        [("dynamodb:UpdateItem", TABLE)],
        CHALLENGES | {"CIRCLE_SOURCE_IPS": {"Ref": "CircleSourceIps"}},
    ),
    "reconcile-challenges": (
        [
            ("dynamodb:Query", INDEX),
            ("dynamodb:UpdateItem", TABLE),
            ("dynamodb:GetItem", REQUESTS),
        ],
        CHALLENGES
        | CHALLENGE_REQUESTS
        | {
            "CIRCLE_CALLS_PER_RUN": {"Ref": "CircleCallsPerRun"},
            "GIVE_UP_AFTER_DAYS": {"Ref": "GiveUpAfterDays"},
        },
    ),
    "manage-subscription": ([], {}),
}


def logical(function):
    return "".join(word.capitalize() for word in function.split("-"))


def listed(value):
    return value if isinstance(value, list) else [value]


def allowed(policy):
    """{(action, resource)} of a policy document, as pairs that can be compared."""
    pairs = []
    for statement in policy["Statement"]:
        assert statement["Effect"] == "Allow" and set(statement) <= {"Sid", "Effect", "Action", "Resource", "Condition"}
        pairs += [(action, what) for action in listed(statement["Action"]) for what in listed(statement["Resource"])]
    return sorted(pairs, key=repr)


def test_each_folder_of_a_function_is_deployed(template):
    folders = {path.parent.name for path in (ROOT / "functions").glob("*/Cargo.toml")}
    deployed = {
        resource["Properties"]["CodeUri"]
        for resource in template["Resources"].values()
        if resource["Type"] == "AWS::Serverless::Function"
    }
    assert deployed == {f"../functions/{name}/" for name in folders} == {f"../functions/{name}/" for name in FUNCTIONS}


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_function_may_do_what_it_does_and_no_more(deployed, function):
    name = logical(function)
    assert deployed[f"{name}Function"]["Properties"]["Role"] == {"Fn::GetAtt": [f"{name}Role", "Arn"]}
    role = deployed[f"{name}Role"]["Properties"]
    assert role["ManagedPolicyArns"] == [{"Ref": "FunctionPolicy"}]
    (policy,) = role["Policies"]
    log = {"Fn::GetAtt": [f"{name}LogGroup", "Arn"]}
    expected = FUNCTIONS[function][0] + [("logs:CreateLogStream", log), ("logs:PutLogEvents", log)]
    assert allowed(policy["PolicyDocument"]) == sorted(expected, key=repr)
    (trust,) = role["AssumeRolePolicyDocument"]["Statement"]
    assert trust == {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}


def test_what_every_function_may_do(template):
    secret, decrypt, trace = template["Resources"]["FunctionPolicy"]["Properties"]["PolicyDocument"]["Statement"]
    assert allowed({"Statement": [secret]}) == [("secretsmanager:GetSecretValue", SECRET)]
    nothing = {"Ref": "AWS::NoValue"}
    condition, statement, otherwise = decrypt["Fn::If"]
    assert (condition, otherwise) == ("HasCustomerKey", nothing)
    assert allowed({"Statement": [statement]}) == [("kms:Decrypt", {"Ref": "CircleApiKeySecretKmsKeyArn"})]
    condition, statement, otherwise = trace["Fn::If"]
    assert (condition, otherwise) == ("IsTraced", nothing)
    assert allowed({"Statement": [statement]}) == [("xray:PutTelemetryRecords", "*"), ("xray:PutTraceSegments", "*")]


def test_the_other_roles(deployed):
    """Those of the pipes and of the schedule, and no others."""
    roles = {name for name, resource in deployed.items() if resource["Type"] == "AWS::IAM::Role"}
    assert roles == {f"{logical(function)}Role" for function in FUNCTIONS} | {
        "PipeRole",
        "ReconcileChallengesFunctionEveryFiveMinutesRole",
    }
    stream = {"Fn::GetAtt": ["ChallengesTable", "StreamArn"]}
    reads = ["DescribeStream", "GetRecords", "GetShardIterator", "ListStreams"]
    (policy,) = deployed["PipeRole"]["Properties"]["Policies"]
    assert allowed(policy["PolicyDocument"]) == sorted(
        [(f"dynamodb:{action}", stream) for action in reads]
        + [("events:PutEvents", {"Fn::GetAtt": ["EventBus", "Arn"]})]
        + [("sqs:SendMessage", {"Fn::GetAtt": ["UndeliveredEventsQueue", "Arn"]})],
        key=repr,
    )
    (policy,) = deployed["ReconcileChallengesFunctionEveryFiveMinutesRole"]["Properties"]["Policies"]
    function = {"Fn::GetAtt": ["ReconcileChallengesFunction", "Arn"]}
    assert allowed(policy["PolicyDocument"]) == [("lambda:InvokeFunction", function)]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_function_is_set_up(template, deployed, function):
    name = logical(function)
    assert template["Resources"][f"{name}Function"]["Metadata"] == {"BuildMethod": "rust-cargolambda"}
    properties = deployed[f"{name}Function"]["Properties"]
    assert properties["Environment"]["Variables"] == CIRCLE | FUNCTIONS[function][1]
    assert properties["Runtime"] == "provided.al2023" and properties["Handler"] == "bootstrap"
    assert properties["Architectures"] == [{"Ref": "Architecture"}]
    assert properties["LoggingConfig"] == {
        "LogFormat": "JSON",
        "ApplicationLogLevel": {"Ref": "LogLevel"},
        "LogGroup": {"Ref": f"{name}LogGroup"},
    }
    # Eight seconds are what a function gives itself, thirty what API Gateway waits.
    timeouts = {"reconcile-challenges": 60, "manage-subscription": 60}
    assert properties["Timeout"] == timeouts.get(function, 10)
    assert deployed[f"{name}LogGroup"]["Properties"]["RetentionInDays"] == {"Ref": "LogRetentionDays"}
    reserved = {"receive-webhook": "ReservesForWebhooks", "reconcile-challenges": "ReservesForReconcile"}
    concurrency = properties.get("ReservedConcurrentExecutions", {"Fn::If": [None]})
    assert concurrency["Fn::If"][0] == reserved.get(function)


def test_the_settings_are_those_of_the_readme(template):
    """Every variable that a function is given is in the README's table of settings, with the same default and range."""
    table = (ROOT / "README.md").read_text().split("## Settings")[1].split("\n## ")[0]
    named = dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", table, re.MULTILINE))
    given = CIRCLE
    for _, settings in FUNCTIONS.values():
        given = given | settings
    assert set(given) <= set(named), set(given) - set(named)
    ranges = 0
    for variable, value in given.items():
        if numbers := re.fullmatch(r"`(\d+)`, from (\d+) to (\d+)", named[variable]):
            parameter = template["Parameters"][value["Ref"]]
            expected = tuple(int(number) for number in numbers.groups())
            assert (parameter["Default"], parameter["MinValue"], parameter["MaxValue"]) == expected, variable
            ranges += 1
        elif text := re.fullmatch(r"`(.+)`", named[variable]):
            assert template["Parameters"][value["Ref"]]["Default"] == text[1], variable
    assert ranges == 4


def test_the_table_of_challenges(template):
    table = template["Resources"]["ChallengesTable"]
    assert table["DeletionPolicy"] == table["UpdateReplacePolicy"] == "Retain"
    properties = table["Properties"]
    assert "TableName" not in properties
    assert properties["BillingMode"] == "PAY_PER_REQUEST"
    assert properties["DeletionProtectionEnabled"] is True
    assert properties["KeySchema"] == [{"AttributeName": "challengeId", "KeyType": "HASH"}]
    assert properties["GlobalSecondaryIndexes"] == [
        {
            "IndexName": "pending-challenges",
            "KeySchema": [
                {"AttributeName": "pendingShard", "KeyType": "HASH"},
                {"AttributeName": "nextPollAt", "KeyType": "RANGE"},
            ],
            "Projection": {"ProjectionType": "INCLUDE", "NonKeyAttributes": ["userId", "createdAt"]},
        }
    ]
    assert properties["TimeToLiveSpecification"] == {"AttributeName": "expiresAt", "Enabled": True}
    assert properties["StreamSpecification"] == {"StreamViewType": "NEW_AND_OLD_IMAGES"}
    assert properties["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
    assert properties["SSESpecification"] == {"SSEEnabled": True}


def test_the_table_of_requests(template):
    properties = template["Resources"]["ChallengeRequestsTable"]["Properties"]
    assert properties["BillingMode"] == "PAY_PER_REQUEST"
    assert properties["KeySchema"] == [{"AttributeName": "userHour", "KeyType": "HASH"}]
    assert properties["TimeToLiveSpecification"] == {"AttributeName": "expiresAt", "Enabled": True}
    assert properties["SSESpecification"] == {"SSEEnabled": True}
    assert "TableName" not in properties and "StreamSpecification" not in properties


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
    # SAM puts the parameter's value in here, which by default is empty.
    assert cors.pop("allowOrigins")["Fn::Split"][0] == ","
    assert cors == {
        "allowHeaders": ["authorization", "content-type", "x-user-token", "idempotency-key"],
        "allowMethods": ["GET", "POST"],
        "exposeHeaders": ["retry-after", "apigw-requestid"],
        "maxAge": 300,
    }


def test_cors_is_that_of_the_local_api(template):
    source = (ROOT / "infra/local/src/http_api/cors.rs").read_text()
    local = {name: set(value.split(",")) for name, value in re.findall(r'const (\w+): &str = "([^"]+)";', source)}
    cors = template["Resources"]["HttpApi"]["Properties"]["CorsConfiguration"]["Fn::If"][1]
    assert set(cors["AllowHeaders"]) == local["ALLOWED_HEADERS"]
    assert set(cors["AllowMethods"]) == local["ALLOWED_METHODS"]
    assert set(cors["ExposeHeaders"]) == local["EXPOSED_HEADERS"]
    assert {str(cors["MaxAge"])} == local["MAX_AGE"]


def test_throttling_and_access_logs(deployed):
    stage = deployed["HttpApiApiGatewayDefaultStage"]["Properties"]
    assert stage["DefaultRouteSettings"] == {
        "ThrottlingRateLimit": {"Ref": "CallerRateLimit"},
        "ThrottlingBurstLimit": {"Ref": "CallerBurstLimit"},
    }
    assert set(stage["RouteSettings"]) == {"POST /webhooks/circle", "HEAD /webhooks/circle"}
    assert stage["RouteSettings"]["POST /webhooks/circle"] == {
        "ThrottlingRateLimit": {"Ref": "WebhookRateLimit"},
        "ThrottlingBurstLimit": {"Ref": "WebhookBurstLimit"},
    }
    logged = re.findall(r"\$context\.([\w.]+)", stage["AccessLogSettings"]["Format"])
    assert {"requestId", "routeKey", "status", "authorizer.error", "integrationErrorMessage"} <= set(logged)
    # No header, no claim, no path: the path has the challenge's id.
    assert not any(re.search("header|claims|path|userAgent|query", name, re.IGNORECASE) for name in logged)


def test_the_look_for_lost_webhooks_is_repeated_by_the_schedule_only(deployed):
    schedule = deployed["ReconcileChallengesFunctionEveryFiveMinutes"]["Properties"]
    assert schedule["ScheduleExpression"] == "rate(5 minutes)"
    assert schedule["Target"]["RetryPolicy"]["MaximumRetryAttempts"] == 0
    # A schedule's name is the account's: a fixed one would keep a second stack out.
    assert schedule["Name"] == {"Fn::Sub": "${AWS::StackName}-reconcile"}
    invocation = deployed["ReconcileChallengesFunctionEventInvokeConfig"]["Properties"]
    assert invocation["MaximumRetryAttempts"] == 0


def test_the_subscription_waits_for_what_circle_calls(template, deployed):
    subscription = template["Resources"]["CircleSubscription"]
    webhook = {name for name in deployed if re.fullmatch("ReceiveWebhookFunction.*Permission", name)}
    stage = {name for name, resource in deployed.items() if resource["Type"] == "AWS::ApiGatewayV2::Stage"}
    assert len(webhook) == 2 and len(stage) == 1
    assert set(subscription["DependsOn"]) == webhook | stage
    properties = subscription["Properties"]
    assert properties["Endpoint"]["Fn::Sub"].endswith("/webhooks/circle")
    # What says which account it is in: CloudFormation calls the function only when a property changes.
    for parameter in ["CircleApiKeySecretArn", "CircleEnvironment", "CircleBaseUrl"]:
        assert properties[parameter] == {"Ref": parameter}
    assert properties["ServiceTimeout"] > deployed["ManageSubscriptionFunction"]["Properties"]["Timeout"]
    for name, resource in template["Resources"].items():
        if name.startswith("ManageSubscription") or name == "CircleSubscription":
            assert resource["Condition"] == "ManagesSubscription", name


def test_queues(template):
    for name in ["UndeliveredEventsQueue", "PinChangedQueue"]:
        properties = template["Resources"][name]["Properties"]
        assert properties == {"MessageRetentionPeriod": 14 * 24 * 3600, "SqsManagedSseEnabled": True}


def test_a_changed_pin_is_an_example_that_is_off(template):
    assert template["Parameters"]["PinChangedAlerts"]["Default"] == "DISABLED"
    for name in ["PinChangedRule", "PinChangedQueue", "PinChangedQueuePolicy"]:
        assert template["Resources"][name]["Condition"] == "AlertsOnChangedPins"
    pipe = template["Resources"]["SettledPipe"]["Properties"]["TargetParameters"]["EventBridgeEventBusParameters"]
    pattern = template["Resources"]["PinChangedRule"]["Properties"]["EventPattern"]
    assert pattern == {
        "source": [pipe["Source"]],
        "detail-type": [pipe["DetailType"]],
        "detail": {"status": ["COMPLETE"]},
    }


def alarms(template):
    return {
        name: resource["Properties"]
        for name, resource in template["Resources"].items()
        if resource["Type"] == "AWS::CloudWatch::Alarm"
    }


def test_every_alarm_reaches_the_topic(template):
    found = alarms(template)
    assert len(found) == 22
    action = {"Fn::If": ["HasAlarmTopic", [{"Ref": "AlarmTopicArn"}], {"Ref": "AWS::NoValue"}]}
    for name, properties in found.items():
        assert properties["AlarmActions"] == action, name
        assert len(properties["AlarmDescription"]) > 40, name
        expected = "breaching" if name == "ReconcileMissingAlarm" else "notBreaching"
        assert properties["TreatMissingData"] == expected, name


def test_what_is_alarmed_on_is_counted_and_logged(template):
    """The filters make the very metric that the alarms watch, of words that the code logs."""
    filters = [
        resource["Properties"]
        for resource in template["Resources"].values()
        if resource["Type"] == "AWS::Logs::MetricFilter"
    ]
    assert [one["LogGroupName"] for one in filters] == [{"Ref": f"{logical(name)}LogGroup"} for name in FUNCTIONS]
    for one in filters:
        assert one["FilterPattern"] == '{ $.metric = "*" }'
        (metric,) = one["MetricTransformations"]
        assert metric["Dimensions"] == [{"Key": "metric", "Value": "$.metric"}]
    sources = [path.read_text() for folder in ["functions", "shared"] for path in (ROOT / folder).rglob("src/**/*.rs")]
    logged = {word for source in sources for word in re.findall(r'metric = "(\w+)"', source)}
    table = (ROOT / "README.md").read_text().split("### Errors")[1].split("\n## ")[0]
    logged |= set(re.findall(r"^\| `(\w+)` \| \d{3} \|", table, re.MULTILINE))
    watched = set()
    for properties in alarms(template).values():
        if properties.get("MetricName") == metric["MetricName"]:
            assert properties["Namespace"] == metric["MetricNamespace"]
            (dimension,) = properties["Dimensions"]
            assert dimension["Name"] == "metric"
            watched.add(dimension["Value"])
    assert len(watched) == 15
    assert watched <= logged, watched - logged


def test_parameters_are_described_bounded_and_safe(template):
    grouped = [
        name
        for group in template["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
        for name in group["Parameters"]
    ]
    parameters = template["Parameters"]
    assert sorted(grouped) == sorted(parameters)
    assert {name for name, parameter in parameters.items() if "Default" not in parameter} == set(REQUIRED)
    for name, parameter in parameters.items():
        assert len(parameter["Description"]) > 20, name
        pattern = parameter.get("AllowedPattern")
        default = parameter.get("Default", REQUIRED.get(name))
        if pattern:
            assert re.fullmatch(pattern, default), name
            assert "ConstraintDescription" in parameter, name
        elif "AllowedValues" in parameter:
            assert default in parameter["AllowedValues"], name
        else:
            assert parameter["MinValue"] <= default <= parameter["MaxValue"], name


@pytest.mark.parametrize(
    ("parameter", "good", "bad"),
    [
        ("AllowedOrigins", ["https://a.example.com,http://localhost:3000"], ["*", "https://*", "https://example.com/"]),
        ("CircleBaseUrl", ["http://127.0.0.1:9"], ["http://example.com", "https://a@b.c", "https://api.circle.com/v1"]),
        ("JwtIssuer", ["https://auth.example.com/"], ["http://auth.example.com", "auth.example.com"]),
        ("JwtAudience", ["a,b"], ["", "a, b", "a,"]),
        ("CircleSourceIps", ["", "10.0.0.1, ::1"], ["10.0.0.0/8", "example.com"]),
        ("UserIdClaim", ["https://example.com/circle_user", "custom:circle"], ["", "a b"]),
        (
            "CircleApiKeySecretArn",
            [REQUIRED["CircleApiKeySecretArn"]],
            ["circle", "arn:aws:secretsmanager:us-east-1:123456789012:secret:circle", "TEST_API_KEY:a:b"],
        ),
    ],
)
def test_a_parameter_takes_this_and_not_that(template, parameter, good, bad):
    pattern = template["Parameters"][parameter]["AllowedPattern"]
    assert all(re.fullmatch(pattern, value) for value in good)
    assert not any(re.fullmatch(pattern, value) for value in bad)
