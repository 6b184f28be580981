"""The functions of the template, with the settings and the permissions that each of them needs."""

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

# For every function.
COMMON = {"METRICS_NAMESPACE": {"Fn::Sub": "circle-pin-reset/${AWS::StackName}"}}
# OpenTelemetry's.
TRACES = {"OTEL_TRACES_SAMPLER_ARG": {"Ref": "TraceShare"}}
CIRCLE = {
    "CIRCLE_API_KEY_SECRET_ID": SECRET,
    "CIRCLE_BASE_URL": {"Ref": "CircleBaseUrl"},
    "CIRCLE_ENVIRONMENT": {"Ref": "CircleEnvironment"},
    "REQUEST_TIMEOUT_SECONDS": {"Ref": "RequestTimeoutSeconds"},
}
CHALLENGES = {"CHALLENGES_TABLE": CHALLENGES_NAME}
RATE_LIMITS = {"RATE_LIMITS_TABLE": {"Ref": "RateLimitsTable"}}
# The key for hashes of user ids.
USER_HASH = {
    "USER_HASH_KEY": {
        "Fn::If": [
            "OwnsUserHashKey",
            {"Fn::Sub": "{{resolve:secretsmanager:${UserHashKey}}}"},
            {"Fn::Sub": "{{resolve:secretsmanager:${ExistingUserHashKeyArn}}}"},
        ]
    },
}
# Who calls, how log lines name the caller, and how often a user may call.
CALLERS = RATE_LIMITS | USER_HASH | {
    "LOG_USER_IDS": {"Ref": "LogUserIds"},
    "USER_ID_CLAIM": {"Ref": "UserIdClaim"},
    "CALL_BURST": {"Ref": "CallBurst"},
    "CALL_INTERVAL_SECONDS": {"Ref": "CallIntervalSeconds"},
}
COUNT_CALLS = ("dynamodb:UpdateItem", RATE_LIMITS_ARN)
OWN_ACCOUNT_ONLY = {"StringEquals": {"s3:ResourceAccount": {"Ref": "AWS::AccountId"}}}
PUBLIC_KEYS_ONLY = {"ForAllValues:StringEquals": {"dynamodb:LeadingKeys": ["public-keys"]}}

# For each function, its permissions besides reading the API key and writing its log (actions, resources and conditions),
# and its settings besides the common ones and Circle's. announce-challenges has neither the API key nor Circle's settings.
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
        | USER_HASH
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
