"""The stream records that announce-challenges gets, for every order in which a challenge's record can be written.

The writes are those of `challenge_store`. A report (from a webhook, a poll or reconciliation) is applied if the rank
rises. A creation is written if the record is not final, or if it is final and was not requested before. The final ranks
are 2 (FAILED or EXPIRED) and 3 (COMPLETE).
"""

import copy
import itertools
import json
import re

from conftest import ROOT
from event_pattern import matches
from functions import CHALLENGES_STREAM

CREATE = "create"
REMOVE = "time to live"
# Any other write, such as the claim of a check.
TOUCH = "touch"
# Reports from Circle, by the rank of their status. The same one twice is a repeat.
STATUSES = ["PENDING", "IN_PROGRESS", "FAILED", "COMPLETE"]
REPORTS = range(len(STATUSES))
# Types of resources that can read a stream.
READERS = {"AWS::Lambda::EventSourceMapping", "AWS::Pipes::Pipe"}


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

    def apply(self, rank):
        if self.item is None or self.rank() < rank:
            self.write(rank={"N": str(rank)}, status={"S": STATUSES[rank]}, updatedAt={"S": str(self.writes)})

    def create(self):
        request = {"userId": {"S": "u"}, "expiresAt": {"N": str(self.writes)}}
        requested = (self.item or {}).get("requestedAt", {"S": "t"})
        if self.item is None or self.rank() < 2:
            rank = (self.item or {}).get("rank", {"N": "0"})
            status = (self.item or {}).get("status", {"S": "PENDING"})
            self.write(**request, requestedAt=requested, rank=rank, status=status)
        elif "requestedAt" not in self.item:
            self.write(**request, requestedAt=requested)

    def touch(self):
        """Polls and checks write to open records only."""
        if self.item is not None and self.rank() < 2:
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


def stream_of(history):
    table = Table()
    for step in history:
        if step == CREATE:
            table.create()
        elif step == TOUCH:
            table.touch()
        elif step == REMOVE:
            table.expire()
        else:
            table.apply(step)
    return table.stream


def events(record):
    """What announce-challenges publishes for a record: that the challenge is requested, and its new final rank."""
    if record["eventName"] == "REMOVE":
        return []
    old, new = (record["dynamodb"].get(image, {}) for image in ("OldImage", "NewImage"))
    if "requestedAt" not in new:
        return []
    rank = int(new["rank"]["N"])
    known = int(old["rank"]["N"]) if "requestedAt" in old else None
    requested = ["requested"] if known is None else []
    return requested + ([rank] if rank >= 2 and (known is None or known < rank) else [])


def expected(history):
    """The request, and the final ranks that the challenge has had since then, in order."""
    rank, found = 0, []
    for step in history:
        rank = max(rank, step) if step in REPORTS else rank
        if step == CREATE and not found:
            found.append("requested")
        if found and rank >= 2 and rank not in found:
            found.append(rank)
    return found


def mapping(deployed):
    return deployed["AnnounceChallengesFunctionStream"]["Properties"]


def test_the_filters_pass_the_records_that_cause_events(deployed):
    patterns = [json.loads(one["Pattern"]) for one in mapping(deployed)["FilterCriteria"]["Filters"]]
    # More need a higher quota.
    assert len(patterns) <= 5
    for history in histories():
        stream = stream_of(history)
        passed = [record for record in stream if any(matches(pattern, record) for pattern in patterns)]
        assert [event for record in passed for event in events(record)] == expected(history), history
        # The filters save every other invocation.
        assert all(events(record) for record in passed), history


def test_the_function_reads_the_stream(deployed):
    properties = dict(mapping(deployed))
    properties.pop("FilterCriteria")
    assert properties == {
        "FunctionName": {"Ref": "AnnounceChallengesFunctionAliaslive"},
        "EventSourceArn": CHALLENGES_STREAM,
        "StartingPosition": "TRIM_HORIZON",
        "BatchSize": 10,
        "MaximumBatchingWindowInSeconds": 0,
        # Events of one challenge stay in order.
        "ParallelizationFactor": 1,
        "FunctionResponseTypes": ["ReportBatchItemFailures"],
        "BisectBatchOnFunctionError": True,
        # The stream keeps records for 24 hours.
        "MaximumRetryAttempts": 100,
        "MaximumRecordAgeInSeconds": 12 * 3600,
        "DestinationConfig": {"OnFailure": {"Destination": {"Fn::GetAtt": ["FailedRecordsBucket", "Arn"]}}},
        # The alarm on the failure destination needs these metrics.
        "MetricsConfig": {"Metrics": ["EventCount"]},
    }


def test_the_stream_has_one_reader(deployed):
    """DynamoDB advises no more than two. One is left to the operator."""
    readers = [name for name, one in deployed.items() if one["Type"] in READERS]
    assert readers == ["AnnounceChallengesFunctionStream"]


def test_the_bucket_of_failed_records(template):
    bucket, policy = (template["Resources"][f"FailedRecordsBucket{suffix}"] for suffix in ("", "Policy"))
    # CloudFormation cannot delete a bucket with objects, and the bucket's policy stays with it.
    for one in (bucket, policy):
        assert one["DeletionPolicy"] == "RetainExceptOnCreate"
        assert one["UpdateReplacePolicy"] == "Retain"
    properties = bucket["Properties"]
    # Names of buckets are global.
    assert "BucketName" not in properties
    [encryption] = properties["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert encryption == {"ServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}
    assert properties["OwnershipControls"] == {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]}
    assert len(properties["PublicAccessBlockConfiguration"]) == 4
    assert all(value is True for value in properties["PublicAccessBlockConfiguration"].values())
    [rule] = properties["LifecycleConfiguration"]["Rules"]
    assert rule == {"Id": "expire", "Status": "Enabled", "ExpirationInDays": 90}
    arn = {"Fn::GetAtt": ["FailedRecordsBucket", "Arn"]}
    assert policy["Properties"]["Bucket"] == {"Ref": "FailedRecordsBucket"}
    assert policy["Properties"]["PolicyDocument"]["Statement"] == [
        {
            "Sid": "RequireTls",
            "Effect": "Deny",
            "Principal": "*",
            "Action": "s3:*",
            "Resource": [arn, {"Fn::Sub": "${FailedRecordsBucket.Arn}/*"}],
            "Condition": {"Bool": {"aws:SecureTransport": "false"}},
        }
    ]


def test_only_the_function_publishes_events(template):
    policy = template["Resources"]["EventBusPolicy"]["Properties"]
    assert policy["EventBusName"] == {"Ref": "EventBus"}
    assert policy["Statement"] == {
        "Effect": "Deny",
        "Principal": "*",
        "Action": "events:PutEvents",
        "Resource": {"Fn::GetAtt": ["EventBus", "Arn"]},
        "Condition": {"ArnNotEquals": {"aws:PrincipalArn": {"Fn::GetAtt": ["AnnounceChallengesRole", "Arn"]}}},
    }


def test_the_archive(template):
    archive = template["Resources"]["EventArchive"]
    assert archive["Condition"] == "ArchivesEvents"
    assert template["Conditions"]["ArchivesEvents"] == {
        "Fn::Not": [{"Fn::Equals": [{"Ref": "EventArchiveDays"}, "0"]}]
    }
    properties = dict(archive["Properties"])
    assert properties.pop("Description")
    # All events of the bus. With a fixed name, a second stack could not be deployed.
    assert properties == {
        "SourceArn": {"Fn::GetAtt": ["EventBus", "Arn"]},
        "RetentionDays": {"Ref": "EventArchiveDays"},
    }


def test_the_example_consumer_is_off_by_default(template):
    assert template["Parameters"]["PinChangedAlerts"]["Default"] == "DISABLED"
    example = {name for name, one in template["Resources"].items() if one.get("Condition") == "AlertsOnChangedPins"}
    assert example == {
        "PinChangedRule",
        "PinChangedQueue",
        "PinChangedQueuePolicy",
        "PinChangedDeadLetterQueue",
        "PinChangedDeadLetterQueuePolicy",
        "UndeliveredAlertsAlarm",
    }


def test_the_documented_events_are_those_of_the_code(facts):
    page = (ROOT / "docs" / "operations.md").read_text().split("\n## Events\n")[1].split("\n### ")[0]
    rows = dict(re.findall(r"^\| `(PIN [\w ]+)` \|.*\| (.*) \|$", page, re.MULTILINE))
    assert sorted(rows) == sorted(facts["eventTypes"])
    [example] = re.findall(r"^```json\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    example = json.loads(example)
    row = re.sub(r"\(.*?\)", "", rows[example["detail-type"]])
    assert list(example["detail"]) == re.findall(r"`(\w+)`", row)


def test_the_example_consumer_gets_changed_pins(template, facts):
    rule = template["Resources"]["PinChangedRule"]["Properties"]
    assert rule["EventBusName"] == {"Ref": "EventBus"}
    assert rule["EventPattern"] == {
        "source": ["circle-pin-reset"],
        "detail-type": ["PIN Challenge Settled"],
        "detail": {"status": ["COMPLETE"]},
    }
    assert set(rule["EventPattern"]["detail-type"]) <= set(facts["eventTypes"])
    [target] = rule["Targets"]
    assert target["Arn"] == {"Fn::GetAtt": ["PinChangedQueue", "Arn"]}
    assert target["RetryPolicy"] == {"MaximumRetryAttempts": 185, "MaximumEventAgeInSeconds": 3600}
    assert target["DeadLetterConfig"] == {"Arn": {"Fn::GetAtt": ["PinChangedDeadLetterQueue", "Arn"]}}


def test_the_alarms_on_events(template):
    alarms = {name: one["Properties"] for name, one in template["Resources"].items() if name.endswith("Alarm")}
    function = [{"Name": "FunctionName", "Value": {"Ref": "AnnounceChallengesFunction"}}]

    def queue(name):
        return [{"Name": "QueueName", "Value": {"Fn::GetAtt": [name, "QueueName"]}}]

    visible = "ApproximateNumberOfMessagesVisible"
    for name, namespace, metric, dimensions, threshold in [
        # Five minutes, in milliseconds.
        ("EventsDelayedAlarm", "AWS/Lambda", "IteratorAge", function, 5 * 60 * 1000),
        ("UnreadableRecordsAlarm", "AWS/SQS", visible, queue("UnreadableRecordsQueue"), 1),
        ("UndeliveredAlertsAlarm", "AWS/SQS", visible, queue("PinChangedDeadLetterQueue"), 1),
    ]:
        alarm = alarms[name]
        assert (alarm["Namespace"], alarm["MetricName"]) == (namespace, metric)
        assert alarm["Dimensions"] == dimensions
        assert (alarm["Statistic"], alarm["Period"], alarm["EvaluationPeriods"]) == ("Maximum", 300, 1)
        assert (alarm["Threshold"], alarm["ComparisonOperator"]) == (threshold, "GreaterThanOrEqualToThreshold")
    # Records that Lambda stopped retrying, whether the bucket got them or not.
    metrics = [one["MetricStat"]["Metric"] for one in alarms["EventsNotPublishedAlarm"]["Metrics"][1:]]
    uuid = [{"Name": "EventSourceMappingUUID", "Value": {"Ref": "AnnounceChallengesFunctionStream"}}]
    assert metrics == [
        {"Namespace": "AWS/Lambda", "MetricName": name, "Dimensions": uuid}
        for name in ["OnFailureDestinationDeliveredEventCount", "DroppedEventCount"]
    ]
    assert alarms["EventsNotPublishedAlarm"]["Threshold"] == 1
