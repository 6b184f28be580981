"""The alarms and their topic, as deployed."""


def test_alarms_notify_the_email_when_they_begin_and_end(aws, service):
    topic = service.resource("AlarmTopic")
    [subscription] = aws.client("sns").list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"]
    assert (subscription["Protocol"], subscription["Endpoint"]) == ("email", "on-call@example.com")
    pages = aws.client("cloudwatch").get_paginator("describe_alarms").paginate()
    alarms = [alarm for page in pages for alarm in page["MetricAlarms"]]
    assert len(alarms) > 20
    # No topic of the operator's is given, so there is one target.
    assert all(alarm["AlarmActions"] == alarm["OKActions"] == [topic] for alarm in alarms)
