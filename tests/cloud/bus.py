"""The events on the bus of a stack, and records of challenges as the service writes them."""

import json
import uuid

from processes import until
from proof.listener import queue_policy


def requested(challenge_id, **attributes):
    """The record of a requested challenge, with what a test needs of it."""
    at = "2026-01-01T12:00:00.123Z"
    texts = {"userId": "cloud-user", "type": "CHANGE_PIN", "status": "PENDING"}
    texts |= dict.fromkeys(["createdAt", "requestedAt", "updatedAt", "checkedAt"], at)
    record = {name: {"S": text} for name, text in {"challengeId": challenge_id, **texts}.items()}
    return record | {"rank": {"N": "0"}} | attributes


class Bus:
    """A rule on the bus that puts each event on a queue."""

    def __init__(self, aws, stack):
        self.sqs, self.dynamodb = aws.client("sqs"), aws.client("dynamodb")
        self.table = stack.resource("ChallengesTable")
        events, name = aws.client("events"), stack.resource("EventBus")
        rule = events.put_rule(
            Name="every-event", EventBusName=name, EventPattern=json.dumps({"source": [{"prefix": ""}]})
        )["RuleArn"]
        self.queue = self.sqs.create_queue(QueueName="every-event")["QueueUrl"]
        attributes = self.sqs.get_queue_attributes(QueueUrl=self.queue, AttributeNames=["QueueArn"])["Attributes"]
        policy = queue_policy(attributes["QueueArn"], "events", rule)
        self.sqs.set_queue_attributes(QueueUrl=self.queue, Attributes={"Policy": policy})
        target = {"Id": "queue", "Arn": attributes["QueueArn"]}
        assert events.put_targets(Rule="every-event", EventBusName=name, Targets=[target])["FailedEntryCount"] == 0
        self.received = []

    def events(self, challenge_id):
        """Every event of a challenge's writes so far, in the order of their arrival: detail-type and detail.

        Lambda reads the stream in order. So these events are there once that of a later write has arrived.
        """
        mark = str(uuid.uuid4())
        self.dynamodb.put_item(TableName=self.table, Item=requested(mark))
        until("the event of a later write arrives", lambda: self.receive() or self.of(mark))
        return self.of(challenge_id)

    def receive(self):
        self.received += received(self.sqs, self.queue)

    def of(self, challenge_id):
        events = [event for event in self.received if event["detail"]["challengeId"] == challenge_id]
        assert all(event["source"] == "circle-pin-reset" for event in events)
        return [(event["detail-type"], event["detail"]) for event in events]


def received(sqs, queue):
    """Takes up to ten messages from a queue. Waits a second if there is none."""
    messages = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10, WaitTimeSeconds=1).get("Messages", [])
    for message in messages:
        sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
    return [json.loads(message["Body"]) for message in messages]
