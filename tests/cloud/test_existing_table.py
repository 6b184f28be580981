"""A table of challenge records that was restored from a backup, in the place of the stack's own, and what a new stack
takes over from one that was deleted."""

import pytest

from conftest import STACKS
from deployment import Stack, invoke
from test_flow import settled


@pytest.fixture(scope="module")
def stack(aws, parameters, service, request):
    stack = Stack(aws, "restored", dict(parameters))
    request.config.stash[STACKS].append(stack)
    return stack


def restored(aws, table, name):
    """A copy as a restore makes it, with the stream that docs/deploying.md adds. The emulator cannot restore."""
    dynamodb = aws.client("dynamodb")
    source = dynamodb.describe_table(TableName=table)["Table"]
    indexes = [
        {key: index[key] for key in ["IndexName", "KeySchema", "Projection"]}
        for index in source["GlobalSecondaryIndexes"]
    ]
    dynamodb.create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=source["AttributeDefinitions"],
        KeySchema=source["KeySchema"],
        GlobalSecondaryIndexes=indexes,
    )
    for item in dynamodb.scan(TableName=table)["Items"]:
        dynamodb.put_item(TableName=name, Item=item)
    stream = {"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"}
    dynamodb.update_table(TableName=name, StreamSpecification=stream)
    return dynamodb.describe_table(TableName=name)["Table"]["LatestStreamArn"]


def test_the_stack_goes_on_with_a_restored_table(aws, circle, stack, new_user):
    dynamodb = aws.client("dynamodb")
    user = new_user(stack)
    before = user.create_challenge()["challengeId"]
    own = stack.resource("ChallengesTable")
    stack.parameters["ExistingChallengesTableStreamArn"] = restored(aws, own, "restored-challenges")
    stack.deploy("update", "1", "UPDATE_COMPLETE")

    # Every function uses the restored table: the old records are served, and the one that was open is settled.
    dynamodb.delete_item(TableName=own, Key={"challengeId": {"S": before}})
    assert [one["challengeId"] for one in user.call("GET", "/challenges").json()["challenges"]] == [before]
    circle.control("POST", f"/challenges/{before}/pin", {"correct": True})
    assert settled(user, before)["status"] == "COMPLETE"
    after = user.create_challenge("RESTORE_PIN")["challengeId"]
    assert dynamodb.get_item(TableName="restored-challenges", Key={"challengeId": {"S": after}})["Item"]
    # The table that was replaced is kept.
    assert dynamodb.scan(TableName=own)["Items"] == []
    outputs = aws.client("cloudformation").describe_stacks(StackName=stack.name)["Stacks"][0]["Outputs"]
    assert "restored-challenges" in [one["OutputValue"] for one in outputs if one["OutputKey"] == "ChallengesTableName"]
    invoke(aws, stack.resource("ReconcileChallengesFunctionAliaslive"), {})


def log_groups_and_key(aws, stack):
    outputs = aws.client("cloudformation").describe_stacks(StackName=stack.name)["Stacks"][0]["Outputs"]
    values = {one["OutputKey"]: one["OutputValue"] for one in outputs}
    return set(values["AuditLogGroups"].split()), values["UserHashKeyArn"]


def test_a_new_stack_of_the_same_name_adopts_what_outlived_another(aws, request, stack, service, new_user, parameters):
    """The new stack has log groups of its own beside those of the old one."""
    user = new_user(stack)
    challenge_id = user.create_challenge()["challengeId"]
    old_groups, key = log_groups_and_key(aws, stack)
    stack.delete()
    request.config.stash[STACKS].remove(stack)
    stream = aws.client("dynamodb").describe_table(TableName="restored-challenges")["Table"]["LatestStreamArn"]
    secret = aws.client("secretsmanager").get_secret_value(SecretId=key)
    existing = {"ExistingChallengesTableStreamArn": stream, "ExistingUserHashKeyArn": secret["ARN"]}
    adopted = Stack(aws, stack.name, {**parameters, **existing})
    request.config.stash[STACKS].append(adopted)
    user.service = adopted
    assert user.challenge(challenge_id)["status"] == "PENDING"
    groups, adopted_key = log_groups_and_key(aws, adopted)
    assert len(groups) == 3 and not groups & old_groups and adopted_key == secret["ARN"]
    name = adopted.resource("CreateTokenFunction")
    variables = aws.client("lambda").get_function_configuration(FunctionName=name)["Environment"]["Variables"]
    assert variables["USER_HASH_KEY"] == secret["SecretString"]
