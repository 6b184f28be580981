"""The dashboard of the template, with each reference replaced by its name: `${HttpApi}` by `HttpApi`."""

import json
import re
from dataclasses import dataclass, field

import yaml

from processes import ROOT

# The stack's own metrics, and the pattern of a search for them.
NAMESPACE = "circle-pin-reset/AWS::StackName"
SEARCH = re.compile(r"""SEARCH\('\{"([^,]+)",([\w",]+)\} MetricName="(\w+)"((?: \w+="\w+")*)', '(\w+)'\)""")


class Loader(yaml.SafeLoader):
    """Reads the short forms of intrinsic functions as the values in them."""


def value(loader, _, node):
    construct = {yaml.ScalarNode: loader.construct_scalar, yaml.SequenceNode: loader.construct_sequence}
    return construct[type(node)](node)


Loader.add_multi_constructor("!", value)


@dataclass
class Metric:
    """Metrics of a widget: one, or all that a search finds."""

    namespace: str
    name: str
    # The names of the dimensions, and the values of those that are fixed.
    dimensions: list
    values: dict
    stat: str
    options: dict = field(default_factory=dict)
    search: bool = False


def body():
    template = yaml.load((ROOT / "infra/template.yaml").read_text(), Loader)
    written, _ = template["Resources"]["Dashboard"]["Properties"]["DashboardBody"]
    # The alarms that exist under a condition only.
    written = written.replace("${ConditionalAlarms}", "")
    written = written.replace("${RunbookUrl}", template["Parameters"]["RunbookUrl"]["Default"])
    return json.loads(re.sub(r"\$\{([\w.:]+)\}", r"\1", written))


def metrics(widget):
    """The metrics of a widget, and its expressions with their labels: {id or number: expression}."""
    found, expressions = [], []
    properties = widget["properties"]
    for one in properties["metrics"]:
        options = one[-1] if isinstance(one[-1], dict) else {}
        if "expression" not in options:
            namespace, name, *rest = (part for part in one if part is not options)
            values = dict(zip(rest[::2], rest[1::2], strict=True))
            stat = options.get("stat", properties.get("stat", "Average"))
            found.append(Metric(namespace, name, [*values], values, stat, options))
            continue
        expressions.append(options)
        for namespace, dimensions, name, values, stat in SEARCH.findall(options["expression"]):
            fixed = dict(re.findall(r'(\w+)="(\w+)"', values))
            found.append(Metric(namespace, name, re.findall(r"\w+", dimensions), fixed, stat, options, search=True))
    return found, expressions


def names(expression):
    """The ids of metrics in an expression."""
    return set(re.findall(r"\b[a-z]\w*\b", SEARCH.sub("", expression)))
