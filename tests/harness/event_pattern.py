"""EventBridge's content filtering, which rules and Lambda's event source mappings use, as far as this project needs it.

tests/cloud compares it with the emulator's TestEventPattern, an independent implementation of the same documentation.
"""


def matches(pattern, event):
    """Every field of the pattern matches by one of its alternatives."""
    for name, wanted in pattern.items():
        value = event.get(name) if isinstance(event, dict) else None
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
