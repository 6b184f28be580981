"""What EventBridge Pipes does with a record of the table's stream, as far as the template asks it to.

The emulator's pipes neither filter nor deliver to an event bus. The filter here is checked against the emulator's own
TestEventPattern, which is another reading of the same documentation.
"""

import json
import re


def matches(pattern, record):
    """EventBridge's content filtering: every member named has to match, by one of the alternatives given for it."""
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
        assert operator == "exists", f"not done here: {operator}"
        # About the end of a path only: an object is not the end of one.
        return (value is not None and not isinstance(value, dict)) is operand
    return alternative == value


def transformed(template, record):
    """The input template with its JSON paths replaced: in quotes, as text, and as nothing where nothing is."""

    def text(match):
        value = record
        for name in match.group(1).split("."):
            value = value.get(name, {})
        assert value == {} or isinstance(value, str), match.group(0)
        return json.dumps(value or "")[1:-1]

    filled = re.sub(r"<\$\.([\w.]+)>", text, template)
    assert "<" not in re.sub(r'"(?:[^"\\]|\\.)*"', "", filled), "a path outside quotes"
    return json.loads(filled)


class Pipe:
    def __init__(self, resource):
        properties = resource["Properties"]
        parameters = properties["SourceParameters"]
        self.patterns = [one["Pattern"] for one in parameters["FilterCriteria"]["Filters"]]
        self.bus = properties["TargetParameters"]["EventBridgeEventBusParameters"]
        self.template = properties["TargetParameters"]["InputTemplate"]

    def takes(self, record):
        """A record passes if one of the filters matches it."""
        return any(matches(json.loads(pattern), record) for pattern in self.patterns)

    def announced(self, records):
        return [transformed(self.template, record) for record in records if self.takes(record)]
