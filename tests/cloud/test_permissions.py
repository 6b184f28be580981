"""Least privilege: a function works with its role, and fails without any one of the permissions."""

import contextlib
import json
import uuid

import pytest

from bus import received, requested
from processes import until

STORAGE = (503, "storage_unavailable")


@pytest.fixture
def without(aws, service):
    """Removes an action from a function's role, for one table or for all resources."""
    iam = aws.client("iam")

    @contextlib.contextmanager
    def without(function, action, table=None):
        role = service.resource(f"{function}Role")
        [name] = iam.list_role_policies(RoleName=role)["PolicyNames"]
        document = iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"]
        arn = table and aws.client("dynamodb").describe_table(TableName=service.resource(table))["Table"]["TableArn"]
        iam.put_role_policy(RoleName=role, PolicyName=name, PolicyDocument=json.dumps(reduced(document, action, arn)))
        try:
            yield
        finally:
            iam.put_role_policy(RoleName=role, PolicyName=name, PolicyDocument=json.dumps(document))

    return without


def reduced(document, action, arn):
    statements = []
    for statement in document["Statement"]:
        actions, resources = many(statement["Action"]), many(statement["Resource"])
        others = [one for one in actions if one != action]
        kept = [one for one in resources if arn not in (None, one)]
        if others:
            statements.append({**statement, "Action": others})
        if action in actions and kept:
            statements.append({**statement, "Action": action, "Resource": kept})
    assert grants(statements) < grants(document["Statement"]), f"the role does not grant {action}"
    return {**document, "Statement": statements}


def grants(statements):
    """The actions and resources that statements allow."""
    return {(action, what) for one in statements for action in many(one["Action"]) for what in many(one["Resource"])}


def many(one_or_more):
    return one_or_more if isinstance(one_or_more, list) else [one_or_more]


def restart(aws, function):
    """Lets the alias point to a new version, whose processes start anew."""
    client = aws.client("lambda")
    client.update_function_configuration(FunctionName=function, Description=str(uuid.uuid4()))
    version = client.publish_version(FunctionName=function)["Version"]
    client.update_alias(FunctionName=function, Name="live", FunctionVersion=version)


def problem(response):
    assert response.headers["content-type"] == "application/problem+json", response.data
    return response.status, response.json()["code"]


@pytest.mark.parametrize("table", ["ChallengesTable", "RateLimitsTable"])
def test_create_challenge_needs_to_write_to_its_tables(user, circle, without, table, metrics):
    with without("CreateChallenge", "dynamodb:UpdateItem", table):
        assert problem(user.call("POST", "/challenges")) == STORAGE
    assert "storage_unavailable" in metrics()
    assert user.create_challenge()["status"] == "PENDING"


@pytest.mark.parametrize(
    "function,method,path", [("CreateToken", "POST", "/session-tokens"), ("GetPin", "GET", "/pin")]
)
def test_a_function_needs_to_count_the_calls_of_a_user(user, without, metrics, function, method, path):
    with without(function, "dynamodb:UpdateItem", "RateLimitsTable"):
        assert problem(user.call(method, path)) == STORAGE
    assert "storage_unavailable" in metrics()
    assert user.call(method, path).status < 300


def test_create_challenge_needs_to_read_the_switch(aws, service, user, without):
    function = service.resource("CreateChallengeFunction")
    with without("CreateChallenge", "dynamodb:GetItem", "RateLimitsTable"):
        # A process that has read the switch keeps its state for a while.
        restart(aws, function)
        assert problem(user.call("POST", "/challenges")) == STORAGE
    assert user.create_challenge()["status"] == "PENDING"


def test_create_challenge_needs_to_read_the_challenge_of_a_repeated_key(user, without):
    headers = {"Idempotency-Key": "0f4ef0b6-6ba1-4c1f-9d6c-0d6d2f6a6a55"}
    assert user.call("POST", "/challenges", headers=headers).status == 201
    with without("CreateChallenge", "dynamodb:GetItem", "ChallengesTable"):
        assert problem(user.call("POST", "/challenges", headers=headers)) == STORAGE
    assert user.call("POST", "/challenges", headers=headers).status == 200


def test_get_challenge_needs_to_count_the_polls_of_a_user(user, without):
    created = user.create_challenge()
    headers = {"X-User-Token": created["session"]["userToken"]}
    with without("GetChallenge", "dynamodb:UpdateItem", "RateLimitsTable"):
        assert user.challenge(created["challengeId"], **headers)["checkError"]["code"] == "storage_unavailable"
    assert "checkError" not in user.challenge(created["challengeId"], **headers)


def test_get_challenge_needs_the_index_of_challenges_by_user(user, without):
    with without("GetChallenge", "dynamodb:Query"):
        assert problem(user.call("GET", "/challenges")) == STORAGE
    assert user.call("GET", "/challenges").status == 200


def test_get_challenge_needs_to_read_records(user, without, metrics):
    challenge_id = user.create_challenge()["challengeId"]
    with without("GetChallenge", "dynamodb:GetItem"):
        assert problem(user.call("GET", f"/challenges/{challenge_id}")) == STORAGE
    assert "storage_unavailable" in metrics()
    assert user.challenge(challenge_id)["status"] == "PENDING"


def test_get_challenge_needs_to_write_the_status_from_circle(user, circle, without):
    circle.lose_webhooks()
    created = user.create_challenge()
    challenge_id, token = created["challengeId"], created["session"]["userToken"]
    circle.control("POST", f"/challenges/{challenge_id}/pin", {"correct": True})
    with without("GetChallenge", "dynamodb:UpdateItem", "ChallengesTable"):
        # If Circle cannot be asked, the function returns the record.
        asked = user.challenge(challenge_id, **{"X-User-Token": token})
        assert (asked["status"], asked["checkError"]["code"]) == ("PENDING", "storage_unavailable")
    assert user.challenge(challenge_id, **{"X-User-Token": token})["status"] == "COMPLETE"


def test_receive_webhook_needs_to_write_records_and_circle_retries(user, circle, service, records, without, metrics):
    circle.lose_webhooks()
    challenge_id = user.create_challenge()["challengeId"]
    circle.lose_webhooks(False)

    def attempts():
        deliveries = circle.deliveries(service.webhook_url, challenge_id)
        return [(one["attempt"], one["status"]) for one in deliveries]

    with without("ReceiveWebhook", "dynamodb:UpdateItem"):
        circle.control("POST", f"/challenges/{challenge_id}/cancel")
        until("the first attempt has failed", attempts)
    assert until("Circle has retried", lambda: (now := attempts())[1:] and now) == [(1, 503), (2, 200)]
    assert records.get(challenge_id)["status"] == {"S": "FAILED"}
    assert "storage_unavailable" in metrics()


def test_receive_webhook_needs_to_store_the_id_of_a_new_key(aws, service, circle, without):
    """Without it, webhooks are still accepted."""

    def new_key():
        circle.control("POST", "/signing-key/rotate")
        challenge_id = str(uuid.uuid4())
        notification = {"id": challenge_id, "type": "CHANGE_PIN", "status": "COMPLETE"}
        circle.control("POST", "/webhooks", {"notificationType": "challenges.changePin", "notification": notification})
        until("Circle has delivered the webhook", lambda: circle.deliveries(service.webhook_url, challenge_id))
        [delivery] = circle.deliveries(service.webhook_url, challenge_id)
        assert (delivery["attempt"], delivery["status"]) == (1, 200)

    def stored():
        table = service.resource("RateLimitsTable")
        item = aws.client("dynamodb").get_item(TableName=table, Key={"limitKey": {"S": "public-keys"}}).get("Item", {})
        return set(item.get("keyIds", {"SS": []})["SS"])

    before = stored()
    with without("ReceiveWebhook", "dynamodb:UpdateItem", "RateLimitsTable"):
        new_key()
        assert stored() == before
    new_key()
    assert len(stored()) == len(before) + 1


def test_receive_webhook_needs_to_read_the_ids_of_keys_in_a_flood(aws, service, without):
    """It reads them when a process starts, and once the process has used up its fetches for ids that it does not know."""

    def failed_reads():
        restart(aws, service.resource("ReceiveWebhookFunction"))
        begin = len(service.log())
        for _ in range(100):
            headers = {"X-Circle-Key-Id": str(uuid.uuid4()), "X-Circle-Signature": "MAYCAQECAQE="}
            if service.call("POST", "/webhooks/circle", None, b"{}", headers).status == 503:
                break
        else:
            pytest.fail("the fetches are not limited")
        return sum("the ids of Circle's keys could not be read" in line for _, _, line in service.log()[begin:])

    with without("ReceiveWebhook", "dynamodb:GetItem", "RateLimitsTable"):
        assert failed_reads() == 2
    assert failed_reads() == 0


def invoked(aws, function, event=()):
    response = aws.client("lambda").invoke(FunctionName=function, Payload=json.dumps(dict(event)))
    return response.get("FunctionError"), json.loads(response["Payload"].read())


def test_reconcile_challenges_needs_the_index(aws, service, without, metrics):
    function = service.resource("ReconcileChallengesFunctionAliaslive")
    with without("ReconcileChallenges", "dynamodb:Query"):
        error, payload = invoked(aws, function)
        assert error == "Unhandled", payload
    assert "check_failed" in metrics()
    error, payload = invoked(aws, function)
    assert error is None, payload


@pytest.mark.parametrize(
    "action,table", [("dynamodb:UpdateItem", "ChallengesTable"), ("dynamodb:GetItem", "RateLimitsTable")]
)
def test_reconcile_challenges_needs_its_tables(aws, circle, service, user, records, overdue, without, action, table):
    """It writes challenge records, and reads when a user was last given a session."""
    circle.lose_webhooks()
    challenge_id = user.create_challenge()["challengeId"]
    circle.control("POST", f"/challenges/{challenge_id}/pin", {"correct": True})
    overdue(challenge_id)
    function = service.resource("ReconcileChallengesFunctionAliaslive")
    with without("ReconcileChallenges", action, table):
        invoked(aws, function)
        assert records.get(challenge_id)["rank"] == {"N": "0"}
    overdue(challenge_id)
    error, payload = invoked(aws, function)
    assert error is None, payload
    assert records.get(challenge_id)["settledBy"] == {"S": "reconcile"}


@pytest.mark.parametrize(
    "function,method,path",
    [
        ("CreateToken", "POST", "/session-tokens"),
        ("CreateChallenge", "POST", "/challenges"),
        ("GetPin", "GET", "/pin"),
    ],
)
def test_a_function_needs_to_read_the_secret(aws, service, user, metrics, function, method, path):
    iam = aws.client("iam")
    role, policy = service.resource(f"{function}Role"), service.resource("FunctionPolicy")
    assert user.call(method, path).status < 300
    iam.detach_role_policy(RoleName=role, PolicyArn=policy)
    try:
        # A process that has read the key keeps using it.
        assert user.call(method, path).status < 300
        restart(aws, service.resource(f"{function}Function"))
        assert problem(user.call(method, path)) == (500, "misconfigured")
        assert "misconfigured" in metrics()
    finally:
        iam.attach_role_policy(RoleName=role, PolicyArn=policy)
        restart(aws, service.resource(f"{function}Function"))
    assert user.call(method, path).status < 300


@pytest.fixture
def announce(aws, service):
    """Invokes announce-challenges as Lambda does for a record of the stream. Returns whether the record failed."""

    def announce(image):
        record = {"eventName": "INSERT", "dynamodb": {"SequenceNumber": "42", "NewImage": image}}
        error, response = invoked(aws, service.resource("AnnounceChallengesFunctionAliaslive"), {"Records": [record]})
        assert error is None, response
        assert response["batchItemFailures"] in ([], [{"itemIdentifier": "42"}])
        return response["batchItemFailures"] != []

    return announce


def test_announce_challenges_needs_to_publish_events(announce, without, metrics):
    image = requested(str(uuid.uuid4()))
    with without("AnnounceChallenges", "events:PutEvents"):
        assert announce(image)
    assert "publish_failed" in metrics()
    assert not announce(image)


def test_announce_challenges_needs_to_keep_unreadable_records(aws, service, announce, without):
    image = requested(str(uuid.uuid4()), type={"S": "UNKNOWN"})
    with without("AnnounceChallenges", "sqs:SendMessage"):
        assert announce(image)
    assert not announce(image)
    queue = service.resource("UnreadableRecordsQueue")
    [kept] = until("the record is on the queue", lambda: received(aws.client("sqs"), queue))
    assert kept["dynamodb"]["NewImage"] == image


def test_announce_challenges_needs_to_read_records_to_publish_again(aws, service, user, without):
    challenge_id = user.create_challenge()["challengeId"]
    function, command = service.resource("AnnounceChallengesFunctionAliaslive"), {"challengeIds": [challenge_id]}
    with without("AnnounceChallenges", "dynamodb:GetItem"):
        [challenge] = invoked(aws, function, command)[1]["challenges"]
        assert challenge["published"] == [] and challenge["error"]
    [challenge] = invoked(aws, function, command)[1]["challenges"]
    assert challenge == {"challengeId": challenge_id, "published": ["PIN Change Requested"]}


def test_lambda_may_read_the_stream_and_store_failed_records(aws, service):
    """The emulator does neither with the role, so this asks its policy simulator, which ignores conditions."""
    iam = aws.client("iam")
    table = aws.client("dynamodb").describe_table(TableName=service.resource("ChallengesTable"))["Table"]
    bucket = f"arn:aws:s3:::{service.resource('FailedRecordsBucket')}"
    role = iam.get_role(RoleName=service.resource("AnnounceChallengesRole"))["Role"]["Arn"]

    def decision(action, resource):
        result = iam.simulate_principal_policy(PolicySourceArn=role, ActionNames=[action], ResourceArns=[resource])
        return result["EvaluationResults"][0]["EvalDecision"]

    for action in ("DescribeStream", "GetRecords", "GetShardIterator", "ListStreams"):
        assert decision(f"dynamodb:{action}", table["LatestStreamArn"]) == "allowed"
    for action, resource in (("s3:PutObject", f"{bucket}/aws/lambda/record"), ("s3:ListBucket", bucket)):
        assert decision(action, resource) == "allowed"
        assert decision(action, resource.replace(bucket, "arn:aws:s3:::another")) == "implicitDeny"
    assert decision("secretsmanager:GetSecretValue", service.parameters["CircleApiKeySecretArn"]) == "implicitDeny"


def queue_arn(aws, url):
    attributes = aws.client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]
    return attributes["QueueArn"]


def test_each_permission_is_tested_above(aws, service):
    """What the roles grant besides logging. A new permission needs a test above that fails without it."""
    iam = aws.client("iam")
    dynamodb = aws.client("dynamodb")
    tables = {"challenges": "ChallengesTable", "rate limits": "RateLimitsTable"}
    names = {
        dynamodb.describe_table(TableName=service.resource(table))["Table"]["TableArn"]: name
        for name, table in tables.items()
    }
    [challenges] = [arn for arn, name in names.items() if name == "challenges"]
    for index in ["open-challenges", "challenges-by-user"]:
        names[f"{challenges}/index/{index}"] = index
    table = dynamodb.describe_table(TableName=service.resource("ChallengesTable"))["Table"]
    bucket = f"arn:aws:s3:::{service.resource('FailedRecordsBucket')}"
    names |= {
        table["LatestStreamArn"]: "stream",
        aws.client("events").describe_event_bus(Name=service.resource("EventBus"))["Arn"]: "bus",
        queue_arn(aws, service.resource("UnreadableRecordsQueue")): "unreadable records",
        bucket: "failed records",
        f"{bucket}/*": "failed records",
    }
    granted = {}
    for function in [
        "CreateToken",
        "CreateChallenge",
        "GetChallenge",
        "GetPin",
        "ReceiveWebhook",
        "ReconcileChallenges",
        "AnnounceChallenges",
        "ManageSubscription",
    ]:
        role = service.resource(f"{function}Role")
        [name] = iam.list_role_policies(RoleName=role)["PolicyNames"]
        statements = iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"]["Statement"]
        granted[function] = {
            (action, names.get(resource, resource))
            for statement in statements
            for action in many(statement["Action"])
            for resource in many(statement["Resource"])
            if not action.startswith("logs:")
        }
        attached = iam.list_attached_role_policies(RoleName=role)["AttachedPolicies"]
        policies = {
            "ReceiveWebhook": ["ReceiveWebhookPolicy"],
            "ManageSubscription": ["ManageSubscriptionPolicy"],
            # It does not read the API key.
            "AnnounceChallenges": [],
        }.get(function, ["FunctionPolicy"])
        assert [one["PolicyArn"] for one in attached] == [service.resource(policy) for policy in policies]
    assert granted == {
        "CreateToken": {("dynamodb:UpdateItem", "rate limits")},
        "CreateChallenge": {
            ("dynamodb:GetItem", "challenges"),
            ("dynamodb:UpdateItem", "challenges"),
            ("dynamodb:GetItem", "rate limits"),
            ("dynamodb:UpdateItem", "rate limits"),
        },
        "GetChallenge": {
            ("dynamodb:GetItem", "challenges"),
            ("dynamodb:UpdateItem", "challenges"),
            ("dynamodb:Query", "challenges-by-user"),
            ("dynamodb:UpdateItem", "rate limits"),
        },
        "GetPin": {("dynamodb:UpdateItem", "rate limits")},
        "ReceiveWebhook": {
            ("dynamodb:UpdateItem", "challenges"),
            ("dynamodb:GetItem", "rate limits"),
            ("dynamodb:UpdateItem", "rate limits"),
        },
        "ReconcileChallenges": {
            ("dynamodb:Query", "open-challenges"),
            ("dynamodb:UpdateItem", "challenges"),
            ("dynamodb:GetItem", "rate limits"),
        },
        "AnnounceChallenges": {
            ("dynamodb:DescribeStream", "stream"),
            ("dynamodb:GetRecords", "stream"),
            ("dynamodb:GetShardIterator", "stream"),
            ("dynamodb:ListStreams", "stream"),
            ("dynamodb:GetItem", "challenges"),
            ("events:PutEvents", "bus"),
            ("sqs:SendMessage", "unreadable records"),
            ("s3:PutObject", "failed records"),
            ("s3:ListBucket", "failed records"),
        },
        "ManageSubscription": set(),
    }
