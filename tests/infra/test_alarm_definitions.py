"""The alarms of the template as they are defined and documented. test_alarms.py evaluates them over simulated traffic."""

import json
import re

import pytest

from conftest import ROOT, alarms, of_type
from functions import CHALLENGES_NAME, CHALLENGES_STREAM, FUNCTIONS, logical


def test_every_alarm_notifies_both_targets_when_it_begins_and_ends(template):
    targets = [
        {"Fn::If": ["HasAlarmEmail", {"Ref": "AlarmTopic"}, {"Ref": "AWS::NoValue"}]},
        {"Fn::If": ["HasAlarmTopic", {"Ref": "AlarmTopicArn"}, {"Ref": "AWS::NoValue"}]},
    ]
    conditions = template["Conditions"]
    assert conditions["HasAlarmEmail"] == {"Fn::Not": [{"Fn::Equals": [{"Ref": "AlarmEmail"}, ""]}]}
    assert conditions["HasAlarmTopic"] == {"Fn::Not": [{"Fn::Equals": [{"Ref": "AlarmTopicArn"}, ""]}]}
    for name, properties in notifying(template).items():
        assert properties["AlarmActions"] == targets, name
        assert properties["OKActions"] == targets, name
        assert properties.get("ActionsEnabled", True) is True, name
    for name, properties in windows(template).items():
        assert not {"AlarmActions", "OKActions", "InsufficientDataActions"} & set(properties), name
    treated = dict.fromkeys(["ApiSlowBurnTwoHours", "SettledSlowBurnTwoHours"], "ignore")
    treated["ReconcileMissingAlarm"] = "breaching"
    for name, properties in alarms(template).items():
        assert properties["TreatMissingData"] == treated.get(name, "notBreaching"), name


def composites(template):
    """The composite alarms, each with the alarms that it combines."""
    found = of_type(template, "AWS::CloudWatch::CompositeAlarm")
    return {name: re.findall(r"\$\{(\w+)\}", properties["AlarmRule"]["Fn::Sub"]) for name, properties in found.items()}


def windows(template):
    """The alarms that are a window of a composite alarm."""
    return {name: alarms(template)[name] for names in composites(template).values() for name in names}


def notifying(template):
    """The alarms that notify somebody. Their names end with Alarm."""
    every = alarms(template) | of_type(template, "AWS::CloudWatch::CompositeAlarm")
    found = {name: properties for name, properties in every.items() if name not in windows(template)}
    assert found.keys() == {name for name in every if name.endswith("Alarm")}
    return found


def test_each_alarm_links_to_its_section_of_the_runbook(template):
    assert "RunbookUrl" in template["Parameters"]
    sections = {name: name for name in notifying(template)}
    sections |= {window: name for name, names in composites(template).items() for window in names}
    every = notifying(template) | windows(template)
    for name, properties in every.items():
        what, _, link = properties["AlarmDescription"]["Fn::Sub"].partition(" Runbook: ")
        assert len(what) > 30 and link == f"${{RunbookUrl}}#{sections[name].lower()}", name
        # CloudWatch allows 1024 characters, and the URL has up to 300.
        assert len(what) < 600, name
    page = ROOT / template["Parameters"]["RunbookUrl"]["Default"]
    headings = re.findall(r"^### (\w+Alarm)$", page.read_text(), re.MULTILINE)
    assert sorted(headings) == sorted(notifying(template))


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
            # The share of failed requests is 0 in a window in which none has failed, and not missing.
            assert metric.get("DefaultValue") == (0 if metric["MetricName"] == "FailedRequests" else None)
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


# The two numbers of a share: a name in the expression, the metric and its statistic.
FAILED = [("failedRequests", "FailedRequests", "Sum"), ("requests", "Requests", "Sum")]
LATE = [("late", "SettledLate", "Sum"), ("settled", "SettledLate", "SampleCount")]
REJECTED = [("rejectedWebhooks", "RejectedWebhooks", "Sum"), ("webhooks", "Webhooks", "Sum")]


def share(properties, numbers, at_least):
    """Checks the metrics of an alarm on a share, and gives the seconds of its windows."""
    expression, *metrics = properties["Metrics"]
    [(few, *_), (many, *_)] = numbers
    percent = f"100 * {few} / {many}"
    assert expression["Expression"] == (f"IF({few} >= {at_least}, {percent}, 0)" if at_least else percent)
    [period] = {metric["MetricStat"]["Period"] for metric in metrics}
    assert metrics == [
        {
            "Id": identifier,
            "ReturnData": False,
            "MetricStat": {"Metric": {"Namespace": OWN, "MetricName": metric}, "Stat": stat, "Period": period},
        }
        for identifier, metric, stat in numbers
    ]
    return period


@pytest.mark.parametrize(
    ("name", "numbers", "at_least"),
    [("ApiFastBurnAlarm", FAILED, 5), ("SettledFastBurnAlarm", LATE, 5), ("RejectedWebhooksAlarm", REJECTED, 2)],
)
def test_alarms_on_shares_are_documented(template, name, numbers, at_least):
    properties = alarms(template)[name]
    period = share(properties, numbers, at_least)
    assert documented_alarm(name) == (properties["Threshold"], period // 60, *datapoints(properties))


@pytest.mark.parametrize(("name", "numbers"), [("ApiSlowBurnAlarm", FAILED), ("SettledSlowBurnAlarm", LATE)])
def test_slow_burns_are_documented(template, name, numbers):
    day, hours = (alarms(template)[window] for window in composites(template)[name])
    minutes = [share(day, numbers, 3) // 60, share(hours, numbers, None) // 60]
    assert day["Threshold"] == hours["Threshold"]
    assert datapoints(day) == datapoints(hours) == (1, 1)
    page = (ROOT / "docs/operations.md").read_text()
    expected = f"| {day['Threshold']} % in {minutes[0]} minutes, and still in {minutes[1]} minutes |"
    assert re.search(rf"^\| `{name}` \| .* {re.escape(expected)}$", page, re.MULTILINE), expected


def test_burn_rates_are_those_of_the_objectives(template):
    """docs/operations.md has each objective with what it allows, and the thresholds at each burn rate."""
    page = (ROOT / "docs/operations.md").read_text()
    for objective, kind in [("API", "Api"), ("time to settled", "Settled")]:
        [(percent, allowed, fast, slow)] = re.findall(
            rf"^\| {objective} \| .* \| ([\d.]+) % \| ([\d.]+) % \| ([\d.]+) % \| ([\d.]+) % \|$", page, re.MULTILINE
        )
        assert float(percent) + float(allowed) == 100
        assert (float(fast), float(slow)) == (10 * float(allowed), 3 * float(allowed))
        assert alarms(template)[f"{kind}FastBurnAlarm"]["Threshold"] == float(fast)
        assert alarms(template)[f"{kind}SlowBurnDay"]["Threshold"] == float(slow)


def test_the_alarm_on_lost_webhooks_is_documented(template, facts):
    """It compares what reconciliation has completed with what webhooks have, for each type of challenge."""
    properties = alarms(template)["SettledByReconciliationAlarm"]
    expression, *metrics = properties["Metrics"]
    late = [metric["Id"] for metric in metrics[:2]]
    assert expression["Expression"] == f"100 * SUM(FILL([{', '.join(late)}], 0)) / SUM(FILL(METRICS(), 0))"
    found = [dimensions(metric["MetricStat"]["Metric"]) for metric in metrics]
    assert found == [
        {"type": kind, "status": "COMPLETE", "settled_by": by}
        for by in ["reconcile", "webhook"]
        for kind in ["CHANGE_PIN", "RESTORE_PIN"]
    ]
    [period] = {metric["MetricStat"]["Period"] for metric in metrics}
    assert documented_alarm("SettledByReconciliationAlarm") == (
        properties["Threshold"], period // 60, *datapoints(properties)
    )


def dimensions(metric):
    return {one["Name"]: one["Value"] for one in metric.get("Dimensions", [])}


def test_abandoned_challenges_are_documented(template):
    """A challenge whose user walked away (still_open) is not among them."""
    properties = alarms(template)["ChallengeAbandonedAlarm"]
    metrics = [metric["MetricStat"] for metric in properties["Metrics"][1:]]
    assert [one["Metric"]["MetricName"] for one in metrics] == ["ChallengesAbandoned"] * 2
    assert [dimensions(one["Metric"]) for one in metrics] == [{"reason": "not_found"}, {"reason": "checks_failed"}]
    assert documented_alarm("ChallengesAbandoned") == (
        properties["Threshold"], metrics[0]["Period"] // 60, *datapoints(properties)
    )


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
    # test_events.py has the metrics of the first one, and a test above those of the second one.
    assert summed.keys() == {"EventsNotPublishedAlarm", "ChallengeAbandonedAlarm"}


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
