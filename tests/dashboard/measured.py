"""The metrics of a run for each point of a graph: those embedded in log lines, and those of the access log."""

import json
import math

import dashboard


class Measured:
    def __init__(self, steps):
        self.steps = steps
        # The values of each metric at each step: {(name, dimensions): [[value, ...], ...]}.
        self.values = {}

    def add(self, step, name, dimensions, value):
        key = (name, tuple(sorted(dimensions.items())))
        self.values.setdefault(key, [[] for _ in range(self.steps)])[step].append(value)

    def line(self, step, text):
        """Reads a log line. Lines without embedded metrics, and those of other programs, have none."""
        try:
            line = json.loads(text)
        except ValueError:
            return
        for directive in line.get("_aws", {}).get("CloudWatchMetrics", []):
            for names in directive["Dimensions"]:
                dimensions = {name: str(line[name]) for name in names}
                for metric in directive["Metrics"]:
                    self.add(step, metric["Name"], dimensions, line[metric["Name"]])
        span = line.get("span", {})
        if span.get("route") == "POST /webhooks/circle" and "status" in line and "duration_ms" in span:
            self.webhook(step, line["status"])

    def request(self, step, status):
        """Counts a request of a caller as the filters on the access log do."""
        if 200 <= status < 300 or status >= 500:
            self.add(step, "Requests", {}, 1)
            self.add(step, "FailedRequests", {}, int(status >= 500))

    def webhook(self, step, status):
        self.add(step, "Webhooks", {}, 1)
        if not 200 <= status < 300:
            self.add(step, "RejectedWebhooks", {}, 1)

    def found(self, metric):
        """The series that a metric of the dashboard stands for: {label: [[value, ...], ...]}."""
        found = {}
        for (name, dimensions), values in sorted(self.values.items()):
            given = dict(dimensions)
            if name == metric.name and set(given) == set(metric.dimensions) and given.items() >= metric.values.items():
                free = [given[dimension] for dimension in metric.dimensions if dimension not in metric.values]
                label = " ".join(free) if metric.search else metric.options.get("label", metric.name)
                found[label] = values
        return found


def statistic(stat, values):
    """A statistic of CloudWatch, or None without values."""
    if not values:
        return None
    if stat.startswith("p"):
        return sorted(values)[max(0, math.ceil(len(values) * int(stat[1:]) / 100) - 1)]
    return {"Sum": sum, "Average": lambda all: sum(all) / len(all), "Maximum": max, "SampleCount": len}[stat](values)


def series(measured, widget, whole=False):
    """What a widget shows: {label: [value or None, ...]}. With `whole`, one value for the whole run."""

    def of_steps(stat, values):
        values = [[one for step in values for one in step]] if whole else values
        return [statistic(stat, one) for one in values]

    metrics, expressions = dashboard.metrics(widget)
    shown, hidden = {}, {}
    for metric in metrics:
        if metric.namespace != dashboard.NAMESPACE:
            continue
        found = {label: of_steps(metric.stat, values) for label, values in measured.found(metric).items()}
        if metric.options.get("visible") is False:
            hidden[metric.options["id"]] = next(iter(found.values()), [None] * (1 if whole else measured.steps))
        elif metric.search and metric.options["expression"].startswith("SUM("):
            if found:
                shown[metric.options["label"]] = [added(one) for one in zip(*found.values(), strict=True)]
        else:
            shown |= found
    for one in expressions:
        if "SEARCH" not in one["expression"]:
            points = range(len(next(iter(hidden.values()))))
            shown[one["label"]] = [evaluated(one["expression"], hidden, point) for point in points]
    return shown


def added(values):
    there = [value for value in values if value is not None]
    return sum(there) if there else None


def evaluated(expression, metrics, point):
    try:
        return eval(expression, {}, {name: values[point] for name, values in metrics.items()})
    except (TypeError, ZeroDivisionError):
        # A value is missing.
        return None
