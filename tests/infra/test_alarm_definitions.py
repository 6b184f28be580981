"""The alarms of the template as they are defined and documented. test_alarms.py evaluates them over simulated traffic."""

import json
import re

import pytest

from conftest import ROOT, alarms
from functions import CHALLENGES_NAME, CHALLENGES_STREAM, FUNCTIONS, logical


def test_every_alarm_notifies_both_targets_when_it_begins_and_ends(template):
    targets = [
        {"Fn::If": ["HasAlarmEmail", {"Ref": "AlarmTopic"}, {"Ref": "AWS::NoValue"}]},
        {"Fn::If": ["HasAlarmTopic", {"Ref": "AlarmTopicArn"}, {"Ref": "AWS::NoValue"}]},
    ]
    conditions = template["Conditions"]
    assert conditions["HasAlarmEmail"] == {"Fn::Not": [{"Fn::Equals": [{"Ref": "AlarmEmail"}, ""]}]}
    assert conditions["HasAlarmTopic"] == {"Fn::Not": [{"Fn::Equals": [{"Ref": "AlarmTopicArn"}, ""]}]}
    for name, properties in alarms(template).items():
        assert properties["AlarmActions"] == targets, name
        assert properties["OKActions"] == targets, name
        assert properties.get("ActionsEnabled", True) is True, name
        assert len(properties["AlarmDescription"]) > 40, name
        expected = "breaching" if name == "ReconcileMissingAlarm" else "notBreaching"
        assert properties["TreatMissingData"] == expected, name


def test_the_alarm_email_has_a_topic_that_alarms_can_use(template):
    resources = template["Resources"]
    names = ["AlarmTopic", "AlarmSubscription", "AlarmTopicPolicy"]
    assert all(resources[name]["Condition"] == "HasAlarmEmail" for name in names)
    # Alarms cannot publish to a topic with the key alias/aws/sns.
    assert "KmsMasterKeyId" not in resources["AlarmTopic"]["Properties"]
    assert resources["AlarmTopicPolicy"]["Properties"]["Topics"] == [{"Ref": "AlarmTopic"}]
    assert resources["AlarmSubscription"]["Properties"] == {
        "TopicArn": {"Ref": "AlarmTopic"},
        "Protocol": "email",
        "Endpoint": {"Ref": "AlarmEmail"},
    }


def test_each_alarm_on_a_log_line_has_its_metric(template, facts, error_codes):
    """The alarms watch the metric of the log lines, for values that the code logs."""
    # docs/operations.md lists these alarms with their thresholds.
    page = (ROOT / "docs/operations.md").read_text()
    form = r"^\| `(\w+)` \| (\d+) in (\d+) minutes(?:, (\d+) times of (\d+))? \| (\w[\w ]+) \|$"
    rows = re.findall(form, page, re.MULTILINE)
    watched = {}
    for properties in alarms(template).values():
        if properties.get("MetricName") == "Logged":
            assert properties["Namespace"] == OWN
            (dimension,) = properties["Dimensions"]
            assert dimension["Name"] == "metric"
            watched[dimension["Value"]] = (properties["Threshold"], properties["Period"] // 60, *datapoints(properties))
    assert watched == {
        name: (int(count), int(minutes), int(to_alarm or 1), int(periods or 1))
        for name, count, minutes, to_alarm, periods, _ in rows
    }
    # The page explains each kind.
    kinds = {kind for *_, kind in rows}
    assert kinds <= set(re.findall(r"^- \*\*([\w ]+)\*\*: ", page, re.MULTILINE))
    logged = set(facts["metrics"]) | {code for code, _ in error_codes}
    assert watched.keys() <= logged, watched.keys() - logged


def datapoints(properties):
    """How many periods must breach the threshold, and of how many."""
    periods = properties["EvaluationPeriods"]
    return properties.get("DatapointsToAlarm", periods), periods


def metric_filters(template):
    return [
        resource["Properties"]
        for resource in template["Resources"].values()
        if resource["Type"] == "AWS::Logs::MetricFilter"
    ]


# The namespace of the stack's own metrics.
OWN = {"Fn::Sub": "circle-pin-reset/${AWS::StackName}"}
WEBHOOK_ROUTES = '$.routeKey = "*/webhooks/circle"'
OTHER_ROUTES = '$.routeKey != "*/webhooks/circle"'
REJECTED_BY_GATEWAY = '($.status = "429") && ($.integrationStatus != "200")'


def test_metrics_of_the_access_log(template):
    """They tell API Gateway's own 429 from that of a function, and the webhook route from the others."""
    log_format = json.loads(template["Resources"]["HttpApi"]["Properties"]["AccessLogSettings"]["Format"])
    found = {}
    for one in metric_filters(template):
        if one["LogGroupName"] == {"Ref": "AccessLogGroup"}:
            assert set(re.findall(r"\$\.(\w+)", one["FilterPattern"])) <= set(log_format)
            (metric,) = one["MetricTransformations"]
            assert metric["MetricNamespace"] == OWN
            assert metric["MetricValue"] == "1" and "Dimensions" not in metric
            found[metric["MetricName"]] = one["FilterPattern"]
    # Every value of the access log is a string.
    assert found == {
        "ThrottledWebhooks": f"{{ {REJECTED_BY_GATEWAY} && ({WEBHOOK_ROUTES}) }}",
        "ThrottledRequests": f"{{ {REJECTED_BY_GATEWAY} && ({OTHER_ROUTES}) }}",
        "Requests": f'{{ ({OTHER_ROUTES}) && (($.status = "2*") || ($.status = "5*")) }}',
        "FailedRequests": f'{{ ({OTHER_ROUTES}) && ($.status = "5*") }}',
        "Webhooks": '{ $.routeKey = "POST /webhooks/circle" }',
        "RejectedWebhooks": '{ ($.routeKey = "POST /webhooks/circle") && ($.status != "2*") }',
    }


def documented_alarm(metric):
    """The thresholds of a metric in docs/operations.md: the number, minutes, and how many times of how many."""
    row = rf"^\| `{metric}` \| .* \| (\d+) (?:%|times)? ?in (\d+) minutes(?:, (\d+) times of (\d+))? \|$"
    [found] = re.findall(row, (ROOT / "docs/operations.md").read_text(), re.MULTILINE)
    return tuple(int(number or 1) for number in found)


def test_alarms_on_requests_are_documented(template):
    watched = set()
    for properties in alarms(template).values():
        if properties.get("MetricName") in ("ThrottledWebhooks", "ThrottledRequests", "4xx"):
            name = properties["MetricName"]
            api = [{"Name": "ApiId", "Value": {"Ref": "HttpApi"}}]
            expected = ("AWS/ApiGateway", api) if name == "4xx" else (OWN, None)
            assert (properties["Namespace"], properties.get("Dimensions")) == expected
            given = (properties["Threshold"], properties["Period"] // 60, *datapoints(properties))
            assert documented_alarm(name) == given
            watched.add(name)
    assert watched == {"ThrottledWebhooks", "ThrottledRequests", "4xx"}


@pytest.mark.parametrize(
    ("name", "failed", "of", "at_least"),
    [
        ("ServerErrorsAlarm", "FailedRequests", "Requests", 5),
        ("ServerErrorsAtLowLoadAlarm", "FailedRequests", "Requests", None),
        ("RejectedWebhooksAlarm", "RejectedWebhooks", "Webhooks", 2),
    ],
)
def test_alarms_on_shares_are_documented(template, name, failed, of, at_least):
    properties = alarms(template)[name]
    share, *metrics = properties["Metrics"]
    few, many = (one[0].lower() + one[1:] for one in (failed, of))
    percent = f"100 * {few} / {many}"
    assert share["Expression"] == (f"IF({few} >= {at_least}, {percent}, 0)" if at_least else percent)
    [period] = {metric["MetricStat"]["Period"] for metric in metrics}
    expected = [
        {
            "Id": identifier,
            "ReturnData": False,
            "MetricStat": {
                "Metric": {"Namespace": {"Fn::Sub": "circle-pin-reset/${AWS::StackName}"}, "MetricName": metric},
                "Stat": "Sum",
                "Period": period,
            },
        }
        for identifier, metric in [(few, failed), (many, of)]
    ]
    assert metrics == expected
    documented = documented_alarm(name)
    assert documented == (properties["Threshold"], period // 60, *datapoints(properties))


def test_other_apps_of_the_circle_account_do_not_ring_the_alarms_on_webhooks(template):
    """Circle's default limit is 5 new challenges a second, with 3 webhooks each. The throttle is above the alarms."""
    most_of_an_account = 5 * 3
    throttle = int(template["Parameters"]["WebhookThrottleRate"]["Default"])
    for name in ["UnrequestedChallengeAlarm", "WebhookIgnoredAlarm"]:
        properties = alarms(template)[name]
        assert most_of_an_account < properties["Threshold"] / properties["Period"] < throttle / 2


def test_alarms_on_several_metrics_treat_missing_data_as_zero(template):
    summed = {}
    for name, properties in alarms(template).items():
        expression, *metrics = properties.get("Metrics", [{}])
        if expression.get("Id") == "sum":
            assert expression["Expression"] == "SUM(FILL(METRICS(), 0))", name
            assert len(metrics) <= 9 and not any(metric["ReturnData"] for metric in metrics), name
            summed[name] = [metric["MetricStat"]["Metric"] for metric in metrics]
    # CloudFormation reports failures of manage-subscription.
    functions = [{"Ref": f"{logical(name)}Function"} for name in FUNCTIONS if name != "manage-subscription"]
    for name, metric in [("FunctionErrorsAlarm", "Errors"), ("FunctionThrottlesAlarm", "Throttles")]:
        found = summed.pop(name)
        assert all((one["Namespace"], one["MetricName"]) == ("AWS/Lambda", metric) for one in found)
        assert [one["Dimensions"] for one in found] == [[{"Name": "FunctionName", "Value": one}] for one in functions]
    tables = template["Resources"]
    throttled, failed = set(), set()
    for name in [name for name, one in tables.items() if one["Type"] == "AWS::DynamoDB::Table"]:
        indexes = [one["IndexName"] for one in tables[name]["Properties"].get("GlobalSecondaryIndexes", [])]
        for what in ["Read", "Write"]:
            throttled |= {(f"{what}ThrottleEvents", name, *index) for index in [(), *((one,) for one in indexes)]}
    # Each operation of the functions.
    for actions, _ in FUNCTIONS.values():
        for action, resource, *_ in actions:
            service, operation = action.split(":")
            if service == "dynamodb" and resource != CHALLENGES_STREAM:
                table = "ChallengesTable" if "Challenges" in str(resource) else "RateLimitsTable"
                failed.add(("SystemErrors", table, operation))
    for name, expected in [("TableThrottlesAlarm", throttled), ("TableSystemErrorsAlarm", failed)]:
        found = summed.pop(name)
        assert {one["Namespace"] for one in found} == {"AWS/DynamoDB"}
        for one in found:
            names = [dimension["Name"] for dimension in one["Dimensions"]]
            second = "Operation" if name == "TableSystemErrorsAlarm" else "GlobalSecondaryIndexName"
            assert names == ["TableName", second][: len(names)]
        values = [[one["MetricName"], *(dimension["Value"] for dimension in one["Dimensions"])] for one in found]
        own = {str(CHALLENGES_NAME): "ChallengesTable", str({"Ref": "RateLimitsTable"}): "RateLimitsTable"}
        assert sorted((metric, own[str(table)], *rest) for metric, table, *rest in values) == sorted(expected)
    # test_events.py has its metrics.
    assert summed.keys() == {"EventsNotPublishedAlarm"}


def watched_metrics(properties):
    """The metrics of an alarm: namespace, name and dimensions."""
    watched = [one["MetricStat"]["Metric"] for one in properties.get("Metrics", []) if "MetricStat" in one]
    return watched or [{name: properties.get(name) for name in ("Namespace", "MetricName", "Dimensions")}]


def test_each_alarm_watches_a_metric_that_exists(template, facts):
    """An alarm on a metric that nothing emits never fires. The functions write their metrics into their log lines. Only
    the access log, which API Gateway writes, needs filters."""
    emitted = {one["name"]: [sorted(names) for names in one["dimensions"]] for one in facts["measurements"]}
    for one in metric_filters(template):
        assert one["LogGroupName"] == {"Ref": "AccessLogGroup"}
        emitted |= {metric["MetricName"]: [[]] for metric in one["MetricTransformations"]}
    for name, properties in alarms(template).items():
        for metric in watched_metrics(properties):
            if isinstance(metric["Namespace"], str):
                assert metric["Namespace"].startswith("AWS/"), name
                continue
            assert metric["Namespace"] == OWN, name
            dimensions = sorted(one["Name"] for one in metric.get("Dimensions") or [])
            assert dimensions in emitted[metric["MetricName"]], (name, metric["MetricName"])
