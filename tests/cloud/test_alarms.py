"""The alarms and their topic, and the dashboard, as deployed."""

import json


def described(aws):
    pages = aws.client("cloudwatch").get_paginator("describe_alarms").paginate()
    return [alarm for page in pages for alarm in page["MetricAlarms"]]


def test_alarms_notify_the_email_when_they_begin_and_end(aws, service):
    topic = service.resource("AlarmTopic")
    [subscription] = aws.client("sns").list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"]
    assert (subscription["Protocol"], subscription["Endpoint"]) == ("email", "on-call@example.com")
    alarms = described(aws)
    assert len(alarms) > 20
    # No topic of the operator's is given, so there is one target.
    assert all(alarm["AlarmActions"] == alarm["OKActions"] == [topic] for alarm in alarms)


def test_the_dashboard_is_about_the_resources_of_the_stack(aws, service):
    name = service.resource("Dashboard")
    written = aws.client("cloudwatch").get_dashboard(DashboardName=name)["DashboardBody"]
    assert "${" not in written
    widgets = json.loads(written)["widgets"]
    [shown] = [widget["properties"]["alarms"] for widget in widgets if widget["type"] == "alarm"]
    assert set(shown) <= {alarm["AlarmArn"] for alarm in described(aws)}
    assert service.resource("SubscriptionNotEnabledAlarm") in "".join(shown)
    for resource in ["HttpApi", "ReconcileChallengesFunction", "ChallengesTable"]:
        assert f'"{service.resource(resource)}"' in written, resource
