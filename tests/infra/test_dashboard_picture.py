"""How the picture of the dashboard is made of log lines."""

import json

import pytest

from measured import Measured, evaluated, series, statistic
from picture import rounded_up, runs

NAMESPACE = "circle-pin-reset/AWS::StackName"


def line(dimensions, **fields):
    metrics = [{"Name": name, "Unit": "Count"} for name in fields if name[0].isupper()]
    directive = {"Namespace": "circle-pin-reset", "Dimensions": dimensions, "Metrics": metrics}
    return json.dumps(fields | {"_aws": {"Timestamp": 0, "CloudWatchMetrics": [directive]}})


@pytest.fixture
def measured():
    """Three points: one call to Circle that works, one that fails, and none."""
    measured = Measured(3)
    by = [["operation", "outcome"]]
    measured.line(0, line(by, operation="get_user", outcome="ok", CircleLatency=40))
    measured.line(0, line(by, operation="get_user", outcome="ok", CircleLatency=60))
    measured.line(1, line(by, operation="get_user", outcome="unavailable", CircleLatency=8000))
    measured.line(1, line([["settled_by"], []], settled_by="poll", SettledLate=1))
    measured.line(2, "not JSON")
    for status in [200, 404, 503]:
        measured.request(1, status)
    return measured


def widget(*metrics, **properties):
    return {"properties": properties | {"metrics": [list(one) for one in metrics]}}


def test_a_search_finds_every_value_of_a_dimension(measured):
    search = f"SEARCH('{{\"{NAMESPACE}\",operation,outcome}} MetricName=\"CircleLatency\"', 'Average')"
    assert series(measured, widget([{"expression": search}])) == {
        "get_user ok": [50, None, None],
        "get_user unavailable": [None, 8000, None],
    }
    fixed = search.replace("', 'Average'", " outcome=\"ok\"', 'SampleCount'")
    assert series(measured, widget([{"expression": f"SUM({fixed})", "label": "ok"}])) == {"ok": [2, None, None]}


def test_an_expression_has_a_value_where_its_metrics_have(measured):
    metrics = [
        [{"expression": "100 * failed / requests", "label": "failed", "id": "share"}],
        [NAMESPACE, "FailedRequests", {"id": "failed", "visible": False}],
        [NAMESPACE, "Requests", {"id": "requests", "visible": False}],
    ]
    # A caller's own mistake counts neither way.
    assert series(measured, widget(*metrics, stat="Sum")) == {"failed": [None, 50, None]}
    assert series(measured, widget(*metrics, stat="Sum"), whole=True) == {"failed": [50]}
    assert evaluated("100 * failed / requests", {"failed": [0], "requests": [0]}, 0) is None


def test_a_value_counts_under_each_set_of_dimensions(measured):
    by_poll = [NAMESPACE, "SettledLate", "settled_by", "poll", {"label": "poll"}]
    shown = series(measured, widget([NAMESPACE, "SettledLate"], by_poll, stat="Sum"))
    assert shown == {"SettledLate": [None, 1, None], "poll": [None, 1, None]}


def test_metrics_of_aws_have_no_values(measured):
    assert series(measured, widget(["AWS/ApiGateway", "Latency", "ApiId", "HttpApi"])) == {}


def test_statistics():
    values = list(range(1, 101))
    found = {stat: statistic(stat, values) for stat in ["Sum", "Average", "Maximum", "SampleCount", "p50", "p95"]}
    assert found == {"Sum": 5050, "Average": 50.5, "Maximum": 100, "SampleCount": 100, "p50": 50, "p95": 95}
    assert statistic("Sum", []) is None


def test_an_axis_ends_with_a_round_number():
    assert [rounded_up(value) for value in [0.7, 1, 3, 17, 201, 5000]] == [1, 1, 5, 20, 500, 5000]


def test_a_line_ends_where_a_value_is_missing():
    assert list(runs([1, 2, None, 3, None])) == [[(0, 1), (1, 2)], [(3, 3)]]
