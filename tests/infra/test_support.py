"""infra/support without AWS. tests/cloud/test_support.py runs it against a stack."""

import importlib.machinery
import importlib.util
import json
import re

import pytest

from conftest import ROOT
from functions import listed

POLICY = json.loads((ROOT / "infra" / "support-policy.json").read_text())
SOURCE = (ROOT / "infra" / "support").read_text()
# The key of the Rust tests whose values the tests below look for.
KEY = b"test key of 32 characters or more"
CHALLENGE = "c4d1da72-111e-4d52-bdbf-2e74a2d803d5"
NOON = 1767268800


@pytest.fixture
def support():
    loader = importlib.machinery.SourceFileLoader("support", str(ROOT / "infra" / "support"))
    support = importlib.util.module_from_spec(importlib.util.spec_from_loader("support", loader))
    loader.exec_module(support)
    return support


@pytest.fixture
def stack(support):
    """A stack with two log groups, of which nothing was read from AWS."""
    stack = object.__new__(support.Stack)
    stack.name = "circle-pin-reset"
    stack.log_groups = {"/aws/lambda/a": "create-token", "/aws/lambda/b": "access"}
    return stack


def rust(path):
    return (ROOT / "shared" / "src" / path).read_text()


def test_the_hashes_are_those_of_the_functions(support):
    """The same values stand in the Rust tests, which compute them with the functions' own code."""
    hashes = rust("user_hash.rs")
    assert f'"{KEY.decode()}"' in hashes
    assert f'"{support.keyed_hash(KEY, "domain", b"ab", b"c")}"' in hashes
    assert f'"{support.user_of_log(KEY, "alice")}"' in hashes
    hour_key = support.hour_key(KEY, "alice", NOON // 3600)["limitKey"]["S"]
    assert f'"{hour_key}"' in rust("rate_limit/challenges.rs")
    assert '"circle-pin-reset/calls/1"' in rust("rate_limit/calls.rs")
    user_key = support.keyed_hash(KEY, "circle-pin-reset/calls/1", b"alice")
    assert support.user_key(KEY, "alice") == {"limitKey": {"S": user_key}}


def test_the_items_of_a_user_are_deleted_for_as_long_as_they_are_kept(support):
    assert "const RETENTION: Duration = Duration::from_secs(2 * 3600);" in rust("rate_limit/challenges.rs")
    assert support.HOURS_KEPT == 2
    assert "const RETENTION: Duration = Duration::from_secs(4 * 3600);" in rust("rate_limit/calls.rs")
    assert support.ITEM_LIFETIME == 4 * 3600


def test_the_statuses_and_the_switch_are_those_of_the_functions(support):
    assert f'"{support.STOPPED["limitKey"]["S"]}"' in rust("rate_limit/switch.rs")
    assert f"FINAL_RANK: u8 = {support.FINAL_RANK};" in rust("challenge.rs")


@pytest.mark.parametrize(
    "text,expected",
    [
        ("2026-01-01T12:00:00Z", NOON),
        ("2026-01-01T12:00:00.5Z", NOON + 0.5),
        ("2026-01-01T12:00:00.123456789Z", NOON + 0.123456789),
        ("2026-01-01 12:00:00.123", NOON + 0.123),
    ],
)
def test_times_are_read_as_the_functions_and_cloudwatch_write_them(support, text, expected):
    assert support.seconds(text) == expected
    assert support.shown_time(expected).startswith("2026-01-01 12:00:00")


def test_attributes_become_values_of_json(support):
    item = {
        "text": {"S": "alice"},
        "number": {"N": "1767268800123"},
        "flag": {"BOOL": True},
        "times": {"NS": ["7", "5"]},
        "map": {"M": {"at": {"S": "now"}, "list": {"L": [{"N": "1.5"}]}}},
    }
    plain = {name: support.plain(value) for name, value in item.items()}
    assert plain == {
        "text": "alice",
        "number": 1767268800123,
        "flag": True,
        "times": [5, 7],
        "map": {"at": "now", "list": [1.5]},
    }


def test_each_log_group_has_a_name_for_people(support, template):
    groups = [name for name, one in template["Resources"].items() if one["Type"] == "AWS::Logs::LogGroup"]
    names = {support.label(name) for name in groups}
    functions = {path.parent.name for path in ROOT.glob("functions/*/Cargo.toml")}
    assert functions | {"access"} <= names and len(names) == len(groups)


def test_a_line_of_a_log_is_found_as_it_was_written(support, stack):
    written = {"timestamp": "2026-01-01T12:00:00.5Z", "level": "INFO", "message": "request completed"}
    row = {"@timestamp": "2026-01-01 12:00:01.000", "@message": json.dumps(written)}
    of_aws = {**row, "@log": "123456789012:/aws/lambda/a"}
    assert support.log_line(of_aws, stack.log_groups) == (NOON + 0.5, "create-token", written)
    assert support.log_line({**row, "@log": "/aws/lambda/b"}, stack.log_groups)[1] == "access"
    of_lambda = {**row, "@log": "/aws/lambda/other", "@message": "START RequestId: 7\n"}
    assert support.log_line(of_lambda, stack.log_groups) == (
        NOON + 1,
        "/aws/lambda/other",
        {"message": "START RequestId: 7"},
    )


def test_a_line_says_what_earlier_lines_of_the_request_did_not_say(support):
    line = {
        "level": "INFO",
        "message": "request completed",
        "status": 201,
        "target": "shared",
        "_aws": {},
        "span": {"request_id": "r1", "source_ip": "203.0.113.7", "challenge_id": CHALLENGE},
    }
    seen = {}
    text = support.line_text("create-challenge", line, seen)
    assert text == "INFO request completed status=201 request_id=r1 source_ip=203.0.113.7"
    line["span"]["duration_ms"] = 41
    assert support.line_text("create-challenge", line, seen) == "INFO request completed status=201 duration_ms=41"
    assert support.line_text("create-token", line, seen).endswith("source_ip=203.0.113.7 duration_ms=41")
    assert support.line_text("access", {"status": "201"}, seen) == "status=201"


def test_the_record_tells_its_own_history(support):
    at = "2026-01-01T12:00:00.5Z"
    record = {
        "creation": {"at": at, "requestId": "r1", "sourceIp": "203.0.113.7"},
        "completion": {"at": "2026-01-01T12:01:00Z", "status": "COMPLETE", "by": "webhook", "id": "n1"},
        "abandonedAt": "2026-01-09T12:00:00Z",
        "abandonedReason": "still_open",
    }
    moments = support.moments(record)
    assert [at for at, _, _ in moments] == [NOON + 0.5, NOON + 60, NOON + 8 * 86400]
    assert [line for _, _, line in moments] == [
        {"message": "creation", "requestId": "r1", "sourceIp": "203.0.113.7"},
        {"message": "completion", "status": "COMPLETE", "by": "webhook", "id": "n1"},
        {"message": "abandoned", "reason": "still_open"},
    ]
    assert record["creation"]["at"] == at, "the record itself stays as it is"


def test_the_logs_are_searched_while_something_can_have_happened(support):
    record = {"createdAt": "2026-01-01T12:00:00Z", "updatedAt": "2026-01-01T12:05:00Z", "rank": 1}
    now = NOON + 30 * 86400
    assert support.period(record, now, 7) == (NOON - 900, now)
    assert support.period({**record, "rank": 2}, now, 7) == (NOON - 900, NOON + 300 + 86400)
    assert support.period({**record, "rank": 3}, NOON + 600, 7) == (NOON - 900, NOON + 600)
    assert support.period({}, now, 7) == (now - 7 * 86400, now)


class Cli:
    """A stand-in for the AWS CLI, with the outputs or errors of its next calls."""

    def __init__(self, support, monkeypatch, *results):
        self.results, self.calls = list(results), []
        self.support = support
        monkeypatch.setattr(support, "aws", self.run)
        monkeypatch.setattr(support.time, "sleep", lambda _: None)

    def run(self, *arguments):
        self.calls.append(arguments)
        result = self.results.pop(0)
        if isinstance(result, str):
            raise self.support.AwsFailure("logs start-query", result)
        return result


def test_a_search_finds_each_word_literally_and_waits_for_its_end(support, stack, monkeypatch):
    row = {"@timestamp": "2026-01-01 12:00:00.000", "@log": "1:/aws/lambda/b", "@message": '{"status":"201"}'}
    rows = [[{"field": name, "value": value} for name, value in row.items()]]
    running, complete = {"status": "Running", "results": []}, {"status": "Complete", "results": rows}
    cli = Cli(support, monkeypatch, {"queryId": "q"}, running, complete)
    assert stack.search([CHALLENGE, "Fe2q/A+N=|.*"], NOON, NOON + 60) == [(NOON, "access", {"status": "201"})]
    start = cli.calls[0]
    assert start[:5] == ("logs", "start-query", "--log-group-names", "/aws/lambda/a", "/aws/lambda/b")
    assert start[5:9] == ("--start-time", str(NOON), "--end-time", str(NOON + 61))
    pattern = re.search(r"like /(.*)/ \|", start[10])[1]
    assert pattern == rf"{CHALLENGE}|Fe2q\/A\+N=\|\.\*"
    assert re.fullmatch(pattern, "Fe2q/A+N=|.*") and not re.search(pattern, "Fe2q")


def test_a_period_that_the_logs_do_not_have_is_searched_up_to_now(support, stack, monkeypatch):
    """CloudWatch rejects a period that ends before a log group's first line."""
    rejected = "An error occurred (MalformedQueryException) when calling the StartQuery operation"
    cli = Cli(support, monkeypatch, rejected, {"queryId": "q"}, {"status": "Complete", "results": []})
    monkeypatch.setattr(support.time, "time", lambda: NOON + 1000)
    assert stack.search([CHALLENGE], NOON, NOON + 60) == []
    ends = [call[call.index("--end-time") + 1] for call in cli.calls if "--end-time" in call]
    assert ends == [str(NOON + 61), str(NOON + 1001)]


def test_a_search_that_fails_says_so(support, stack, monkeypatch):
    Cli(support, monkeypatch, {"queryId": "q"}, {"status": "Timeout", "results": []})
    with pytest.raises(support.Failure, match="ended as Timeout"):
        stack.search([CHALLENGE], NOON, NOON + 60)
    Cli(support, monkeypatch, "An error occurred (AccessDeniedException) when calling StartQuery: not authorized")
    with pytest.raises(support.Failure, match="support-policy.json"):
        stack.search([CHALLENGE], NOON, NOON + 60)


@pytest.mark.parametrize(
    "output,advice",
    [
        ("An error occurred (AccessDeniedException) when calling the GetItem operation: no", "support-policy.json"),
        ("Stack with id circle does not exist", "name of the stack"),
        ("You must specify a region.", "AWS_REGION"),
        ("Unable to locate credentials. You can configure credentials", "Sign in"),
        ("The SSO session associated with this profile has expired", "Sign in"),
        ("An error occurred (ThrottlingException) when calling the Query operation", "`aws dynamodb query` failed"),
    ],
)
def test_an_error_says_what_to_do(support, output, advice):
    text = str(support.AwsFailure("dynamodb query", f"{output}\n"))
    assert output in text and advice in text


def test_without_the_aws_cli_it_says_where_to_get_it(support, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(support.Failure, match="getting-started-install"):
        support.aws("sts", "get-caller-identity")


@pytest.mark.parametrize("arguments", ["challenge 12", "user abc", "block", "resume", "erase", "delete alice", ""])
def test_a_wrong_command_is_a_usage_error(support, arguments, capsys):
    with pytest.raises(SystemExit) as exit:
        support.parsed(["circle-pin-reset", *arguments.split()])
    assert exit.value.code == 2
    assert "usage: support" in capsys.readouterr().err


def test_an_id_is_accepted_as_people_paste_it(support):
    parsed = support.parsed(["circle-pin-reset", "resume", CHALLENGE.upper(), CHALLENGE])
    assert parsed.ids == [CHALLENGE, CHALLENGE]


def test_the_key_of_the_hashes_is_the_secret_of_the_policy(template):
    assert template["Outputs"]["UserHashKeyArn"]["Value"]["Fn::If"][1] == {"Ref": "UserHashKey"}
    name = template["Resources"]["UserHashKey"]["Properties"]["Name"]["Fn::Sub"][0]
    assert name == "${AWS::StackName}/user-hash-key-${Id}"


def test_what_is_left_after_an_erasure_is_kept_as_the_stack_says(support, template):
    text = "\n".join(support.leftovers({"LogRetentionDays": "30", "EventArchiveDays": "5", "LogUserIds": "plain"}))
    assert "- 30 days: the logs, with the user id" in text and "- 5 days: the archive of events" in text
    assert "a keyed hash" in "\n".join(support.leftovers({"LogUserIds": "hashed"}))
    names = set(re.findall(r"days\('(\w+)'", SOURCE)) | set(re.findall(r'parameters.get\("(\w+)"\)', SOURCE))
    assert len(names) == 4 and names <= set(template["Parameters"])


def test_the_policy_has_each_call_and_no_other():
    calls = {f"{service}:{name}" for service, name in re.findall(r'aws\("(\w+)", "([\w-]+)"', SOURCE)}
    operations = re.findall(r'"((?:get|put|update|delete)-item|query)", stack\.', SOURCE)
    calls |= {f"dynamodb:{operation}" for operation in operations}

    def action(call):
        service, name = call.split(":")
        special = {"lambda:invoke": "lambda:InvokeFunction"}
        return special.get(call, f"{service}:{''.join(part.title() for part in name.split('-'))}")

    granted = {one for statement in POLICY["Statement"] for one in listed(statement["Action"])}
    assert granted == {action(call) for call in calls}


def test_the_policy_is_for_the_stacks_own_resources():
    for statement in POLICY["Statement"]:
        for resource in listed(statement["Resource"]):
            assert "circle-pin-reset" in resource or statement["Action"] == "logs:GetQueryResults", statement


def test_the_policy_allows_no_writing_of_records_and_no_api_key():
    of_challenges = [one for one in POLICY["Statement"] if "ChallengesTable" in str(one["Resource"])]
    assert {one for statement in of_challenges for one in listed(statement["Action"])} == {
        "dynamodb:DeleteItem",
        "dynamodb:GetItem",
        "dynamodb:Query",
    }
    secrets = [one["Resource"] for one in POLICY["Statement"] if "secretsmanager" in str(one["Action"])]
    assert secrets == ["arn:aws:secretsmanager:*:*:secret:circle-pin-reset/user-hash-key-*"]
