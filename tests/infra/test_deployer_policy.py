"""infra/deployer-policy.json, with which CloudFormation can manage each resource, and infra/stack-policy.json."""

import json
import re
from fnmatch import fnmatchcase

import pytest
from cfnlint.schema.manager import PROVIDER_SCHEMA_MANAGER

from conftest import ROOT
from functions import listed

POLICY = ROOT / "infra" / "deployer-policy.json"

# An ARN for the resources of each type in a stack that is called circle-pin-reset.
PLACE = "us-east-1:123456789012"
ARNS = {
    "AWS::ApiGatewayV2::Api": "arn:aws:apigateway:us-east-1::/apis/a1b2",
    "AWS::ApiGatewayV2::ApiMapping": "arn:aws:apigateway:us-east-1::/domainnames/pin.example.com/apimappings/a1",
    "AWS::ApiGatewayV2::DomainName": "arn:aws:apigateway:us-east-1::/domainnames/pin.example.com",
    "AWS::ApiGatewayV2::Stage": "arn:aws:apigateway:us-east-1::/apis/a1b2/stages/$default",
    "AWS::CloudWatch::Alarm": f"arn:aws:cloudwatch:{PLACE}:alarm:circle-pin-reset-Alarm-A1",
    "AWS::CloudWatch::CompositeAlarm": f"arn:aws:cloudwatch:{PLACE}:alarm:circle-pin-reset-Alarm-A1",
    "AWS::CloudWatch::Dashboard": "arn:aws:cloudwatch::123456789012:dashboard/circle-pin-reset",
    "AWS::CodeDeploy::Application": f"arn:aws:codedeploy:{PLACE}:application:circle-pin-reset-Application-A1",
    "AWS::CodeDeploy::DeploymentGroup": f"arn:aws:codedeploy:{PLACE}:deploymentgroup:circle-pin-reset-A1/group",
    "AWS::DynamoDB::Table": f"arn:aws:dynamodb:{PLACE}:table/circle-pin-reset-Table-A1",
    "AWS::Events::Archive": f"arn:aws:events:{PLACE}:archive/circle-pin-reset",
    "AWS::Events::EventBus": f"arn:aws:events:{PLACE}:event-bus/circle-pin-reset",
    "AWS::Events::EventBusPolicy": f"arn:aws:events:{PLACE}:event-bus/circle-pin-reset",
    "AWS::Events::Rule": f"arn:aws:events:{PLACE}:rule/circle-pin-reset/circle-pin-reset-Rule-A1",
    "AWS::IAM::ManagedPolicy": "arn:aws:iam::123456789012:policy/circle-pin-reset-Policy-A1",
    "AWS::IAM::Role": "arn:aws:iam::123456789012:role/circle-pin-reset-Role-A1",
    "AWS::Lambda::Alias": f"arn:aws:lambda:{PLACE}:function:circle-pin-reset-Function-A1:live",
    "AWS::Lambda::EventInvokeConfig": f"arn:aws:lambda:{PLACE}:function:circle-pin-reset-Function-A1",
    "AWS::Lambda::EventSourceMapping": f"arn:aws:lambda:{PLACE}:event-source-mapping:5e4ae8f1",
    "AWS::Lambda::Function": f"arn:aws:lambda:{PLACE}:function:circle-pin-reset-Function-A1",
    "AWS::Lambda::Permission": f"arn:aws:lambda:{PLACE}:function:circle-pin-reset-Function-A1",
    "AWS::Lambda::Version": f"arn:aws:lambda:{PLACE}:function:circle-pin-reset-Function-A1:1",
    "AWS::Logs::LogGroup": f"arn:aws:logs:{PLACE}:log-group:/aws/lambda/circle-pin-reset-function:*",
    "AWS::Logs::MetricFilter": f"arn:aws:logs:{PLACE}:log-group:circle-pin-reset-LogGroup-A1:*",
    "AWS::Route53::RecordSet": "arn:aws:route53:::hostedzone/Z1",
    "AWS::S3::Bucket": "arn:aws:s3:::circle-pin-reset-bucket-a1",
    "AWS::S3::BucketPolicy": "arn:aws:s3:::circle-pin-reset-bucket-a1",
    "AWS::SNS::Subscription": f"arn:aws:sns:{PLACE}:circle-pin-reset-Topic-A1:5e4ae8f1",
    "AWS::SNS::Topic": f"arn:aws:sns:{PLACE}:circle-pin-reset-Topic-A1",
    "AWS::SNS::TopicPolicy": f"arn:aws:sns:{PLACE}:circle-pin-reset-Topic-A1",
    "AWS::SQS::Queue": f"arn:aws:sqs:{PLACE}:circle-pin-reset-Queue-A1",
    "AWS::SQS::QueuePolicy": f"arn:aws:sqs:{PLACE}:circle-pin-reset-Queue-A1",
    "AWS::SecretsManager::Secret": f"arn:aws:secretsmanager:{PLACE}:secret:circle-pin-reset/user-hash-key-51af-A1b2C3",
    "AWS::Scheduler::Schedule": f"arn:aws:scheduler:{PLACE}:schedule/default/circle-pin-reset-schedule",
}
ROLE = ARNS["AWS::IAM::Role"]

# What CloudFormation's schemas list for features that the template does not use.
UNUSED = [
    # Other services that a resource can refer to.
    r".* (kms|ec2|elasticfilesystem|firehose|kinesis|s3files|s3tables):.*",
    # Code or definitions in S3, and rare settings of buckets.
    r".* s3:(getObject|REST.*|.*Object.*|.*Acl|.*Accelerate.*|.*Abac|.*Annotation.*|.*Inventory.*|.*Journal.*)",
    r".* secretsmanager:(ReplicateSecretToRegions|RemoveRegionsFromReplication)",
    # Imports and replicas of tables.
    r"AWS::DynamoDB::Table (logs|s3):.*",
    r".* dynamodb:(.*Replica|.*Item|Query|Scan|.*Import.*|.*KinesisStreamingDestination)",
    r".* iam:((Attach|Detach)(Group|User)Policy|CreateServiceLinkedRole)",
    r".* lambda:(GetLayerVersion|PassCapacityProvider|GetCodeSigningConfig)",
    r".* codedeploy:RegisterOnPremisesInstance",
]


@pytest.fixture(scope="module")
def statements():
    policy = json.loads(POLICY.read_text())
    # IAM counts no white space.
    assert len(re.sub(r"\s", "", POLICY.read_text())) <= 6144
    return policy["Statement"]


def allows(statements, action, arn):
    return any(
        any(fnmatchcase(action.lower(), pattern.lower()) for pattern in listed(statement["Action"]))
        and any(fnmatchcase(arn, pattern) for pattern in listed(statement["Resource"]))
        for statement in statements
    )


def arn_for(action, own):
    """The resource that an action is about, which can be of another type than the one that is deployed."""
    if action.startswith("iam:") and "Role" in action:
        return ROLE
    if action.startswith("codedeploy:"):
        return ARNS["AWS::CodeDeploy::DeploymentGroup"]
    if action.startswith("logs:") and not own.startswith("arn:aws:logs:"):
        return "*"
    return own


def test_cloudformation_may_create_change_and_delete_each_resource(statements, deployed):
    types = {resource["Type"] for resource in deployed.values() if not resource["Type"].startswith("Custom::")}
    assert types <= set(ARNS), types - set(ARNS)
    missing = set()
    for kind in ARNS:
        handlers = PROVIDER_SCHEMA_MANAGER.get_resource_schema("us-east-1", kind).schema.get("handlers", {})
        needed = {action for name, one in handlers.items() if name != "list" for action in one["permissions"]}
        assert needed, kind
        own = ARNS[kind]
        for action in needed:
            if any(re.fullmatch(unused, f"{kind} {action}") for unused in UNUSED):
                continue
            if not allows(statements, action, arn_for(action, own)):
                missing.add((kind, action))
    assert sorted(missing) == []


def test_custom_resources_access_logs_and_dynamic_references_are_possible(statements):
    """No schema lists the permissions that CloudFormation needs for them."""
    assert allows(statements, "secretsmanager:GetSecretValue", ARNS["AWS::SecretsManager::Secret"])
    assert allows(statements, "lambda:InvokeFunction", ARNS["AWS::Lambda::Function"])
    # https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-logging.html
    for action in ["CreateLogDelivery", "PutResourcePolicy", "UpdateLogDelivery", "DeleteLogDelivery"]:
        assert allows(statements, f"logs:{action}", "*")
    log_group = f"arn:aws:logs:{PLACE}:log-group:/aws/vendedlogs/circle-pin-reset"
    for action in ["CreateLogGroup", "DescribeLogGroups", "DescribeResourcePolicies", "GetLogDelivery"]:
        assert allows(statements, f"logs:{action}", log_group)


def test_composite_alarms_can_be_written_and_read(statements):
    """CloudWatch accepts permissions of composite alarms only if they are for every alarm."""
    proof = json.loads((ROOT / "tests" / "aws" / "policy.json").read_text())["Statement"]
    assert allows(statements, "cloudwatch:PutCompositeAlarm", "*") and allows(statements, "cloudwatch:DescribeAlarms", "*")
    for action in ["DescribeAlarms", "DescribeAlarmHistory"]:
        assert allows(proof, f"cloudwatch:{action}", "*"), action


def test_the_layer_of_a_collector_can_be_used(statements):
    """Lambda checks that the deployer may read a layer, also one of another account."""
    layer = "arn:aws:lambda:us-east-1:123456789012:layer:aws-otel-collector-arm64-ver-1:2"
    assert allows(statements, "lambda:GetLayerVersion", layer)
    assert not allows(statements, "lambda:DeleteLayerVersion", layer)


@pytest.mark.parametrize(
    "name",
    [
        "aws-sam-cli-managed-default-samclisourcebucket-a1/5e4ae8f1",
        "circle-pin-reset-123456789012-us-east-1/circle-pin-reset/create-token-5e4ae8f1.zip",
        "circle-pin-reset-123456789012-us-east-1/5e4ae8f1.template",
    ],
)
def test_packages_can_be_uploaded_by_both_command_lines(statements, name):
    for action in ["s3:PutObject", "s3:GetObject"]:
        assert allows(statements, action, f"arn:aws:s3:::{name}")


@pytest.mark.parametrize(
    "action,arn",
    [
        ("secretsmanager:GetSecretValue", f"arn:aws:secretsmanager:{PLACE}:secret:circle-pin-reset/api-key-A1b2C3"),
        ("dynamodb:GetItem", ARNS["AWS::DynamoDB::Table"]),
        ("dynamodb:Scan", ARNS["AWS::DynamoDB::Table"]),
        ("s3:GetObject", "arn:aws:s3:::circle-pin-reset-failedrecordsbucket-a1/aws/lambda/record"),
        ("sqs:ReceiveMessage", ARNS["AWS::SQS::Queue"]),
        ("dynamodb:DeleteTable", f"arn:aws:dynamodb:{PLACE}:table/other"),
        ("lambda:UpdateFunctionCode", f"arn:aws:lambda:{PLACE}:function:other"),
        ("iam:PassRole", "arn:aws:iam::123456789012:role/admin"),
        ("iam:CreateUser", "arn:aws:iam::123456789012:user/circle-pin-reset-user"),
        ("cloudformation:DeleteStack", f"arn:aws:cloudformation:{PLACE}:stack/other/5e4ae8f1"),
        ("cognito-idp:CreateUserPool", "*"),
    ],
)
def test_the_deployer_may_not(statements, action, arn):
    assert not allows(statements, action, arn)


def test_roles_are_passed_to_the_services_that_use_them_only(statements, deployed):
    [passing] = [statement for statement in statements if "iam:PassRole" in statement["Action"]]
    trusted = {
        service
        for role in deployed.values()
        if role["Type"] == "AWS::IAM::Role"
        for one in role["Properties"]["AssumeRolePolicyDocument"]["Statement"]
        for service in listed(one["Principal"]["Service"])
    }
    allowed = passing["Condition"]["StringEquals"]["iam:PassedToService"]
    assert trusted <= set(allowed) <= {"lambda.amazonaws.com", "scheduler.amazonaws.com", "codedeploy.amazonaws.com"}


def test_every_role_can_have_a_permissions_boundary(deployed):
    nothing = {"Ref": "AWS::NoValue"}
    boundary = {"Fn::If": ["HasPermissionsBoundary", {"Ref": "PermissionsBoundaryArn"}, nothing]}
    for name, resource in deployed.items():
        if resource["Type"] == "AWS::IAM::Role":
            assert resource["Properties"].get("PermissionsBoundary") == boundary, name


def test_the_stack_policy_protects_what_outlives_the_stack(template):
    [allowed, denied] = json.loads((ROOT / "infra" / "stack-policy.json").read_text())["Statement"]
    assert (allowed["Effect"], allowed["Action"], allowed["Resource"]) == ("Allow", "Update:*", "*")
    assert (denied["Effect"], denied["Action"]) == ("Deny", ["Update:Replace", "Update:Delete"])
    kept = {name for name, one in template["Resources"].items() if one.get("DeletionPolicy", "Delete") != "Delete"}
    assert set(denied["Resource"]) == {f"LogicalResourceId/{name}" for name in kept}
