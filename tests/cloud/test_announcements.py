"""Events of real runs, from the table's stream through announce-challenges to a queue on the bus."""

import functools
import itertools
import json
import threading
import uuid

import pytest

import deployment
from bus import received, requested
from event_pattern import matches
from processes import until

TYPES = {"CHANGE_PIN": "challenges.changePin", "RESTORE_PIN": "challenges.restorePin"}
CALLS = {"CHANGE_PIN": "/v1/w3s/user/pin", "RESTORE_PIN": "/v1/w3s/user/pin/restore"}
REQUESTED = {"CHANGE_PIN": "PIN Change Requested", "RESTORE_PIN": "PIN Recovery Requested"}
ENDS = {
    "COMPLETE": {"status": "COMPLETE"},
    "FAILED": {"status": "FAILED", "errorCode": 155112, "errorMessage": 'The PIN is "wrong" \\ Zoë'},
    "EXPIRED": {"status": "EXPIRED"},
}
RANKS = {"COMPLETE": {"N": "3"}, "FAILED": {"N": "2"}, "EXPIRED": {"N": "2"}}
FAILURES = {
    "COMPLETE": {"reason": None, "circleCode": None},
    "FAILED": {"reason": "incorrect_pin", "circleCode": 155112},
    "EXPIRED": {"reason": "expired", "circleCode": None},
}


@pytest.fixture
def stream(aws, records):
    """The stream's records of one challenge, in order."""

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


def members(record):
    """What every event about a challenge has."""
    return {"version": 1, **{name: record[name]["S"] for name in ["challengeId", "userId", "type"]}}


def requested_event(record):
    return REQUESTED[record["type"]["S"]], members(record) | {"requestedAt": record["requestedAt"]["S"]}


def settled_event(record):
    status = record["status"]["S"]
    change = {"status": status, **FAILURES[status], "updatedAt": record["updatedAt"]["S"]}
    return "PIN Challenge Settled", members(record) | change


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
    circle, service, user, records, bus, challenge_type, end, order
):
    run = Run(circle, service, user, challenge_type)
    if order[0] != "create":
        run.begin()
    for name in order:
        run.step(end if name == "END" else name)
    record = records.get(run.challenge_id)
    assert (record["status"], record["rank"], record["userId"]) == ({"S": end}, RANKS[end], {"S": user.id})
    assert bus.events(run.challenge_id) == [requested_event(record), settled_event(record)]


@pytest.mark.parametrize("challenge_type", TYPES)
def test_an_open_challenge_is_not_announced_as_settled(circle, service, user, records, bus, challenge_type):
    run = Run(circle, service, user, challenge_type)
    for name in ("create", "IN_PROGRESS"):
        run.step(name)
    user.challenge(run.challenge_id)
    assert bus.events(run.challenge_id) == [requested_event(records.get(run.challenge_id))]


@pytest.mark.parametrize("challenge_type", TYPES)
@pytest.mark.parametrize("order", list(itertools.permutations(["PENDING", "IN_PROGRESS", "COMPLETE"])), ids="-".join)
def test_another_apps_challenge_is_never_announced(circle, service, user, stream, bus, challenge_type, order):
    run = Run(circle, service, user, challenge_type)
    run.challenge_id = str(uuid.uuid4())
    for name in order:
        run.step(name)
    assert stream(run.challenge_id)
    assert bus.events(run.challenge_id) == []


def test_a_challenge_that_a_poll_settles_is_announced_once(circle, user, records, bus):
    circle.lose_webhooks()
    created = user.create_challenge()
    circle.control("POST", f"/challenges/{created['challengeId']}/pin", {"correct": True})
    for _ in range(2):
        user.challenge(created["challengeId"], **{"X-User-Token": created["session"]["userToken"]})
    record = records.get(created["challengeId"])
    assert bus.events(created["challengeId"]) == [requested_event(record), settled_event(record)]


def test_a_challenge_that_reconciliation_settles_is_announced_once(
    aws, circle, service, user, records, bus, overdue
):
    circle.lose_webhooks()
    challenge_id = user.create_challenge()["challengeId"]
    circle.control("POST", f"/challenges/{challenge_id}/pin", {"correct": True})
    overdue(challenge_id)
    alias = service.resource("ReconcileChallengesFunctionAliaslive")
    for _ in range(2):
        deployment.invoke(aws, alias, {})
    record = records.get(challenge_id)
    assert record["settledBy"] == {"S": "reconcile"}
    assert bus.events(challenge_id) == [requested_event(record), settled_event(record)]


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
    circle, service, user, records, bus, order, statuses
):
    run = Run(circle, service, user, "CHANGE_PIN")
    if order[0] != "create":
        run.begin()
    expected = {}
    for name in order:
        run.step(name)
        record = records.get(run.challenge_id)
        if "requestedAt" in record and record["status"]["S"] in ENDS:
            expected[record["status"]["S"]] = settled_event(record)
    assert list(expected) == statuses
    assert bus.events(run.challenge_id) == [requested_event(record), *expected.values()]


@pytest.mark.parametrize("missing", ["userId", "type", "updatedAt"])
def test_an_unreadable_record_is_kept_and_holds_up_no_other(aws, service, records, bus, metrics, missing):
    first, broken, last = (requested(str(uuid.uuid4())) for _ in range(3))
    del broken[missing]
    puts = [{"Put": {"TableName": records.name, "Item": item}} for item in (first, broken, last)]
    aws.client("dynamodb").transact_write_items(TransactItems=puts)
    for good in (first, last):
        assert bus.events(good["challengeId"]["S"]) == [requested_event(good)]
    assert bus.events(broken["challengeId"]["S"]) == []
    # The queue has the whole record.
    queue = service.resource("UnreadableRecordsQueue")
    [kept] = until("the record is on the queue", lambda: received(aws.client("sqs"), queue))
    assert (kept["eventName"], kept["dynamodb"]["NewImage"]) == ("INSERT", broken)
    assert "unreadable_record" in metrics()


@pytest.fixture
def invoke(aws, service):
    """Invokes announce-challenges as an operator does."""

    return functools.partial(deployment.invoke, aws, service.resource("AnnounceChallengesFunctionAliaslive"))


def test_an_operator_publishes_what_records_say_again(circle, service, user, bus, invoke):
    run = Run(circle, service, user, "RESTORE_PIN")
    for name in ("create", "EXPIRED"):
        run.step(name)
    before = bus.events(run.challenge_id)
    unknown = str(uuid.uuid4())
    published, failed = invoke({"challengeIds": [run.challenge_id, unknown]})["challenges"]
    assert published == {"challengeId": run.challenge_id, "published": [detail_type for detail_type, _ in before]}
    assert (failed["challengeId"], failed["published"]) == (unknown, [])
    assert "no requested challenge" in failed["error"]
    assert bus.events(run.challenge_id) == before * 2
    assert len(before) == 2


def test_an_operator_hands_over_a_failed_batch_again(circle, service, user, stream, bus, invoke):
    """The bucket has the batch as Lambda's event. The emulator has no such bucket, so the batch is from the stream."""
    run = Run(circle, service, user, "CHANGE_PIN")
    for name in ("create", "IN_PROGRESS", "FAILED", "COMPLETE"):
        run.step(name)
    before = bus.events(run.challenge_id)
    assert invoke({"Records": stream(run.challenge_id)}) == {"batchItemFailures": []}
    assert bus.events(run.challenge_id) == before * 2
    assert len(before) == 3


def test_changed_pins_reach_the_example_consumer(aws, circle, service, new_user, records):
    """The rule and the queue of the template. It gets nothing else."""
    details = []
    for end, challenge_type in (("FAILED", "CHANGE_PIN"), ("EXPIRED", "CHANGE_PIN"), ("COMPLETE", "RESTORE_PIN")):
        run = Run(circle, service, new_user(), challenge_type)
        for name in ("create", end):
            run.step(name)
    _, changed = settled_event(records.get(run.challenge_id))

    def arrived():
        details.extend(received(aws.client("sqs"), service.resource("PinChangedQueue")))
        return changed in details

    until("the changed PIN is on the queue", arrived)
    assert {detail["status"] for detail in details} == {"COMPLETE"}
    assert details.count(changed) == 1


def test_the_filters_match_as_in_the_emulator(aws, circle, service, user, stream):
    """The emulator's TestEventPattern, not its filters of event source mappings, which `deployment.adapted` changes."""
    run = Run(circle, service, user, "RESTORE_PIN")
    run.begin()
    for name in ("IN_PROGRESS", "FAILED", "create"):
        run.step(name)
    function = deployment.source()["Resources"]["AnnounceChallengesFunction"]["Properties"]
    filters = function["Events"]["Stream"]["Properties"]["FilterCriteria"]["Filters"]
    results = []
    for pattern in [one["Pattern"] for one in filters]:
        for record in stream(run.challenge_id):
            response = aws.client("events").test_event_pattern(EventPattern=pattern, Event=json.dumps(record))
            assert matches(json.loads(pattern), record) == response["Result"], (pattern, record)
            results.append(response["Result"])
    assert (len(results), sum(results)) == (3 * 3, 2)
