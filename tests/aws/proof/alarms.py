"""The alarms, and whether they reach somebody."""

import json
import re

from .deployment import until
from .table import Failed, listing, require


def checks(table, deployment, tests_each):
    table.check("actions of the alarms", actions, deployment)
    table.check("states of the alarms", states, deployment)
    table.check("recipients of the alarms", recipients, deployment)
    if tests_each:
        table.check("test of each alarm", test, deployment)


# Without it, CloudWatch leaves out the composite alarms.
EVERY_TYPE = {"AlarmTypes": ["MetricAlarm", "CompositeAlarm"]}


def described(deployment):
    """The alarms, without those that are only a window of a composite alarm."""
    types = ["AWS::CloudWatch::Alarm", "AWS::CloudWatch::CompositeAlarm"]
    names = [name for one in types for name in deployment.of_type(one).values()]
    require(names, "the stack has no alarms")
    found = []
    for begin in range(0, len(names), 100):
        some = names[begin : begin + 100]
        page = deployment.client("cloudwatch").describe_alarms(AlarmNames=some, MaxRecords=100, **EVERY_TYPE)
        found += page["MetricAlarms"] + page.get("CompositeAlarms", [])
    missing = set(names) - {alarm["AlarmName"] for alarm in found}
    require(not missing, f"deleted: {listing(missing)}")
    return notifying(found)


def notifying(alarms):
    windows = {name for alarm in alarms for name in re.findall(r'ALARM\("([^"]+)"\)', alarm.get("AlarmRule", ""))}
    return [alarm for alarm in alarms if alarm["AlarmName"] not in windows]


def actions(deployment):
    alarms = described(deployment)
    without = [alarm["AlarmName"] for alarm in alarms if not alarm["AlarmActions"] or not alarm["ActionsEnabled"]]
    if len(without) == len(alarms):
        raise Failed(f"none of {len(alarms)} alarms notifies anybody: set AlarmEmail or AlarmTopicArn")
    require(not without, f"without an action: {listing(without)}")
    return f"all {len(alarms)} alarms have one"


def states(deployment):
    on = [alarm["AlarmName"] for alarm in described(deployment) if alarm["StateValue"] == "ALARM"]
    require(not on, f"on: {listing(on)}")
    return "none is on"


def recipients(deployment):
    topics = {
        action for alarm in described(deployment) for action in alarm["AlarmActions"] if action.split(":")[2] == "sns"
    }
    require(topics, "no alarm has a topic")
    confirmed = 0
    for topic in sorted(topics):
        pages = deployment.client("sns").get_paginator("list_subscriptions_by_topic").paginate(TopicArn=topic)
        subscriptions = [one for page in pages for one in page["Subscriptions"]]
        require(subscriptions, f"{topic} has no subscription")
        unconfirmed = unconfirmed_protocols(subscriptions)
        require(not unconfirmed, f"{topic}: not confirmed yet: {', '.join(unconfirmed)}")
        confirmed += len(subscriptions)
    return f"{confirmed} confirmed"


def unconfirmed_protocols(subscriptions):
    """AWS writes PendingConfirmation in the place of the ARN."""
    return [one["Protocol"] for one in subscriptions if not one["SubscriptionArn"].startswith("arn:")]


def test(deployment):
    """Turns each alarm on and off again. CloudWatch then runs its actions, and records whether that worked."""
    client = deployment.client("cloudwatch")
    # An alarm that is on already is left alone: `states` reports it.
    alarms = [alarm for alarm in described(deployment) if alarm["AlarmActions"] and alarm["StateValue"] != "ALARM"]
    require(alarms, "no alarm can be tested")
    names = [alarm["AlarmName"] for alarm in alarms]
    reason = "A test of the alarm's actions. Nothing is wrong."
    try:
        for name in names:
            client.set_alarm_state(AlarmName=name, StateValue="ALARM", StateReason=reason)
        open_ones = set(names)

        def recorded():
            open_ones.difference_update([name for name in open_ones if history(deployment, name)])
            return not open_ones

        until(recorded, deployment.patience)
    finally:
        for name in names:
            client.set_alarm_state(AlarmName=name, StateValue="OK", StateReason=reason)
    require(not open_ones, f"CloudWatch recorded no action of {listing(open_ones)}")
    failures = [failure for name in names for failure in failed_actions(history(deployment, name))]
    require(not failures, listing(failures))
    return f"the actions of {len(names)} alarms succeeded"


def history(deployment, name):
    """The actions of an alarm since the run began."""
    return deployment.client("cloudwatch").describe_alarm_history(
        AlarmName=name,
        HistoryItemType="Action",
        StartDate=deployment.started,
        EndDate=deployment.started + 24 * 3600,
        MaxRecords=100,
        **EVERY_TYPE,
    )["AlarmHistoryItems"]


def failed_actions(items):
    """CloudWatch publishes only in the history that an action failed, for example at an encrypted topic."""
    return [
        one["HistorySummary"]
        for one in items
        if one["HistorySummary"].startswith("Failed")
        or json.loads(one.get("HistoryData") or "{}").get("actionState", "Succeeded") != "Succeeded"
    ]
