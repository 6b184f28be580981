"""What each role, policy and resource policy of the template grants, and who may assume a role."""

from functions import FUNCTIONS, OWN_SECRETS, SECRET, TRACE, listed, logical


def allowed(statement):
    """The actions, resources and conditions that one statement of a policy allows."""
    assert statement["Effect"] == "Allow" and set(statement) <= {"Sid", "Effect", "Action", "Resource", "Condition"}
    actions, resources = listed(statement["Action"]), listed(statement["Resource"])
    return [(action, what, statement.get("Condition")) for action in actions for what in resources]


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
