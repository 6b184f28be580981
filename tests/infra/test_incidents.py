"""`cargo local incident` plays an incident for each alarm whose metric comes from the functions."""

import json
import re
import subprocess

import pytest

from conftest import ROOT

# What is measured while nothing is wrong, and watched as the other part of a share.
HEALTHY = {("ChallengesSettled", "webhook")}


@pytest.fixture(scope="module")
def lists():
    """The incidents, and the alarms that can only be seen in the cloud."""
    command = ["cargo", "local", "incident", "--json"]
    return json.loads(subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout)


def watched(template):
    """The metrics of each alarm that notifies somebody, each with its namespace: its own, or those of its windows."""
    resources = template["Resources"]

    def metrics(name):
        resource = resources[name]
        properties = resource["Properties"]
        if resource["Type"] == "AWS::CloudWatch::CompositeAlarm":
            windows = re.findall(r"\$\{(\w+)\}", properties["AlarmRule"]["Fn::Sub"])
            return [metric for window in windows for metric in metrics(window)]
        queries = [query["MetricStat"]["Metric"] for query in properties.get("Metrics", []) if "MetricStat" in query]
        return queries or [properties]

    kinds = ["AWS::CloudWatch::Alarm", "AWS::CloudWatch::CompositeAlarm"]
    names = [name for name, one in resources.items() if one["Type"] in kinds and name.endswith("Alarm")]
    return {name: metrics(name) for name in names}


def name_and_values(metric):
    """A metric of the template, as its name and the values of its dimensions."""
    return (metric["MetricName"], *sorted(str(one["Value"]) for one in metric.get("Dimensions", [])))


def kind(metric):
    """A metric without the type and the status of the challenge, which make no difference to an incident."""
    return tuple(value for value in metric if value not in ("CHANGE_PIN", "RESTORE_PIN", "COMPLETE"))


def raised(incident):
    """The metrics that an incident raises, each with the alarm."""
    return [(one["alarm"], (one["metric"], *sorted(one["dimensions"].values()))) for one in incident["raises"]]


def test_each_alarm_has_an_incident_or_a_reason(template, lists):
    played = {alarm for incident in lists["incidents"] for alarm, _ in raised(incident) if alarm}
    only_on_aws = {one["alarm"]: one["reason"] for one in lists["onlyOnAws"]}
    assert played | set(only_on_aws) == set(watched(template))
    assert not played & set(only_on_aws)
    assert all(only_on_aws.values())


def test_each_alarm_on_a_metric_of_the_functions_has_an_incident_that_raises_it(template, lists, facts):
    measured = {measurement["name"] for measurement in facts["measurements"]}
    pairs = {pair for incident in lists["incidents"] for pair in raised(incident)}
    found = 0
    for alarm, metrics in watched(template).items():
        own = {name_and_values(metric) for metric in metrics if metric["MetricName"] in measured}
        if own:
            found += 1
            of_incidents = {metric for name, metric in pairs if name == alarm}
            assert of_incidents and of_incidents <= own, alarm
            assert {kind(metric) for metric in own} - HEALTHY == {kind(metric) for metric in of_incidents}, alarm
    assert found > 20


def test_each_metric_of_an_incident_exists(lists, facts, error_codes):
    dimensions = {one["name"]: [sorted(names) for names in one["dimensions"]] for one in facts["measurements"]}
    logged = set(facts["metrics"]) | {code for code, _ in error_codes}
    for incident in lists["incidents"]:
        for one in incident["raises"]:
            assert sorted(one["dimensions"]) in dimensions[one["metric"]], incident["name"]
            assert one["metric"] != "Logged" or one["dimensions"]["metric"] in logged, incident["name"]


def test_each_alarm_of_an_incident_has_its_section_of_the_runbook(lists):
    headings = re.findall(r"^### (\w+)$", (ROOT / "docs/runbook.md").read_text(), re.MULTILINE)
    sections = {f"docs/runbook.md#{heading.lower()}" for heading in headings}
    for incident in lists["incidents"]:
        for one in incident["raises"]:
            assert one["runbook"] in sections if one["alarm"] else one["runbook"] is None, incident["name"]
