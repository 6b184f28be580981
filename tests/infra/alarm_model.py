"""How CloudWatch evaluates an alarm of the template, over counts for each minute.

From the pages of the CloudWatch user guide "Configuring how CloudWatch alarms treat missing data", "Alarm evaluation
window", "Alarm warm-up periods", "Using metric math" and "Combining alarms". An alarm is evaluated each minute. Its
windows end at that minute and are not aligned to the clock.
"""

import operator
import re
from itertools import accumulate

# Windows that CloudWatch may read in addition to EvaluationPeriods. AWS documents two for an alarm with three periods,
# and says that the number depends on the period.
ADDITIONAL_WINDOWS = [0, 2]

COMPARISONS = {
    "GreaterThanOrEqualToThreshold": operator.ge,
    "GreaterThanThreshold": operator.gt,
    "LessThanOrEqualToThreshold": operator.le,
    "LessThanThreshold": operator.lt,
}


class Metric:
    """The values of a metric. A window in which no minute has a value has no data point."""

    def __init__(self, values, minutes):
        """`values` has the value of each minute that has one: {minute: value}. A count is the sum of as many values of
        1. A share is the pair of its sum and of the number of its values, each of which is 0 or 1."""
        pairs = [values.get(minute, 0) for minute in range(minutes)]
        pairs = [pair if isinstance(pair, tuple) else (pair, pair) for pair in pairs]
        self.values = [value for value, _ in pairs]
        self.totals = [0, *accumulate(self.values)]
        self.samples = [0, *accumulate(samples for _, samples in pairs)]

    def statistic(self, name, start, end):
        """A statistic of the minutes from `start` up to `end`, or None."""
        start, end = max(start, 0), max(end, 0)
        samples = self.samples[end] - self.samples[start]
        if not samples:
            return None
        return {
            "Sum": lambda: self.totals[end] - self.totals[start],
            "SampleCount": lambda: samples,
            "Maximum": lambda: max(self.values[start:end]),
        }[name]()


def key(metric):
    """The name of a metric of the template, with the values of its dimensions: `Logged timeout`."""

    def text(value):
        if isinstance(value, str):
            return value
        [[function, of]] = value.items()
        if function == "Fn::If":
            # The stack's own table, or one that exists already.
            return text(of[1])
        return of[0] if function == "Fn::GetAtt" else of

    return " ".join([metric["MetricName"], *(text(one["Value"]) for one in metric.get("Dimensions", []))])


class Alarm:
    def __init__(self, properties):
        queries = properties.get("Metrics", [])
        [expression] = [one["Expression"] for one in queries if "Expression" in one] or ["metric"]
        self.expression = compile(expression, "expression", "eval")
        stats = {one["Id"]: one["MetricStat"] for one in queries if "MetricStat" in one}
        self.metrics = {name: key(one["Metric"]) for name, one in stats.items()} or {"metric": key(properties)}
        [self.period] = {one["Period"] // 60 for one in stats.values()} or {properties["Period"] // 60}
        self.statistics = {name: one["Stat"] for name, one in stats.items()} or {"metric": properties["Statistic"]}
        self.periods = properties["EvaluationPeriods"]
        self.to_alarm = properties.get("DatapointsToAlarm", self.periods)
        self.threshold = properties["Threshold"]
        self.breaches = COMPARISONS[properties["ComparisonOperator"]]
        # None if the alarm keeps its state while data is missing.
        treated = {"breaching": True, "notBreaching": False, "ignore": None}
        self.missing_breaches = treated[properties["TreatMissingData"]]
        self.warm_up = properties.get("WarmUpConfiguration", {}).get("WarmUpPeriodDurationInMinutes", 0)

    def value(self, series, start, end):
        """The data point of one window, or None."""
        values = {
            name: series[one].statistic(self.statistics[name], start, end) if one in series else None
            for name, one in self.metrics.items()
        }
        functions = {
            "IF": lambda condition, then, otherwise: then if condition else otherwise,
            "FILL": lambda several, value: [value if one is None else one for one in several],
            "METRICS": lambda: [*values.values()],
            "SUM": sum,
        }
        try:
            return eval(self.expression, functions, values)
        except (TypeError, ZeroDivisionError):
            # An operation with a missing data point has none, and neither has IF without its condition.
            return None

    def windows(self, series, minute, additional):
        """For each window before `minute`, the newest first: whether it breaches the threshold, or None."""
        for index in range(self.periods + additional):
            end = minute - index * self.period
            value = self.value(series, end - self.period, end)
            yield None if value is None else self.breaches(value, self.threshold)

    def is_on(self, series, minute, additional=0):
        """Whether an alarm that was created at minute 0 is in the state ALARM."""
        found = [breaches for breaches in self.windows(series, minute, additional) if breaches is not None]
        if self.missing_breaches is None and not found:
            return self.was_on(series, minute)
        if minute < self.warm_up and len(found) < self.periods:
            return False
        return decide(found, self.periods, self.to_alarm, self.missing_breaches)

    def was_on(self, series, minute):
        """The state after the last window with data, of an alarm with one period."""
        assert self.periods == 1
        for end in range(minute, 0, -1):
            value = self.value(series, end - self.period, end)
            if value is not None:
                return self.breaches(value, self.threshold)
        return False


class CompositeAlarm:
    """An alarm that is on while all of several alarms are."""

    def __init__(self, properties, alarms):
        rule = properties["AlarmRule"]["Fn::Sub"]
        assert re.fullmatch(r'ALARM\("\$\{\w+\}"\)( AND ALARM\("\$\{\w+\}"\))+', rule)
        self.windows = {name: alarms[name] for name in re.findall(r"\w+(?=\})", rule)}
        self.metrics = {name: metric for one in self.windows.values() for name, metric in one.metrics.items()}
        self.missing_breaches = False

    def is_on(self, series, minute, additional=0):
        return all(one.is_on(series, minute, additional) for one in self.windows.values())


def decide(found, periods, to_alarm, missing_breaches):
    """Whether the state is ALARM. `found` are the existing data points, the newest first, True if one breaches.

    Missing data points are filled in only if there are fewer than `periods`.
    """
    breaching = sum(found[:periods])
    if missing_breaches:
        breaching += max(periods - len(found), 0)
    return breaching >= to_alarm
