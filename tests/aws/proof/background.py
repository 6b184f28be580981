"""What runs without a caller: the table's stream, reconciliation, and Circle's webhooks."""

import json
import time

from .table import Failed, NotChecked, require

RECENT = 600
DAY = 24 * 3600


def checks(table, deployment):
    table.check("stream of the table", stream, deployment)
    table.check("schedules", schedules, deployment)
    table.check("run of reconciliation", reconciliation, deployment)
    table.check("webhook received", webhook, deployment)
    table.check("subscription at Circle", subscription, deployment)


def stream(deployment):
    mappings = deployment.of_type("AWS::Lambda::EventSourceMapping")
    require(mappings, "the stack has no event source mapping, so no event is published")
    for uuid in mappings.values():
        mapping = deployment.client("lambda").get_event_source_mapping(UUID=uuid)
        require(mapping["State"] == "Enabled", f"the mapping is {mapping['State']}")
        last = mapping.get("LastProcessingResult", "")
        require("PROBLEM" not in last, last)
    return "the mapping is Enabled"


def schedules(deployment):
    found = {}
    for name in deployment.of_type("AWS::Scheduler::Schedule").values():
        schedule = deployment.client("scheduler").get_schedule(Name=name)
        require(schedule["State"] == "ENABLED", f"{name} is {schedule['State']}")
        found[name] = schedule["ScheduleExpression"]
    return ", ".join(f"{name}: {expression}" for name, expression in found.items())


def reconciliation(deployment):
    group = deployment.resource("ReconcileChallengesLogGroup")
    runs = messages(deployment, group, time.time() - RECENT, "reconciliation run ended")
    if runs:
        when, line = runs[-1]
        return f"{time.time() - when:.0f} s ago{stopped(json.loads(line['summary']))}"
    # It does what the schedule makes it do.
    target = deployment.client("scheduler").get_schedule(Name=f"{deployment.name}-reconcile")["Target"]["Arn"]
    summary = invoke(deployment, target, {})
    if deployment.age() > RECENT:
        raise Failed(f"it runs if it is invoked, but the schedule has not started it for {RECENT // 60} minutes")
    return f"invoked, because the stack is new{stopped(summary)}"


def stopped(summary):
    """Why a run has ended early, if it has."""
    return f", stopped early: {summary['stopped']}" if summary["stopped"] else ""


def webhook(deployment):
    """A webhook that Circle has signed, of this stack's subscription if the stack has one. Circle sends a test when a
    subscription is created. The function logs the subscription only after the signature was verified."""
    group = deployment.resource("ReceiveWebhookLogGroup")
    own = deployment.outputs.get("CircleSubscriptionId")
    periods = [time.time() - DAY]
    if own:
        subscribed = deployment.resources["CircleSubscription"]["LastUpdatedTimestamp"].timestamp()
        periods.append(subscribed - RECENT)
    for since in periods:
        found = [
            (when, line)
            for when, line in messages(deployment, group, since, "webhook accepted")
            if own in (None, line.get("subscription_id"))
        ]
        if found:
            when, line = max(found, key=lambda one: one[0])
            at = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(when))
            return f"the last one at {at}, subscription {line.get('subscription_id')}"
    if own and subscribed > time.time() - int(deployment.parameters["LogRetentionDays"]) * DAY:
        raise Failed(f"no webhook of the subscription {own}, not even Circle's test")
    raise NotChecked("no webhook in the last day; needs a challenge, or another subscription, which Circle tests")


def subscription(deployment):
    """The function that made the subscription asks Circle about it."""
    if "CircleSubscriptionId" not in deployment.outputs:
        raise NotChecked("the stack does not manage its subscription (ManageSubscription)")
    found = invoke(deployment, deployment.resource("ManageSubscriptionFunction"), {"action": "check-subscription"})
    state = found.get("subscription")
    if state == "unknown":
        raise NotChecked("Circle could not be asked; read the log of manage-subscription")
    require(state == "enabled", f"{state}; raise the parameter SubscriptionRevision to repair it")
    return f"{deployment.outputs['CircleSubscriptionId']} is enabled"


def invoke(deployment, function, event):
    """The result of a function."""
    response = deployment.client("lambda").invoke(FunctionName=function, Payload=json.dumps(event).encode())
    result = response["Payload"].read().decode()
    require("FunctionError" not in response, f"the function failed: {result}")
    return json.loads(result)


def messages(deployment, group, since, text):
    """The function's log lines with a message: the time in epoch seconds, and the line."""
    found = []
    for event in deployment.log(group, since, f'{{ $.message = "{text}" }}'):
        if text in event["message"]:
            found.append((event["timestamp"] / 1000, json.loads(event["message"])))
    return found
