"""What the event bus is told, from the stream's records of real runs: each end once, each started recovery once."""

import itertools
import json
import threading
import uuid

import pytest

import deployment
from announcements import Pipe
from processes import until

TYPES = {"CHANGE_PIN": "challenges.changePin", "RESTORE_PIN": "challenges.restorePin"}
CALLS = {"CHANGE_PIN": "/v1/w3s/user/pin", "RESTORE_PIN": "/v1/w3s/user/pin/restore"}
ENDS = {
    "COMPLETE": {"status": "COMPLETE"},
    "FAILED": {"status": "FAILED", "errorCode": 155112, "errorMessage": 'The PIN is "wrong" \\ Zoë'},
    "EXPIRED": {"status": "EXPIRED"},
}
# As events show it: nothing where there was none.
WHY = {
    "COMPLETE": {"reason": "", "circleCode": ""},
    "FAILED": {"reason": "incorrect_pin", "circleCode": "155112"},
    "EXPIRED": {"reason": "", "circleCode": ""},
}


@pytest.fixture(scope="module")
def pipes():
    resources = deployment.source()["Resources"]
    return {name: Pipe(one) for name, one in resources.items() if one["Type"] == "AWS::Pipes::Pipe"}


@pytest.fixture
def stream(aws, records):
    """The stream's records of one challenge, in order, as a pipe gets them."""

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
    """What the two pipes make of one challenge."""

    def of(challenge_id):
        found = stream(challenge_id)
        return pipes["SettledPipe"].announced(found), pipes["RecoveryPipe"].announced(found)

    return of


def settled_event(record, user_id):
    return {
        "challengeId": record["challengeId"]["S"],
        "userId": user_id,
        "type": record["type"]["S"],
        "status": record["status"]["S"],
        **WHY[record["status"]["S"]],
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
    """One challenge, whose writes come in any order: Circle's answer to its creation is held back where it is late.

    Circle's own webhooks of it are lost, and the test sends them.
    """

    def __init__(self, circle, service, user, challenge_type):
        self.circle = circle
        self.service = service
        self.user = user
        self.type = challenge_type
        self.challenge_id = None
        self.notification_ids = {}

    def begin(self):
        """Circle makes the challenge, and its answer waits for a minute of Circle's time."""
        self.circle.lose_webhooks()
        fault = {"method": "PUT" if self.type == "CHANGE_PIN" else "POST", "path": CALLS[self.type]}
        self.circle.control("POST", "/faults", {**fault, "delayMs": 60_000, "afterEffect": True})
        self.answer = []
        headers = {"Idempotency-Key": str(uuid.uuid4())}

        def create():
            self.answer.append(self.user.call("POST", "/challenges", {"type": self.type}, headers))

        self.creation = threading.Thread(target=create)
        self.creation.start()
        [made] = until("Circle has made the challenge", lambda: self.circle.challenges(self.user.id))
        self.challenge_id = made["id"]
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
                assert [answer.status for answer in self.answer] == [201], self.answer and self.answer[0].data
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
def test_each_end_is_announced_once_in_every_order(
    circle, service, user, records, announced, challenge_type, end, order
):
    run = Run(circle, service, user, challenge_type)
    if order[0] != "create":
        run.begin()
    for name in order:
        run.step(end if name == "END" else name)
    record = records.get(run.challenge_id)
    assert (record["status"], record["rank"]) == ({"S": end}, {"N": "2"})
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


def test_what_a_poll_settles_is_announced_once(circle, user, records, announced):
    circle.lose_webhooks()
    created = user.create_challenge()
    circle.control("POST", f"/challenges/{created['challengeId']}/pin", {"correct": True})
    for _ in range(2):
        user.challenge(created["challengeId"], **{"X-User-Token": created["session"]["userToken"]})
    record = records.get(created["challengeId"])
    assert announced(created["challengeId"]) == ([settled_event(record, user.id)], [])


def test_what_the_look_for_lost_webhooks_settles_is_announced_once(
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


def test_a_second_different_end_is_not_announced(circle, service, user, records, announced):
    run = Run(circle, service, user, "CHANGE_PIN")
    for name in ("create", "FAILED", "COMPLETE", "EXPIRED"):
        run.step(name)
    record = records.get(run.challenge_id)
    assert record["status"] == {"S": "FAILED"}
    assert announced(run.challenge_id) == ([settled_event(record, user.id)], [])


def test_changed_pins_reach_the_example_consumer(aws, circle, service, new_user, pipes, stream):
    """The rule and the queue, fed with what the pipes make of real runs."""
    changed = []
    for end, challenge_type in (("FAILED", "CHANGE_PIN"), ("COMPLETE", "RESTORE_PIN"), ("EXPIRED", "CHANGE_PIN")):
        run = Run(circle, service, new_user(), challenge_type)
        for name in ("create", end):
            run.step(name)
        for pipe in pipes.values():
            for detail in pipe.announced(stream(run.challenge_id)):
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
        answer = sqs.receive_message(
            QueueUrl=service.resource("PinChangedQueue"), MaxNumberOfMessages=10, WaitTimeSeconds=1
        )
        received += [json.loads(message["Body"]) for message in answer.get("Messages", [])]
    assert received == changed
    assert len(changed) == 1


def test_the_filters_are_read_as_the_emulator_reads_them(aws, circle, service, user, pipes, stream):
    run = Run(circle, service, user, "RESTORE_PIN")
    run.begin()
    for name in ("IN_PROGRESS", "FAILED", "create"):
        run.step(name)
    events = aws.client("events")
    compared = 0
    for pipe in pipes.values():
        for pattern in pipe.patterns:
            for record in stream(run.challenge_id):
                answer = events.test_event_pattern(EventPattern=pattern, Event=json.dumps(record))
                only = Pipe.__new__(Pipe)
                only.patterns = [pattern]
                assert only.takes(record) == answer["Result"], (pattern, record)
                compared += 1
    assert compared == 4 * 3
