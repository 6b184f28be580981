"""Properties of the template whose absence no deployment would report."""

import json
import re

import pytest

from conftest import REQUIRED, ROOT

SECRET = {"Ref": "CircleApiKeySecretArn"}
# The two functions that can have an API key of their own.
OWN_SECRETS = {
    "receive-webhook": {"Fn::If": ["HasWebhookApiKey", {"Ref": "WebhookApiKeySecretArn"}, SECRET]},
    "manage-subscription": {"Fn::If": ["HasSubscriptionApiKey", {"Ref": "SubscriptionApiKeySecretArn"}, SECRET]},
}
WEBHOOK_URL = {
    "Fn::If": [
        "UsesDomain",
        {"Fn::Sub": "https://${DomainName}/webhooks/circle"},
        {"Fn::Sub": "https://${HttpApi}.execute-api.${AWS::Region}.${AWS::URLSuffix}/webhooks/circle"},
    ]
}


def of_table(own, existing):
    """A value of the stack's own table of challenges, or of the table that exists already."""
    return {"Fn::If": ["OwnsChallengesTable", own, existing]}


# arn:PARTITION:dynamodb:REGION:ACCOUNT:table/NAME/stream/TIME
EXISTING_STREAM = {"Ref": "ExistingChallengesTableStreamArn"}
CHALLENGES_NAME = of_table({"Ref": "ChallengesTable"}, {"Fn::Select": [1, {"Fn::Split": ["/", EXISTING_STREAM]}]})
CHALLENGES_ARN = of_table(
    {"Fn::GetAtt": ["ChallengesTable", "Arn"]}, {"Fn::Select": [0, {"Fn::Split": ["/stream/", EXISTING_STREAM]}]}
)
CHALLENGES_STREAM = of_table({"Fn::GetAtt": ["ChallengesTable", "StreamArn"]}, EXISTING_STREAM)
RATE_LIMITS_ARN = {"Fn::GetAtt": ["RateLimitsTable", "Arn"]}
OPEN_CHALLENGES_ARN = {"Fn::Sub": ["${Table}/index/open-challenges", {"Table": CHALLENGES_ARN}]}
CHALLENGES_BY_USER_ARN = {"Fn::Sub": ["${Table}/index/challenges-by-user", {"Table": CHALLENGES_ARN}]}

CIRCLE = {
    "CIRCLE_API_KEY_SECRET_ID": SECRET,
    "CIRCLE_BASE_URL": {"Ref": "CircleBaseUrl"},
    "CIRCLE_ENVIRONMENT": {"Ref": "CircleEnvironment"},
    "REQUEST_TIMEOUT_SECONDS": {"Ref": "RequestTimeoutSeconds"},
}
CHALLENGES = {"CHALLENGES_TABLE": CHALLENGES_NAME}
RATE_LIMITS = {"RATE_LIMITS_TABLE": {"Ref": "RateLimitsTable"}}
# Who calls, and how often a user may.
CALLERS = RATE_LIMITS | {
    "USER_ID_CLAIM": {"Ref": "UserIdClaim"},
    "CALL_BURST": {"Ref": "CallBurst"},
    "CALL_INTERVAL_SECONDS": {"Ref": "CallIntervalSeconds"},
}
COUNT_CALLS = ("dynamodb:UpdateItem", RATE_LIMITS_ARN)
OWN_ACCOUNT_ONLY = {"StringEquals": {"s3:ResourceAccount": {"Ref": "AWS::AccountId"}}}
PUBLIC_KEYS_ONLY = {"ForAllValues:StringEquals": {"dynamodb:LeadingKeys": ["public-keys"]}}

# For each function, its permissions besides reading the API key and writing its log (actions, resources and conditions),
# and its settings besides Circle's. announce-challenges has neither the API key nor Circle's settings.
FUNCTIONS = {
    "create-token": ([COUNT_CALLS], CALLERS),
    "create-challenge": (
        [
            COUNT_CALLS,
            ("dynamodb:GetItem", RATE_LIMITS_ARN),
            ("dynamodb:GetItem", CHALLENGES_ARN),
            ("dynamodb:UpdateItem", CHALLENGES_ARN),
        ],
        CALLERS
        | CHALLENGES
        | {
            "CHALLENGES_PER_HOUR": {"Ref": "ChallengesPerHour"},
            "CHALLENGE_RETENTION_DAYS": {"Ref": "ChallengeRetentionDays"},
            "RESTORE_MAX_SIGN_IN_AGE_MINUTES": {"Ref": "RestoreMaxSignInAgeMinutes"},
        },
    ),
    "get-challenge": (
        [
            COUNT_CALLS,
            ("dynamodb:GetItem", CHALLENGES_ARN),
            ("dynamodb:UpdateItem", CHALLENGES_ARN),
            ("dynamodb:Query", CHALLENGES_BY_USER_ARN),
        ],
        CALLERS | CHALLENGES,
    ),
    "get-pin": ([COUNT_CALLS], CALLERS),
    "receive-webhook": (
        [
            ("dynamodb:UpdateItem", CHALLENGES_ARN),
            ("dynamodb:GetItem", RATE_LIMITS_ARN, PUBLIC_KEYS_ONLY),
            ("dynamodb:UpdateItem", RATE_LIMITS_ARN, PUBLIC_KEYS_ONLY),
        ],
        CHALLENGES | RATE_LIMITS | {"CIRCLE_SOURCE_IPS": {"Ref": "CircleSourceIps"}},
    ),
    "reconcile-challenges": (
        [
            ("dynamodb:Query", OPEN_CHALLENGES_ARN),
            ("dynamodb:UpdateItem", CHALLENGES_ARN),
            ("dynamodb:GetItem", RATE_LIMITS_ARN),
        ],
        CHALLENGES
        | RATE_LIMITS
        | {
            "CIRCLE_CALLS_PER_SECOND": {"Ref": "CircleCallsPerSecond"},
            "ABANDON_AFTER_DAYS": {"Ref": "AbandonAfterDays"},
        },
    ),
    "announce-challenges": (
        [
            ("dynamodb:DescribeStream", CHALLENGES_STREAM),
            ("dynamodb:GetRecords", CHALLENGES_STREAM),
            ("dynamodb:GetShardIterator", CHALLENGES_STREAM),
            ("dynamodb:ListStreams", CHALLENGES_STREAM),
            ("dynamodb:GetItem", CHALLENGES_ARN),
            ("events:PutEvents", {"Fn::GetAtt": ["EventBus", "Arn"]}),
            ("sqs:SendMessage", {"Fn::GetAtt": ["UnreadableRecordsQueue", "Arn"]}),
            ("s3:PutObject", {"Fn::Sub": "${FailedRecordsBucket.Arn}/*"}, OWN_ACCOUNT_ONLY),
            ("s3:ListBucket", {"Fn::GetAtt": ["FailedRecordsBucket", "Arn"]}, OWN_ACCOUNT_ONLY),
        ],
        CHALLENGES
        | {
            "EVENT_BUS_NAME": {"Ref": "EventBus"},
            "UNREADABLE_RECORDS_QUEUE_URL": {"Ref": "UnreadableRecordsQueue"},
        },
    ),
    "manage-subscription": ([], {"WEBHOOK_URL": WEBHOOK_URL}),
}


# X-Ray has no resources.
TRACE = [("IsTraced", f"xray:Put{what}", "*", None) for what in ("TelemetryRecords", "TraceSegments")]


def logical(function):
    return "".join(word.capitalize() for word in function.split("-"))


def listed(value):
    return value if isinstance(value, list) else [value]


def allowed(statement):
    """The actions, resources and conditions that one statement of a policy allows."""
    assert statement["Effect"] == "Allow" and set(statement) <= {"Sid", "Effect", "Action", "Resource", "Condition"}
    actions, resources = listed(statement["Action"]), listed(statement["Resource"])
    return [(action, what, statement.get("Condition")) for action in actions for what in resources]


def test_each_folder_of_a_function_is_deployed(template):
    folders = {path.parent.name for path in (ROOT / "functions").glob("*/Cargo.toml")}
    resources = [resource.get("Properties", {}) for resource in template["Resources"].values()]
    deployed = {properties["CodeUri"] for properties in resources if "CodeUri" in properties}
    assert deployed == {f"{name}.zip" for name in folders} == {f"{name}.zip" for name in FUNCTIONS}


def grants(deployed):
    """The grants of each role, managed policy and resource policy, by name."""
    found = {}
    for name, resource in deployed.items():
        properties = resource.get("Properties", {})
        if resource["Type"] == "AWS::IAM::Role":
            documents = [policy["PolicyDocument"] for policy in properties["Policies"]]
            attached = properties.get("ManagedPolicyArns", [])
        elif "PolicyDocument" in properties:
            documents, attached = [properties["PolicyDocument"]], []
        else:
            assert not {"Policies", "AssumeRolePolicyDocument", "ManagedPolicyArns"} & set(properties), name
            continue
        found[name] = [("attached", policy["Ref"], None) for policy in attached]
        for document in documents:
            assert set(document) <= {"Version", "Statement"}
            for statement in document["Statement"]:
                if statement.get("Effect") == "Deny":
                    continue
                if "Fn::If" in statement:
                    condition, statement, otherwise = statement["Fn::If"]
                    assert otherwise == {"Ref": "AWS::NoValue"}
                    found[name] += [(condition, *granted) for granted in allowed(statement)]
                elif "Principal" in statement:
                    rest = {key: value for key, value in statement.items() if key != "Principal"}
                    found[name] += [(repr(statement["Principal"]), *granted) for granted in allowed(rest)]
                else:
                    found[name] += allowed(statement)
        found[name].sort(key=repr)
    return found


def expected_grants():
    """The grants that each role and policy needs."""
    expected = {}
    for function, (actions, _) in FUNCTIONS.items():
        name = logical(function)
        log = {"Fn::GetAtt": [f"{name}LogGroup", "Arn"]}
        policy = f"{name}Policy" if function in OWN_SECRETS else "FunctionPolicy"
        expected[f"{name}Role"] = [("attached", policy, None)]
        if function == "announce-challenges":
            expected[f"{name}Role"] = [*TRACE]
        expected[f"{name}Role"] += [(*action, None)[:3] for action in actions]
        expected[f"{name}Role"] += [("logs:CreateLogStream", log, None), ("logs:PutLogEvents", log, None)]
    own_policies = {f"{logical(function)}Policy": secret for function, secret in OWN_SECRETS.items()}
    for name, secret in {"FunctionPolicy": SECRET, **own_policies}.items():
        through_secrets_manager = {
            "StringEquals": {
                "kms:ViaService": {"Fn::Sub": "secretsmanager.${AWS::Region}.${AWS::URLSuffix}"},
                "kms:EncryptionContext:SecretARN": secret,
            }
        }
        expected[name] = [
            ("secretsmanager:GetSecretValue", secret, None),
            ("HasCustomerKey", "kms:Decrypt", {"Ref": "CircleApiKeySecretKmsKeyArn"}, through_secrets_manager),
            *TRACE,
        ]
    reconcile = {"Ref": "ReconcileChallengesFunctionAliaslive"}
    expected["ReconcileScheduleRole"] = [("lambda:InvokeFunction", reconcile, None)]
    expected |= versions_grants()
    manage = {"Fn::GetAtt": ["ManageSubscriptionFunction", "Arn"]}
    expected["SubscriptionScheduleRole"] = [("lambda:InvokeFunction", manage, None)]
    changed = {"ArnEquals": {"aws:SourceArn": {"Fn::GetAtt": ["PinChangedRule", "Arn"]}}}
    expected["CheckApiKeysRole"] = check_of_the_api_keys()
    log = {"Fn::GetAtt": ["ManageSubscriptionLogGroup", "Arn"]}
    expected["CheckJwtIssuerRole"] = [("logs:CreateLogStream", log, None), ("logs:PutLogEvents", log, None)]
    event_bridge = repr({"Service": "events.amazonaws.com"})
    for name in ["PinChangedQueue", "PinChangedDeadLetterQueue"]:
        queue = {"Fn::GetAtt": [name, "Arn"]}
        expected[f"{name}Policy"] = [(event_bridge, "sqs:SendMessage", queue, changed)]
    expected["UnreadableRecordsQueuePolicy"] = expected["FailedRecordsBucketPolicy"] = []
    own_alarms = {"Fn::Sub": "arn:${AWS::Partition}:cloudwatch:${AWS::Region}:${AWS::AccountId}:alarm:*"}
    from_alarms = {
        "StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}},
        "ArnLike": {"aws:SourceArn": own_alarms},
    }
    cloudwatch = repr({"Service": "cloudwatch.amazonaws.com"})
    expected["AlarmTopicPolicy"] = [(cloudwatch, "sns:Publish", {"Ref": "AlarmTopic"}, from_alarms)]
    return {name: sorted(granted, key=repr) for name, granted in expected.items()}


def versions_grants():
    """The grants of the roles that publish, test and deploy versions."""
    log = {"Fn::GetAtt": ["VersionsLogGroup", "Arn"]}
    logging = [("logs:CreateLogStream", log, None), ("logs:PutLogEvents", log, None)]
    codedeploy = "arn:${AWS::Partition}:codedeploy:${AWS::Region}:${AWS::AccountId}"
    groups = {"Fn::Sub": codedeploy + ":deploymentgroup:${ServerlessDeploymentApplication}/*"}
    functions = [f"{logical(function)}Function" for function in FUNCTIONS if function != "manage-subscription"]
    smoke_test = [("lambda:InvokeFunction", {"Fn::Sub": f"${{{name}.Arn}}:*"}, None) for name in functions] + [
        ("codedeploy:PutLifecycleEventHookExecutionStatus", groups, None),
    ]
    deployment = [
        (f"lambda:{action}", resource, None)
        for action in ["GetAlias", "UpdateAlias", "GetProvisionedConcurrencyConfig"]
        for name in functions
        for resource in [{"Fn::GetAtt": [name, "Arn"]}, {"Fn::Sub": f"${{{name}.Arn}}:live"}]
    ] + [
        ("lambda:InvokeFunction", {"Fn::GetAtt": ["SmokeTestFunction", "Arn"]}, None),
        # Alarms have no resources here.
        ("cloudwatch:DescribeAlarms", "*", None),
    ]
    return {
        "SettingsDigestRole": logging,
        "SmokeTestRole": logging + smoke_test,
        "DeploymentRole": deployment,
    }


def check_of_the_api_keys():
    """What its role may do: read every key that the stack uses, and write the log of manage-subscription."""
    own = [("HasWebhookApiKey", "WebhookApiKeySecretArn"), ("UsesSubscriptionApiKey", "SubscriptionApiKeySecretArn")]
    nothing = {"Ref": "AWS::NoValue"}
    secrets = [SECRET, *[{"Fn::If": [condition, {"Ref": parameter}, nothing]} for condition, parameter in own]]
    through_secrets_manager = {
        "StringEquals": {
            "kms:ViaService": {"Fn::Sub": "secretsmanager.${AWS::Region}.${AWS::URLSuffix}"},
            "kms:EncryptionContext:SecretARN": secrets,
        }
    }
    log = {"Fn::GetAtt": ["ManageSubscriptionLogGroup", "Arn"]}
    return [
        *[("secretsmanager:GetSecretValue", secret, None) for secret in secrets],
        ("HasCustomerKey", "kms:Decrypt", {"Ref": "CircleApiKeySecretKmsKeyArn"}, through_secrets_manager),
        ("IsTraced", "xray:PutTelemetryRecords", "*", None),
        ("IsTraced", "xray:PutTraceSegments", "*", None),
        ("logs:CreateLogStream", log, None),
        ("logs:PutLogEvents", log, None),
    ]


def test_each_role_and_policy_grants_only_what_is_needed(deployed):
    """An added or missing action, a wildcard and a missing condition are each a difference."""
    assert grants(deployed) == expected_grants()


def test_only_its_service_can_assume_a_role(deployed):
    trusted = {
        name: resource["Properties"]["AssumeRolePolicyDocument"]
        for name, resource in deployed.items()
        if resource["Type"] == "AWS::IAM::Role"
    }

    def only(service, **conditions):
        statement = {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole", **conditions}
        return {"Version": "2012-10-17", "Statement": [statement]}

    # EventBridge Scheduler sends the ARN of the schedule's group.
    group = {"Fn::Sub": "arn:${AWS::Partition}:scheduler:${AWS::Region}:${AWS::AccountId}:schedule-group/default"}
    schedules = {
        "ReconcileChallengesFunctionEveryFiveMinutes": "ReconcileScheduleRole",
        "SubscriptionSchedule": "SubscriptionScheduleRole",
    }
    assert set(schedules) == {name for name, one in deployed.items() if one["Type"] == "AWS::Scheduler::Schedule"}
    for name, role in schedules.items():
        assert trusted.pop(role) == only(
            "scheduler.amazonaws.com",
            Condition={"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}, "aws:SourceArn": group}},
        )
        schedule = deployed[name]["Properties"]
        assert schedule["Target"]["RoleArn"] == {"Fn::GetAtt": [role, "Arn"]}
        assert "GroupName" not in schedule
    groups = (
        "arn:${AWS::Partition}:codedeploy:${AWS::Region}:${AWS::AccountId}:deploymentgroup:"
        "${ServerlessDeploymentApplication}/*"
    )
    assert trusted.pop("DeploymentRole") == only(
        "codedeploy.amazonaws.com",
        Condition={
            "StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}},
            "ArnLike": {"aws:SourceArn": {"Fn::Sub": groups}},
        },
    )
    names = [*map(logical, FUNCTIONS), "CheckApiKeys", "CheckJwtIssuer", "SettingsDigest", "SmokeTest"]
    assert trusted == {f"{name}Role": only("lambda.amazonaws.com") for name in names}


def test_only_this_api_may_invoke_the_functions(deployed):
    """It may invoke their aliases. The schedule invokes its function with a role. Lambda itself reads the stream."""
    permissions = [one["Properties"] for one in deployed.values() if one["Type"] == "AWS::Lambda::Permission"]
    called = ["CreateChallenge", "CreateToken", *["GetChallenge"] * 2, "GetPin", *["ReceiveWebhook"] * 2]
    assert sorted(one["FunctionName"]["Ref"] for one in permissions) == [f"{name}FunctionAliaslive" for name in called]
    for permission in permissions:
        assert permission["Action"] == "lambda:InvokeFunction"
        assert permission["Principal"] == "apigateway.amazonaws.com"
        arn, names = permission["SourceArn"]["Fn::Sub"]
        assert arn.startswith("arn:${AWS::Partition}:execute-api:${AWS::Region}:${AWS::AccountId}:${__ApiId__}/")
        assert names["__ApiId__"] == {"Ref": "HttpApi"}


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_function_is_configured(template, deployed, function):
    name = logical(function)
    properties = deployed[f"{name}Function"]["Properties"]
    secret = {"CIRCLE_API_KEY_SECRET_ID": OWN_SECRETS.get(function, SECRET)}
    circle = {} if function == "announce-challenges" else CIRCLE | secret
    assert properties["Environment"]["Variables"] == circle | FUNCTIONS[function][1]
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
    assert deployed[f"{name}LogGroup"]["Properties"]["RetentionInDays"] == {"Ref": "LogRetentionDays"}
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
    given = CIRCLE
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
    assert {"requestId", "routeKey", "status", "authorizer.error", "integrationErrorMessage"} <= set(logged)
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
    always = {"ManageSubscriptionLogGroup", "ManageSubscriptionMetrics"}
    for name, resource in template["Resources"].items():
        if name.startswith("ManageSubscription") and name not in always or name == "CircleSubscription":
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
    found = set()

    def visit(node):
        if isinstance(node, list):
            for child in node:
                visit(child)
        elif isinstance(node, dict):
            for key, value in node.items():
                if key == "Ref":
                    follow(value)
                elif key == "Fn::GetAtt":
                    follow(value[0] if isinstance(value, list) else value.split(".")[0])
                elif key == "Fn::Sub":
                    for name in re.findall(r"\$\{([^!}.]+)", value if isinstance(value, str) else value[0]):
                        follow(name)
                if key == "DependsOn":
                    for name in listed(value):
                        follow(name)
                visit(value)

    def follow(name):
        if name in resources and name not in found:
            found.add(name)
            visit(resources[name])

    visit(resources[resource])
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
    assert check["Environment"]["Variables"] == CIRCLE | {"CIRCLE_SOURCE_IPS": {"Ref": "CircleSourceIps"}}
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


def alarms(template):
    return {
        name: resource["Properties"]
        for name, resource in template["Resources"].items()
        if resource["Type"] == "AWS::CloudWatch::Alarm"
    }


def test_every_alarm_notifies_both_targets_when_it_begins_and_ends(template):
    targets = [
        {"Fn::If": ["HasAlarmEmail", {"Ref": "AlarmTopic"}, {"Ref": "AWS::NoValue"}]},
        {"Fn::If": ["HasAlarmTopic", {"Ref": "AlarmTopicArn"}, {"Ref": "AWS::NoValue"}]},
    ]
    conditions = template["Conditions"]
    assert conditions["HasAlarmEmail"] == {"Fn::Not": [{"Fn::Equals": [{"Ref": "AlarmEmail"}, ""]}]}
    assert conditions["HasAlarmTopic"] == {"Fn::Not": [{"Fn::Equals": [{"Ref": "AlarmTopicArn"}, ""]}]}
    for name, properties in alarms(template).items():
        assert properties["AlarmActions"] == targets, name
        assert properties["OKActions"] == targets, name
        assert properties.get("ActionsEnabled", True) is True, name
        assert len(properties["AlarmDescription"]) > 40, name
        expected = "breaching" if name == "ReconcileMissingAlarm" else "notBreaching"
        assert properties["TreatMissingData"] == expected, name


def test_the_alarm_email_has_a_topic_that_alarms_can_use(template):
    resources = template["Resources"]
    names = ["AlarmTopic", "AlarmSubscription", "AlarmTopicPolicy"]
    assert all(resources[name]["Condition"] == "HasAlarmEmail" for name in names)
    # Alarms cannot publish to a topic with the key alias/aws/sns.
    assert "KmsMasterKeyId" not in resources["AlarmTopic"]["Properties"]
    assert resources["AlarmTopicPolicy"]["Properties"]["Topics"] == [{"Ref": "AlarmTopic"}]
    assert resources["AlarmSubscription"]["Properties"] == {
        "TopicArn": {"Ref": "AlarmTopic"},
        "Protocol": "email",
        "Endpoint": {"Ref": "AlarmEmail"},
    }


def test_each_alarm_on_a_log_line_has_its_metric(template, facts, error_codes):
    """The alarms watch the metric of the filters, for values that the code logs."""
    filters = [one for one in metric_filters(template) if one["LogGroupName"] != {"Ref": "AccessLogGroup"}]
    assert [one["LogGroupName"] for one in filters] == [{"Ref": f"{logical(name)}LogGroup"} for name in FUNCTIONS]
    for one in filters:
        assert one["FilterPattern"] == '{ $.metric = "*" }'
        (metric,) = one["MetricTransformations"]
        assert metric["Dimensions"] == [{"Key": "metric", "Value": "$.metric"}]
    # docs/operations.md lists these alarms with their thresholds.
    page = (ROOT / "docs/operations.md").read_text()
    form = r"^\| `(\w+)` \| (\d+) in (\d+) minutes(?:, (\d+) times of (\d+))? \| (\w[\w ]+) \|$"
    rows = re.findall(form, page, re.MULTILINE)
    watched = {}
    for properties in alarms(template).values():
        if properties.get("MetricName") == metric["MetricName"]:
            assert properties["Namespace"] == metric["MetricNamespace"]
            (dimension,) = properties["Dimensions"]
            assert dimension["Name"] == "metric"
            watched[dimension["Value"]] = (properties["Threshold"], properties["Period"] // 60, *datapoints(properties))
    assert watched == {
        name: (int(count), int(minutes), int(to_alarm or 1), int(periods or 1))
        for name, count, minutes, to_alarm, periods, _ in rows
    }
    # The page explains each kind.
    kinds = {kind for *_, kind in rows}
    assert kinds <= set(re.findall(r"^- \*\*([\w ]+)\*\*: ", page, re.MULTILINE))
    logged = set(facts["metrics"]) | {code for code, _ in error_codes}
    assert watched.keys() <= logged, watched.keys() - logged


def datapoints(properties):
    """How many periods must breach the threshold, and of how many."""
    periods = properties["EvaluationPeriods"]
    return properties.get("DatapointsToAlarm", periods), periods


def metric_filters(template):
    return [
        resource["Properties"]
        for resource in template["Resources"].values()
        if resource["Type"] == "AWS::Logs::MetricFilter"
    ]


WEBHOOK_ROUTES = '$.routeKey = "*/webhooks/circle"'
OTHER_ROUTES = '$.routeKey != "*/webhooks/circle"'
REJECTED_BY_GATEWAY = '($.status = "429") && ($.integrationStatus != "200")'


def test_metrics_of_the_access_log(template):
    """They tell API Gateway's own 429 from that of a function, and the webhook route from the others."""
    log_format = json.loads(template["Resources"]["HttpApi"]["Properties"]["AccessLogSettings"]["Format"])
    found = {}
    for one in metric_filters(template):
        if one["LogGroupName"] == {"Ref": "AccessLogGroup"}:
            assert set(re.findall(r"\$\.(\w+)", one["FilterPattern"])) <= set(log_format)
            (metric,) = one["MetricTransformations"]
            assert metric["MetricNamespace"] == {"Fn::Sub": "circle-pin-reset/${AWS::StackName}"}
            assert metric["MetricValue"] == "1" and "Dimensions" not in metric
            found[metric["MetricName"]] = one["FilterPattern"]
    # Every value of the access log is a string.
    assert found == {
        "ThrottledWebhooks": f"{{ {REJECTED_BY_GATEWAY} && ({WEBHOOK_ROUTES}) }}",
        "ThrottledRequests": f"{{ {REJECTED_BY_GATEWAY} && ({OTHER_ROUTES}) }}",
        "Requests": f'{{ ({OTHER_ROUTES}) && (($.status = "2*") || ($.status = "5*")) }}',
        "FailedRequests": f'{{ ({OTHER_ROUTES}) && ($.status = "5*") }}',
        "Webhooks": '{ $.routeKey = "POST /webhooks/circle" }',
        "RejectedWebhooks": '{ ($.routeKey = "POST /webhooks/circle") && ($.status != "2*") }',
    }


def documented_alarm(metric):
    """The thresholds of a metric in docs/operations.md: the number, minutes, and how many times of how many."""
    row = rf"^\| `{metric}` \| .* \| (\d+) (?:%|times)? ?in (\d+) minutes(?:, (\d+) times of (\d+))? \|$"
    [found] = re.findall(row, (ROOT / "docs/operations.md").read_text(), re.MULTILINE)
    return tuple(int(number or 1) for number in found)


def test_alarms_on_requests_are_documented(template):
    own = {"Fn::Sub": "circle-pin-reset/${AWS::StackName}"}
    watched = set()
    for properties in alarms(template).values():
        if properties.get("MetricName") in ("ThrottledWebhooks", "ThrottledRequests", "4xx"):
            name = properties["MetricName"]
            api = [{"Name": "ApiId", "Value": {"Ref": "HttpApi"}}]
            expected = ("AWS/ApiGateway", api) if name == "4xx" else (own, None)
            assert (properties["Namespace"], properties.get("Dimensions")) == expected
            given = (properties["Threshold"], properties["Period"] // 60, *datapoints(properties))
            assert documented_alarm(name) == given
            watched.add(name)
    assert watched == {"ThrottledWebhooks", "ThrottledRequests", "4xx"}


@pytest.mark.parametrize(
    ("name", "failed", "of", "at_least"),
    [
        ("ServerErrorsAlarm", "FailedRequests", "Requests", 5),
        ("ServerErrorsAtLowLoadAlarm", "FailedRequests", "Requests", None),
        ("RejectedWebhooksAlarm", "RejectedWebhooks", "Webhooks", 2),
    ],
)
def test_alarms_on_shares_are_documented(template, name, failed, of, at_least):
    properties = alarms(template)[name]
    share, *metrics = properties["Metrics"]
    few, many = (one[0].lower() + one[1:] for one in (failed, of))
    percent = f"100 * {few} / {many}"
    assert share["Expression"] == (f"IF({few} >= {at_least}, {percent}, 0)" if at_least else percent)
    [period] = {metric["MetricStat"]["Period"] for metric in metrics}
    expected = [
        {
            "Id": identifier,
            "ReturnData": False,
            "MetricStat": {
                "Metric": {"Namespace": {"Fn::Sub": "circle-pin-reset/${AWS::StackName}"}, "MetricName": metric},
                "Stat": "Sum",
                "Period": period,
            },
        }
        for identifier, metric in [(few, failed), (many, of)]
    ]
    assert metrics == expected
    documented = documented_alarm(name)
    assert documented == (properties["Threshold"], period // 60, *datapoints(properties))


def test_other_apps_of_the_circle_account_do_not_ring_the_alarms_on_webhooks(template):
    """Circle's default limit is 5 new challenges a second, with 3 webhooks each. The throttle is above the alarms."""
    most_of_an_account = 5 * 3
    throttle = int(template["Parameters"]["WebhookThrottleRate"]["Default"])
    for name in ["UnrequestedChallengeAlarm", "WebhookIgnoredAlarm"]:
        properties = alarms(template)[name]
        assert most_of_an_account < properties["Threshold"] / properties["Period"] < throttle / 2


def test_alarms_on_several_metrics_treat_missing_data_as_zero(template):
    summed = {}
    for name, properties in alarms(template).items():
        expression, *metrics = properties.get("Metrics", [{}])
        if expression.get("Id") == "sum":
            assert expression["Expression"] == "SUM(FILL(METRICS(), 0))", name
            assert len(metrics) <= 9 and not any(metric["ReturnData"] for metric in metrics), name
            summed[name] = [metric["MetricStat"]["Metric"] for metric in metrics]
    # CloudFormation reports failures of manage-subscription.
    functions = [{"Ref": f"{logical(name)}Function"} for name in FUNCTIONS if name != "manage-subscription"]
    for name, metric in [("FunctionErrorsAlarm", "Errors"), ("FunctionThrottlesAlarm", "Throttles")]:
        found = summed.pop(name)
        assert all((one["Namespace"], one["MetricName"]) == ("AWS/Lambda", metric) for one in found)
        assert [one["Dimensions"] for one in found] == [[{"Name": "FunctionName", "Value": one}] for one in functions]
    tables = template["Resources"]
    throttled, failed = set(), set()
    for name in [name for name, one in tables.items() if one["Type"] == "AWS::DynamoDB::Table"]:
        indexes = [one["IndexName"] for one in tables[name]["Properties"].get("GlobalSecondaryIndexes", [])]
        for what in ["Read", "Write"]:
            throttled |= {(f"{what}ThrottleEvents", name, *index) for index in [(), *((one,) for one in indexes)]}
    # Each operation of the functions.
    for actions, _ in FUNCTIONS.values():
        for action, resource, *_ in actions:
            service, operation = action.split(":")
            if service == "dynamodb" and resource != CHALLENGES_STREAM:
                table = "ChallengesTable" if "Challenges" in str(resource) else "RateLimitsTable"
                failed.add(("SystemErrors", table, operation))
    for name, expected in [("TableThrottlesAlarm", throttled), ("TableSystemErrorsAlarm", failed)]:
        found = summed.pop(name)
        assert {one["Namespace"] for one in found} == {"AWS/DynamoDB"}
        for one in found:
            names = [dimension["Name"] for dimension in one["Dimensions"]]
            second = "Operation" if name == "TableSystemErrorsAlarm" else "GlobalSecondaryIndexName"
            assert names == ["TableName", second][: len(names)]
        values = [[one["MetricName"], *(dimension["Value"] for dimension in one["Dimensions"])] for one in found]
        own = {str(CHALLENGES_NAME): "ChallengesTable", str({"Ref": "RateLimitsTable"}): "RateLimitsTable"}
        assert sorted((metric, own[str(table)], *rest) for metric, table, *rest in values) == sorted(expected)
    # test_events.py has its metrics.
    assert summed.keys() == {"EventsNotPublishedAlarm"}


def test_parameters_have_a_description_limits_and_a_valid_default(template):
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
        else:
            assert default in parameter["AllowedValues"], name


def test_a_number_is_a_whole_number_in_its_range(template):
    """CloudFormation's own type Number accepts 8.5, with which a function does not start. It also accepts 0.0, which is
    not the 0 of a condition."""
    numbers = {}
    for name, parameter in template["Parameters"].items():
        assert parameter["Type"] == "String", name
        assert isinstance(parameter.get("Default", ""), str) and "MinValue" not in parameter, name
        assert all(isinstance(value, str) for value in parameter.get("AllowedValues", [])), name
        constraint = parameter.get("ConstraintDescription", "")
        described = re.fullmatch(r"must be a whole number from (\d+) to (\d+)\.", constraint)
        if described:
            numbers[name] = parameter["AllowedPattern"], *map(int, described.groups())
        else:
            assert "AllowedValues" in parameter or not parameter.get("Default", "").isdigit(), name
    assert len(numbers) >= 19
    for name, (pattern, minimum, maximum) in numbers.items():
        for number in [*range(min(maximum + 2, 12000)), maximum, maximum + 1, 10 * maximum, maximum + 1_000_000]:
            assert bool(re.fullmatch(pattern, str(number))) == (minimum <= number <= maximum), (name, number)
        for number in (minimum, maximum, template["Parameters"][name]["Default"]):
            for wrong in ("{}.0", "{}.5", " {}", "{} ", "+{}", "-{}", "0{}", "{}e0", "{}\n", "{},{}"):
                assert not re.fullmatch(pattern, wrong.replace("{}", str(number))), (name, wrong, number)
        assert not re.fullmatch(pattern, "")


@pytest.mark.parametrize(
    ("parameter", "good", "bad"),
    [
        (
            "AllowedOrigins",
            ["", "https://a.example.com:8443,http://localhost:3000,http://127.0.0.1"],
            [
                "*",
                "https://*",
                "https://example.com/",
                "http://example.com",
                "https://example.com,http://example.com",
                "http://localhost.example.com",
                "http://127.0.0.10",
                "https://a.example.com, https://b.example.com",
            ],
        ),
        ("CircleBaseUrl", ["http://127.0.0.1:9"], ["http://example.com", "https://a@b.c", "https://api.circle.com/v1"]),
        ("JwtIssuer", ["https://auth.example.com/"], ["http://auth.example.com", "auth.example.com"]),
        ("JwtAudience", ["a,b"], ["", "a, b", "a,"]),
        ("CircleSourceIps", ["", "10.0.0.1, ::1"], ["10.0.0.0/8", "example.com"]),
        (
            "WebhookApiKeySecretArn",
            ["", REQUIRED["CircleApiKeySecretArn"]],
            ["circle", "arn:aws:secretsmanager:us-east-1:123456789012:secret:circle", "TEST_API_KEY:a:b"],
        ),
        (
            "SubscriptionApiKeySecretArn",
            ["", REQUIRED["CircleApiKeySecretArn"]],
            ["circle", "arn:aws:secretsmanager:us-east-1:123456789012:secret:circle", "TEST_API_KEY:a:b"],
        ),
        ("EventArchiveDays", ["0", "30", "365", "3650"], ["", "-1", "1.5", "030", "3651", "10000"]),
        ("AlarmEmail", ["", "on-call+pin@example.com"], ["example.com", "a@b@c", "a@example.com, b@example.com"]),
        (
            "AlarmTopicArn",
            ["", "arn:aws:sns:us-east-1:123456789012:alarms"],
            ["alarms", "arn:aws:sns:us-east-1:123456789012:alarms.fifo"],
        ),
        ("UserIdClaim", ["https://example.com/circle_user", "custom:circle"], ["", "a b"]),
        (
            "CircleApiKeySecretArn",
            [REQUIRED["CircleApiKeySecretArn"]],
            ["circle", "arn:aws:secretsmanager:us-east-1:123456789012:secret:circle", "TEST_API_KEY:a:b"],
        ),
    ],
)
def test_a_parameter_accepts_good_values_only(template, parameter, good, bad):
    pattern = template["Parameters"][parameter]["AllowedPattern"]
    assert all(re.fullmatch(pattern, value) for value in good)
    assert not any(re.fullmatch(pattern, value) for value in bad)
