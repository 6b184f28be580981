"""What EventBridge Pipes does with a record of the table's stream, as far as the template uses it.

The emulator's pipes neither filter nor deliver to an event bus. A test compares the filter here with the emulator's
TestEventPattern, an independent implementation of the same documentation.
"""

import json
import re


def matches(pattern, record):
    """EventBridge's content filtering: every field of the pattern matches by one of its alternatives."""
    for name, wanted in pattern.items():
        value = record.get(name) if isinstance(record, dict) else None
        if isinstance(wanted, dict):
            if not matches(wanted, value):
                return False
        elif not any(matches_one(alternative, value) for alternative in wanted):
            return False
    return True


def matches_one(alternative, value):
    if isinstance(alternative, dict):
        [(operator, operand)] = alternative.items()
        assert operator == "exists", f"not implemented here: {operator}"
        # `exists` matches leaves only. An object is not a leaf.
        return (value is not None and not isinstance(value, dict)) is operand
    return alternative == value


def transformed(template, record):
    """The input template with its JSON paths replaced by strings. A path that leads nowhere becomes an empty string."""

    def value_of(match):
        value = record
        for name in match.group(1).split("."):
            value = value.get(name, {})
        assert value == {} or isinstance(value, str), match.group(0)
        return json.dumps(value or "")[1:-1]

    filled = re.sub(r"<\$\.([\w.]+)>", value_of, template)
    assert "<" not in re.sub(r'"(?:[^"\\]|\\.)*"', "", filled), "a path is not in quotes"
    return json.loads(filled)


class Pipe:
    def __init__(self, resource):
        properties = resource["Properties"]
        parameters = properties["SourceParameters"]
        self.patterns = [one["Pattern"] for one in parameters["FilterCriteria"]["Filters"]]
        self.bus = properties["TargetParameters"]["EventBridgeEventBusParameters"]
        self.template = properties["TargetParameters"]["InputTemplate"]

    def accepts(self, record):
        """Whether one of the filters matches the record."""
        return any(matches(json.loads(pattern), record) for pattern in self.patterns)

    def events(self, records):
        """The events that the pipe makes of records."""
        return [transformed(self.template, record) for record in records if self.accepts(record)]
