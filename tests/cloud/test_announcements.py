"""The events of real runs, made from the table's stream: one for each final status, one for each recovery."""

import itertools
import json
import threading
import uuid

import pytest

import deployment
from announcements import Pipe, matches
from processes import until

TYPES = {"CHANGE_PIN": "challenges.changePin", "RESTORE_PIN": "challenges.restorePin"}
CALLS = {"CHANGE_PIN": "/v1/w3s/user/pin", "RESTORE_PIN": "/v1/w3s/user/pin/restore"}
ENDS = {
    "COMPLETE": {"status": "COMPLETE"},
    "FAILED": {"status": "FAILED", "errorCode": 155112, "errorMessage": 'The PIN is "wrong" \\ Zoë'},
    "EXPIRED": {"status": "EXPIRED"},
}
RANKS = {"COMPLETE": {"N": "3"}, "FAILED": {"N": "2"}, "EXPIRED": {"N": "2"}}
# An event has an empty string for each missing attribute.
FAILURES = {
    "COMPLETE": {"reason": "", "circleCode": ""},
    "FAILED": {"reason": "incorrect_pin", "circleCode": "155112"},
    "EXPIRED": {"reason": "expired", "circleCode": ""},
}


@pytest.fixture(scope="module")
def pipes():
    resources = deployment.source()["Resources"]
    return {name: Pipe(one) for name, one in resources.items() if one["Type"] == "AWS::Pipes::Pipe"}


@pytest.fixture
def stream(aws, records):
    """The stream's records of one challenge, in order, as a pipe reads them."""

    def of(challenge_id):
        client = aws.client("dynamodbstreams")
        arn = aws.client("dynamodb").describe_table(TableName=records.name)["Table"]["LatestStreamArn"]
        found = []
        for shard in client.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"]:
            iterator = client.get_shard_iterator(
                StreamArn=arn, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
            )["ShardIterator"]
            while iterator:
                page = client.get_records(ShardIterator=iterator)
                found += page["Records"]
                iterator = page.get("NextShardIterator") if page["Records"] else None
        found = [one for one in found if one["dynamodb"]["Keys"]["challengeId"]["S"] == challenge_id]
        return json.loads(json.dumps(found, default=str))

    return of


@pytest.fixture
def announced(stream, pipes):
    """The events of the two pipes for one challenge."""

    def of(challenge_id):
        found = stream(challenge_id)
        return pipes["SettledPipe"].events(found), pipes["RecoveryPipe"].events(found)

    return of


def settled_event(record, user_id):
    return {
        "challengeId": record["challengeId"]["S"],
        "userId": user_id,
        "type": record["type"]["S"],
        "status": record["status"]["S"],
        **FAILURES[record["status"]["S"]],
        "updatedAt": record["updatedAt"]["S"],
    }


def recovery_event(record, user_id):
    return {
        "challengeId": record["challengeId"]["S"],
        "userId": user_id,
        "type": "RESTORE_PIN",
        "requestedAt": record["requestedAt"]["S"],
    }


class Run:
    """One challenge, whose writes happen in any order.

    Circle's own webhooks are lost, and the test sends them instead. If one of them comes before the creation, Circle's
    response to the creation is delayed.
    """

    def __init__(self, circle, service, user, challenge_type):
        self.circle = circle
        self.service = service
        self.user = user
        self.type = challenge_type
        self.challenge_id = None
        self.notification_ids = {}

    def begin(self):
        """Circle creates the challenge, but delays its response by a minute of its own clock."""
        self.circle.lose_webhooks()
        fault = {"method": "PUT" if self.type == "CHANGE_PIN" else "POST", "path": CALLS[self.type]}
        self.circle.control("POST", "/faults", {**fault, "delayMs": 60_000, "afterEffect": True})
        self.responses = []
        headers = {"Idempotency-Key": str(uuid.uuid4())}

        def create():
            self.responses.append(self.user.call("POST", "/challenges", {"type": self.type}, headers))

        self.creation = threading.Thread(target=create)
        self.creation.start()
        [challenge] = until("Circle has created the challenge", lambda: self.circle.challenges(self.user.id))
        self.challenge_id = challenge["id"]
        self.circle.lose_webhooks(False)

    def step(self, name):
        if name == "create":
            if self.challenge_id is None:
                self.circle.lose_webhooks()
                self.challenge_id = self.user.create_challenge(self.type)["challengeId"]
                self.circle.lose_webhooks(False)
            else:
                self.circle.control("POST", "/clock/advance", {"seconds": 60})
                self.creation.join(timeout=20)
                [response] = self.responses
                assert response.status == 201, response.data
        else:
            self.notify(name)

    def notify(self, name):
        notification_id = self.notification_ids.setdefault(name, str(uuid.uuid4()))
        before = len(self.circle.deliveries(self.service.webhook_url, self.challenge_id))
        notification = {
            "id": self.challenge_id,
            "userId": self.user.id,
            "type": self.type,
            "correlationIds": [],
            "errorCode": 0,
            "errorMessage": "",
            **ENDS.get(name, {"status": name}),
        }
        message = {
            "notificationType": TYPES[self.type],
            "notification": notification,
            "notificationId": notification_id,
        }
        self.circle.control("POST", "/webhooks", message)
        deliveries = until(
            "the webhook is delivered",
            lambda: (now := self.circle.deliveries(self.service.webhook_url, self.challenge_id))[before:] and now,
        )
        assert deliveries[-1]["status"] == 200


ORDERS = [
    order
    for writes in (["create", "END"], ["create", "PENDING", "IN_PROGRESS", "END"], ["create", "END", "END"])
    for order in sorted(set(itertools.permutations(writes)))
]


@pytest.mark.parametrize(
    "challenge_type,end", [("CHANGE_PIN", "COMPLETE"), ("RESTORE_PIN", "FAILED"), ("RESTORE_PIN", "EXPIRED")]
)
@pytest.mark.parametrize("order", ORDERS, ids="-".join)
def test_a_settled_challenge_is_announced_once_in_every_order(
    circle, service, user, records, announced, challenge_type, end, order
):
    run = Run(circle, service, user, challenge_type)
    if order[0] != "create":
        run.begin()
    for name in order:
        run.step(end if name == "END" else name)
    record = records.get(run.challenge_id)
    assert (record["status"], record["rank"]) == ({"S": end}, RANKS[end])
    settled, recovery = announced(run.challenge_id)
    assert settled == [settled_event(record, user.id)]
    assert recovery == ([recovery_event(record, user.id)] if challenge_type == "RESTORE_PIN" else [])


@pytest.mark.parametrize("challenge_type", TYPES)
def test_an_open_challenge_is_not_announced_as_settled(circle, service, user, records, announced, challenge_type):
    run = Run(circle, service, user, challenge_type)
    for name in ("create", "IN_PROGRESS"):
        run.step(name)
    user.challenge(run.challenge_id)
    settled, recovery = announced(run.challenge_id)
    assert settled == []
    assert len(recovery) == (challenge_type == "RESTORE_PIN")


@pytest.mark.parametrize("challenge_type", TYPES)
@pytest.mark.parametrize("order", list(itertools.permutations(["PENDING", "IN_PROGRESS", "COMPLETE"])), ids="-".join)
def test_another_apps_challenge_is_never_announced(circle, service, user, stream, announced, challenge_type, order):
    run = Run(circle, service, user, challenge_type)
    run.challenge_id = str(uuid.uuid4())
    for name in order:
        run.step(name)
    assert stream(run.challenge_id)
    assert announced(run.challenge_id) == ([], [])


def test_a_challenge_that_a_poll_settles_is_announced_once(circle, user, records, announced):
    circle.lose_webhooks()
    created = user.create_challenge()
    circle.control("POST", f"/challenges/{created['challengeId']}/pin", {"correct": True})
    for _ in range(2):
        user.challenge(created["challengeId"], **{"X-User-Token": created["session"]["userToken"]})
    record = records.get(created["challengeId"])
    assert announced(created["challengeId"]) == ([settled_event(record, user.id)], [])


def test_a_challenge_that_reconciliation_settles_is_announced_once(
    aws, circle, service, user, records, announced, overdue
):
    circle.lose_webhooks()
    challenge_id = user.create_challenge()["challengeId"]
    circle.control("POST", f"/challenges/{challenge_id}/pin", {"correct": True})
    for _ in range(2):
        if not announced(challenge_id)[0]:
            overdue(challenge_id)
        aws.client("lambda").invoke(FunctionName=service.resource("ReconcileChallengesFunction"), Payload=b"{}")
    assert announced(challenge_id) == ([settled_event(records.get(challenge_id), user.id)], [])


@pytest.mark.parametrize(
    "order,statuses",
    [
        (("create", "FAILED", "EXPIRED"), ["FAILED"]),
        (("create", "COMPLETE", "FAILED", "EXPIRED"), ["COMPLETE"]),
        (("create", "FAILED", "COMPLETE", "EXPIRED"), ["FAILED", "COMPLETE"]),
        (("FAILED", "create", "COMPLETE"), ["FAILED", "COMPLETE"]),
        (("EXPIRED", "COMPLETE", "create"), ["COMPLETE"]),
    ],
    ids=lambda value: "-".join(value),
)
def test_only_complete_is_announced_after_another_final_status(
    circle, service, user, records, announced, order, statuses
):
    run = Run(circle, service, user, "CHANGE_PIN")
    if order[0] != "create":
        run.begin()
    expected = {}
    for name in order:
        run.step(name)
        record = records.get(run.challenge_id)
        if "requestedAt" in record and record["status"]["S"] in ENDS:
            expected[record["status"]["S"]] = settled_event(record, user.id)
    assert list(expected) == statuses
    assert announced(run.challenge_id) == (list(expected.values()), [])


def test_changed_pins_reach_the_example_consumer(aws, circle, service, new_user, pipes, stream):
    """The rule and the queue, with events that the pipes make of real runs."""
    changed = []
    for end, challenge_type in (("FAILED", "CHANGE_PIN"), ("COMPLETE", "RESTORE_PIN"), ("EXPIRED", "CHANGE_PIN")):
        run = Run(circle, service, new_user(), challenge_type)
        for name in ("create", end):
            run.step(name)
        for pipe in pipes.values():
            for detail in pipe.events(stream(run.challenge_id)):
                changed += [detail] if detail.get("status") == "COMPLETE" else []
                entry = {
                    "EventBusName": service.resource("EventBus"),
                    "Source": pipe.bus["Source"],
                    "DetailType": pipe.bus["DetailType"],
                    "Detail": json.dumps(detail),
                }
                assert aws.client("events").put_events(Entries=[entry])["FailedEntryCount"] == 0
    sqs = aws.client("sqs")
    received = []
    for _ in range(3):
        response = sqs.receive_message(
            QueueUrl=service.resource("PinChangedQueue"), MaxNumberOfMessages=10, WaitTimeSeconds=1
        )
        received += [json.loads(message["Body"]) for message in response.get("Messages", [])]
    assert received == changed
    assert len(changed) == 1


def test_the_filters_match_as_in_the_emulator(aws, circle, service, user, pipes, stream):
    run = Run(circle, service, user, "RESTORE_PIN")
    run.begin()
    for name in ("IN_PROGRESS", "FAILED", "create"):
        run.step(name)
    events = aws.client("events")
    compared = 0
    for pipe in pipes.values():
        for pattern in pipe.patterns:
            for record in stream(run.challenge_id):
                response = events.test_event_pattern(EventPattern=pattern, Event=json.dumps(record))
                assert matches(json.loads(pattern), record) == response["Result"], (pattern, record)
                compared += 1
    assert compared == 5 * 3
