"""The dashboard of the template: each metric exists, and nothing overlaps."""

import re
from html import unescape

import pytest

import dashboard
from conftest import ROOT, of_type
from test_alarm_definitions import metric_filters, notifying

# The metrics of AWS that the dashboard uses, with their dimensions, from the pages of each service's user guide.
OF_AWS = {
    ("AWS/ApiGateway", "ApiId"): {"Latency"},
    ("AWS/Lambda", "FunctionName"): {"Duration", "Errors", "Throttles", "ConcurrentExecutions", "IteratorAge"},
    ("AWS/Lambda", "EventSourceMappingUUID"): {"OnFailureDestinationDeliveredEventCount", "DroppedEventCount"},
    ("AWS/DynamoDB", "TableName"): {"ConsumedWriteCapacityUnits", "WriteThrottleEvents"},
    ("AWS/SQS", "QueueName"): {"ApproximateNumberOfMessagesVisible"},
}
# What the values of the dimensions of AWS refer to. `Challenges` is the stack's own table, or one that exists already.
KINDS = {
    "ApiId": "AWS::Serverless::HttpApi",
    "FunctionName": "AWS::Serverless::Function",
    "TableName": "AWS::DynamoDB::Table",
    "QueueName": "AWS::SQS::Queue",
}
# The values of the dimensions of the stack's own metrics, as far as widgets name them.
VALUES = {
    "type": {"CHANGE_PIN", "RESTORE_PIN"},
    "settled_by": {"webhook", "poll", "reconcile"},
    "outcome": {"ok", "rejected", "rate_limited", "unavailable", "unreadable", "api_key"},
    "reason": {"still_open", "checks_failed", "not_found"},
}


@pytest.fixture(scope="module")
def widgets():
    return dashboard.body()["widgets"]


def used(widgets):
    return [metric for one in widgets if one["type"] == "metric" for metric in dashboard.metrics(one)[0]]


def test_each_metric_exists(template, facts, widgets):
    own = {one["name"]: [set(names) for names in one["dimensions"]] for one in facts["measurements"]}
    for one in metric_filters(template):
        if one["LogGroupName"] != {"Ref": "AccessLogGroup"}:
            continue
        [metric] = one["MetricTransformations"]
        own[metric["MetricName"]] = [set()]
    for metric in used(widgets):
        if metric.namespace == dashboard.NAMESPACE:
            assert set(metric.dimensions) in own[metric.name], metric
            for name, value in metric.values.items():
                assert value in VALUES[name], metric
            continue
        [dimension] = metric.dimensions
        assert metric.name in OF_AWS[metric.namespace, dimension], metric
        assert not metric.search


def test_each_metric_of_aws_is_of_a_resource_of_the_stack(template, deployed, widgets):
    for metric in used(widgets):
        if metric.namespace != dashboard.NAMESPACE:
            [(dimension, value)] = metric.values.items()
            name = {"Challenges": "ChallengesTable"}.get(value, value.removesuffix(".QueueName"))
            if dimension == "EventSourceMappingUUID":
                assert deployed[name]["Type"] == "AWS::Lambda::EventSourceMapping"
            else:
                assert template["Resources"][name]["Type"] == KINDS[dimension], metric


def test_the_picture_shows_each_widget(widgets):
    """tests/dashboard/draw draws it."""
    picture = (ROOT / "docs/images/dashboard.svg").read_text()
    titles = [
        one["properties"].get("title") or one["properties"]["markdown"].split("\n")[0].removeprefix("## ")
        for one in widgets
    ]
    drawn = re.findall(r"class=\"ink (?:title|heading)\">(.*?)</text>", picture)
    assert [unescape(title) for title in drawn] == titles


def test_what_the_functions_count_is_on_the_dashboard(facts, widgets):
    assert {one["name"] for one in facts["measurements"]} <= {metric.name for metric in used(widgets)}


def test_expressions_use_the_metrics_of_their_widget(widgets):
    for widget in widgets:
        if widget["type"] == "metric":
            metrics, expressions = dashboard.metrics(widget)
            hidden = {metric.options["id"] for metric in metrics if metric.options.get("visible") is False}
            named = {name for one in expressions for name in dashboard.names(one["expression"])}
            assert hidden == named, widget["properties"]["title"]


def test_searches_quote_names_with_other_characters_than_letters_and_digits(widgets):
    expressions = [one for widget in widgets if widget["type"] == "metric" for one in dashboard.metrics(widget)[1]]
    searches = [search for one in expressions for search in re.findall(r"SEARCH\(.+?\)", one["expression"])]
    assert searches
    for search in searches:
        assert dashboard.SEARCH.fullmatch(search), search
        for name in re.search(r"\{(.+)\}", search)[1].split(","):
            assert re.fullmatch(r'[A-Za-z0-9]+|"[\w/:-]+"', name), search


def test_the_thresholds_of_the_objectives_are_drawn(template, widgets):
    alarms = of_type(template, "AWS::CloudWatch::Alarm")
    titles = {"Requests that fail, %": "Api", "Challenges settled late, %": "Settled"}
    drawn = {
        widget["properties"]["title"]: {
            line["label"]: line["value"] for line in widget["properties"]["annotations"]["horizontal"]
        }
        for widget in widgets
        if "annotations" in widget["properties"]
    }
    assert drawn == {
        title: {
            "slow burn": alarms[f"{kind}SlowBurnDay"]["Threshold"],
            "fast burn": alarms[f"{kind}FastBurnAlarm"]["Threshold"],
        }
        for title, kind in titles.items()
    }


def test_the_states_of_all_alarms_are_shown(template, widgets):
    [shown] = [widget["properties"]["alarms"] for widget in widgets if widget["type"] == "alarm"]
    conditional = {
        name: resource["Condition"]
        for name, resource in template["Resources"].items()
        if name in notifying(template) and "Condition" in resource
    }
    assert sorted(shown) == sorted(f"{name}.Arn" for name in notifying(template) if name not in conditional)
    _, values = template["Resources"]["Dashboard"]["Properties"]["DashboardBody"]["Fn::Sub"]
    _, added = values["ConditionalAlarms"]["Fn::Join"]
    found = {}
    for one in added:
        condition, text, otherwise = one["Fn::If"]
        found |= {name: condition for name in conditional if f', "${{{name}.Arn}}"' in text["Fn::Sub"]}
        assert otherwise == ""
    assert found == conditional


def test_widgets_fill_the_rows_and_do_not_overlap(widgets):
    """CloudWatch has 24 columns. It moves a widget that lies on another one."""
    taken = set()
    for one in widgets:
        cells = {
            (x, y) for x in range(one["x"], one["x"] + one["width"]) for y in range(one["y"], one["y"] + one["height"])
        }
        assert not taken & cells, one
        taken |= cells
    height = max(y for _, y in taken) + 1
    assert taken == {(x, y) for x in range(24) for y in range(height)}
    for one in widgets:
        if one["type"] != "text":
            assert one["properties"]["title"]
        if one["type"] == "metric":
            assert one["properties"]["region"] == "AWS::Region"
