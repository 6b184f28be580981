"""A temporary queue that listens to the stack's event bus."""

import json
import re
import time

from .deployment import until
from .table import require

# Seconds after which a rule or a queue is a leftover. No run takes that long.
LEFTOVER_AFTER = 1800
PURPOSE = "Proves a deployment. It can be deleted if no such run is in progress."


class Listener:
    """A queue, and a rule that sends it the events with a given detail. Both are removed at the end."""

    def __init__(self, table, deployment, purpose, detail):
        self.table = table
        self.deployment = deployment
        self.bus = deployment.resource("EventBus")
        self.name = f"proof-{purpose}-{int(time.time())}"
        self.detail = detail
        self.has_rule = False
        self.queue = None
        self.error = None
        self.received = []

    def __enter__(self):
        try:
            self.listen()
        except Exception as error:
            # The check that waits for an event reports it.
            self.error = error
        return self

    def listen(self):
        events, sqs = self.deployment.client("events"), self.deployment.client("sqs")
        rule = events.put_rule(
            Name=self.name,
            EventBusName=self.bus,
            EventPattern=json.dumps({"source": ["circle-pin-reset"], "detail": self.detail}),
            Description=PURPOSE,
            Tags=[{"Key": "purpose", "Value": PURPOSE}],
        )["RuleArn"]
        self.has_rule = True
        queue_name = f"{self.deployment.name}-{self.name}"
        [arn, partition, _, region, account, _] = rule.split(":", 5)
        queue_arn = ":".join([arn, partition, "sqs", region, account, queue_name])
        # The queue has its policy from the beginning: a later change can take a minute.
        policy = queue_policy(queue_arn, "events", rule)
        self.queue = sqs.create_queue(
            QueueName=queue_name,
            Attributes={"MessageRetentionPeriod": "3600", "Policy": policy},
            tags={"purpose": PURPOSE},
        )["QueueUrl"]
        target = {"Id": "queue", "Arn": queue_arn}
        failed = events.put_targets(Rule=self.name, EventBusName=self.bus, Targets=[target])["FailedEntries"]
        require(not failed, f"the rule's target was rejected: {failed}")

    def __exit__(self, *_):
        if self.has_rule or self.queue:
            purpose = self.name.rpartition("-")[0]
            self.table.check(f"removal of {purpose}", remove, self.deployment, self.name, self.queue)

    def event(self, detail_type, challenge_id):
        """The first event of a type about a challenge, or None if there is none in time."""
        if self.error:
            raise self.error
        sqs = self.deployment.client("sqs")

        def found():
            messages = sqs.receive_message(QueueUrl=self.queue, WaitTimeSeconds=2, MaxNumberOfMessages=10)
            self.received += [json.loads(message["Body"]) for message in messages.get("Messages", [])]
            for event in self.received:
                if (event["detail-type"], event["detail"].get("challengeId")) == (detail_type, challenge_id):
                    return event
            return None

        return until(found, self.deployment.patience, interval=0.2)


def queue_policy(queue_arn, service, source_arn):
    """Lets a service of AWS send messages to a queue, for one source, such as a rule."""
    statement = {
        "Effect": "Allow",
        "Principal": {"Service": f"{service}.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": queue_arn,
        "Condition": {"ArnEquals": {"aws:SourceArn": source_arn}},
    }
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def remove(deployment, name, queue):
    """Removes a rule and its queue: the queue even if the rule cannot be removed."""
    events, bus = deployment.client("events"), deployment.resource("EventBus")
    try:
        targets = events.list_targets_by_rule(Rule=name, EventBusName=bus)["Targets"]
        if targets:
            events.remove_targets(Rule=name, EventBusName=bus, Ids=[target["Id"] for target in targets])
        events.delete_rule(Name=name, EventBusName=bus)
    except events.exceptions.ResourceNotFoundException:
        pass
    finally:
        if queue:
            deployment.client("sqs").delete_queue(QueueUrl=queue)
    return "done"


def remove_leftovers(deployment):
    """Removes the rules and queues of earlier runs that were killed."""
    queues = {}
    pages = deployment.client("events").get_paginator("list_rules")
    for page in pages.paginate(EventBusName=deployment.resource("EventBus"), NamePrefix="proof-"):
        queues |= {rule["Name"]: None for rule in page["Rules"]}
    prefix = f"{deployment.name}-"
    for url in deployment.client("sqs").list_queues(QueueNamePrefix=f"{prefix}proof-").get("QueueUrls", []):
        queues[url.rpartition("/")[2].removeprefix(prefix)] = url
    removed = []
    for name, queue in queues.items():
        began = re.fullmatch(r"proof-[a-z]+-(\d+)", name)
        if began and int(began.group(1)) < time.time() - LEFTOVER_AFTER:
            remove(deployment, name, queue)
            removed.append(name)
    return f"removed {', '.join(removed)}" if removed else "none"
