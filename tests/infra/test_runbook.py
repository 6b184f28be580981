"""docs/runbook.md: its sections, and the names in them."""

import re

import pytest

from conftest import ROOT, alarms

PAGE = (ROOT / "docs" / "runbook.md").read_text()
SECTIONS = dict(re.findall(r"^### (\w+Alarm)\n(.*?)(?=^##|\Z)", PAGE, re.MULTILINE | re.DOTALL))
QUERIES = dict(
    re.findall(
        r"^\*\*([\w ]+)\*\*.*?```\n(.*?)```",
        PAGE.split("\n## Queries\n")[1].split("\n## ")[0],
        re.MULTILINE | re.DOTALL,
    )
)


@pytest.mark.parametrize("name", SECTIONS)
def test_each_section_has_the_same_four_parts(name):
    assert re.findall(r"^- \*\*(\w+)\*\*: \S", SECTIONS[name], re.MULTILINE) == ["Users", "Look", "Do", "Over"]


def test_every_query_that_a_section_names_stands_at_the_top():
    named = set(re.findall(r"(?<!\*)\*([A-Z][\w ]+)\*(?!\*)", "".join(SECTIONS.values())))
    assert named and named <= set(QUERIES)


def test_every_code_in_a_section_is_counted(facts):
    codes = set(re.findall(r"\*One code\* `(\w+)`", PAGE))
    assert len(codes) > 15
    assert codes <= {error["code"] for error in facts["errorCodes"]} | set(facts["metrics"])


def test_every_alarm_and_parameter_in_the_page_exists(template):
    words = set(re.findall(r"`([A-Z]\w+[a-z])`", PAGE))
    sections = {word for word in words if word.endswith("Alarm")}
    assert sections and sections <= set(SECTIONS)
    of_aws = {"Errors", "Throttles", "ConcurrentExecutions", "IteratorAge", "SystemErrors", "OldestDueChallenge"}
    assert words - sections - of_aws <= set(template["Parameters"]) | set(template["Outputs"])


def test_the_queries_use_fields_of_the_span_of_a_request():
    source = (ROOT / "shared" / "src" / "boundary.rs").read_text()
    span = re.search(r'info_span!\(\n *"request",\n(.*?)\n    \)', source, re.DOTALL)[1]
    fields = set(re.findall(r"^ *(\w+)", span, re.MULTILINE))
    used = set(re.findall(r"span\.(\w+)", PAGE))
    assert used and used <= fields


def test_the_query_of_the_access_log_uses_its_fields(template):
    settings = template["Resources"]["HttpApi"]["Properties"]["AccessLogSettings"]
    used = re.findall(r"\w+", QUERIES["Access log"].split(" by ")[1].split("\n")[0])
    assert len(used) > 4 and set(used) <= set(re.findall(r'"(\w+)":"\$', settings["Format"]))


def test_every_message_in_the_page_is_one_of_the_functions():
    sources = [path.read_text() for folder in ["functions", "shared/src"] for path in (ROOT / folder).rglob("*.rs")]
    commands = {"cargo local", "cargo local incident"}
    messages = set(re.findall(r'message = "([^"]+)"', PAGE)) | set(re.findall(r"`([a-z-]+ [a-z ]+)`", PAGE)) - commands
    assert len(messages) > 4
    for message in messages:
        assert any(f'"{message}"' in source for source in sources), message
