"""The records that the pipes select, for every order in which a challenge's record can be written.

The writes are those of `challenge_store`. A report (from a webhook, a poll or reconciliation) is applied if the rank
rises. A creation is written if the record is not final, or if it is final and was not requested before. The final ranks
are 2 (FAILED or EXPIRED) and 3 (COMPLETE).
"""

import copy
import itertools
import json

import pytest

CREATE = "create"
REMOVE = "time to live"
# Any other write, such as the claim of a check.
TOUCH = "touch"
# Reports from Circle, by the rank of their status. The same one twice is a repeat.
REPORTS = [0, 1, 2, 3]


def matches(pattern, event):
    """EventBridge's filtering as far as the patterns use it: literals, and whether a leaf exists."""
    for key, wanted in pattern.items():
        value = event.get(key) if isinstance(event, dict) else None
        if isinstance(wanted, dict):
            if not matches(wanted, value if value is not None else {}):
                return False
        elif not any((value is not None) is one["exists"] if isinstance(one, dict) else value == one for one in wanted):
            return False
    return True


def filters(template, pipe):
    parameters = template["Resources"][pipe]["Properties"]["SourceParameters"]
    return [json.loads(one["Pattern"]) for one in parameters["FilterCriteria"]["Filters"]]


def selected(patterns, stream):
    return [record for record in stream if any(matches(pattern, record) for pattern in patterns)]


class Table:
    """One item, and the stream of its changes."""

    def __init__(self):
        self.item, self.stream, self.writes = None, [], 0

    def write(self, **attributes):
        self.writes += 1
        old, new = self.item, {**(self.item or {"challengeId": {"S": "c"}}), **attributes}
        self.item = new
        # A write without a change makes no record. A repeat may still change `updatedAt` and `expiresAt`.
        if new != old:
            self.record("MODIFY" if old else "INSERT", old, new)

    def record(self, name, old, new):
        images = {"OldImage": old, "NewImage": new}
        images = {key: copy.deepcopy(image) for key, image in images.items() if image is not None}
        self.stream.append({"eventName": name, "dynamodb": {"Keys": {"challengeId": {"S": "c"}}, **images}})

    def rank(self):
        return int(self.item["rank"]["N"]) if self.item else None

    def apply(self, rank, challenge_type):
        if self.item is None or self.rank() < rank:
            status = ["PENDING", "IN_PROGRESS", "FAILED", "COMPLETE"][rank]
            report = {"rank": {"N": str(rank)}, "status": {"S": status}, "type": {"S": challenge_type}}
            self.write(**report, updatedAt={"S": str(self.writes)})

    def create(self, challenge_type):
        request = {"userId": {"S": "u"}, "type": {"S": challenge_type}, "expiresAt": {"N": str(self.writes)}}
        requested = (self.item or {}).get("requestedAt", {"S": "t"})
        if self.item is None or self.rank() < 2:
            rank = (self.item or {}).get("rank", {"N": "0"})
            status = (self.item or {}).get("status", {"S": "PENDING"})
            self.write(**request, requestedAt=requested, rank=rank, status=status)
        elif "requestedAt" not in self.item:
            self.write(**request, requestedAt=requested)

    def touch(self):
        if self.item is not None:
            self.write(polledAt={"N": str(self.writes)})

    def expire(self):
        if self.item is not None:
            self.record("REMOVE", self.item, None)
            self.item = None


def histories():
    """Every sequence of up to five writes, followed by the removal of the record."""
    steps = [CREATE, TOUCH, *REPORTS]
    for length in range(1, 6):
        for history in itertools.product(steps, repeat=length):
            yield [*history, REMOVE]


def stream_of(history, challenge_type):
    table = Table()
    for step in history:
        if step == CREATE:
            table.create(challenge_type)
        elif step == TOUCH:
            table.touch()
        elif step == REMOVE:
            table.expire()
        else:
            table.apply(step, challenge_type)
    return table.stream


@pytest.mark.parametrize("challenge_type", ["CHANGE_PIN", "RESTORE_PIN"])
def test_each_final_status_of_a_requested_challenge_is_announced_once(template, challenge_type):
    patterns = filters(template, "SettledPipe")
    for history in histories():
        events = [record["dynamodb"]["NewImage"] for record in selected(patterns, stream_of(history, challenge_type))]
        assert [int(image["rank"]["N"]) for image in events] == final_ranks(history), history
        assert all(image["userId"] == {"S": "u"} for image in events), history


def final_ranks(history):
    """The final ranks that the challenge has had since it was requested."""
    rank, requested, found = 0, False, []
    for step in history:
        rank = max(rank, step) if step in REPORTS else rank
        requested = requested or step == CREATE
        if requested and rank >= 2 and rank not in found:
            found.append(rank)
    return found


@pytest.mark.parametrize("challenge_type", ["CHANGE_PIN", "RESTORE_PIN"])
def test_the_start_of_a_recovery_is_announced_once(template, challenge_type):
    patterns = filters(template, "RecoveryPipe")
    for history in histories():
        events = selected(patterns, stream_of(history, challenge_type))
        expected = 1 if CREATE in history and challenge_type == "RESTORE_PIN" else 0
        assert len(events) == expected, history


def test_the_event_is_json_if_attributes_are_missing(template):
    """A path that leads nowhere becomes an empty string, so every path is in quotes."""
    expected = {
        "SettledPipe": ["challengeId", "userId", "type", "status", "reason", "circleCode", "updatedAt"],
        "RecoveryPipe": ["challengeId", "userId", "type", "requestedAt"],
    }
    for pipe, members in expected.items():
        detail = json.loads(template["Resources"][pipe]["Properties"]["TargetParameters"]["InputTemplate"])
        assert list(detail) == members
        for path in detail.values():
            assert path.startswith("<$.dynamodb.") and path.endswith(">")


@pytest.mark.parametrize("pipe", ["SettledPipe", "RecoveryPipe"])
def test_delivery_is_retried_for_hours(template, pipe):
    stream = template["Resources"][pipe]["Properties"]["SourceParameters"]["DynamoDBStreamParameters"]
    assert stream == {
        "StartingPosition": "TRIM_HORIZON",
        "BatchSize": 10,
        "MaximumRetryAttempts": 100,
        "MaximumRecordAgeInSeconds": 43200,
        "OnPartialBatchItemFailure": "AUTOMATIC_BISECT",
        "DeadLetterConfig": {"Arn": {"Fn::GetAtt": ["UndeliveredEventsQueue", "Arn"]}},
    }


def test_the_stream_has_no_more_than_two_readers(template):
    readers = [
        name
        for name, resource in template["Resources"].items()
        if resource["Type"] == "AWS::Pipes::Pipe"
        and resource["Properties"]["Source"] == {"Fn::GetAtt": ["ChallengesTable", "StreamArn"]}
    ]
    assert readers == ["SettledPipe", "RecoveryPipe"]
    assert not any(resource["Type"] == "AWS::Lambda::EventSourceMapping" for resource in template["Resources"].values())
