"""infra/support against a stack, with the permissions of its policy and no others."""

import json
import os
import subprocess
import time

import pytest

from local_aws import REGION
from processes import ROOT, until
from proof_run import user_with

POLICY = (ROOT / "infra" / "support-policy.json").read_text()


@pytest.fixture(scope="module")
def operator(aws, service):
    """Somebody with the permissions of the policy, and no others."""
    policy = json.loads(POLICY.replace("circle-pin-reset", service.name))
    resources = {one["Sid"]: one for one in policy["Statement"]}
    # On AWS, CloudFormation begins the names of these log groups with the stack's.
    resources["SearchLogs"]["Resource"].append(f"arn:aws:logs:*:*:log-group:/aws/cloudformation/{service.name}/*")
    # The emulator does not tell which log groups are searched.
    resources["SearchLogs"]["Resource"].append("*")
    return user_with(aws, "supporter", json.dumps(policy))


def run(service, credentials, *arguments):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return subprocess.run(
        [ROOT / "infra" / "support", service.name, *arguments],
        env={
            **environment,
            "AWS_ENDPOINT_URL": service.aws.url,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ACCESS_KEY_ID": credentials["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": credentials["SecretAccessKey"],
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )


@pytest.fixture
def support(service, operator):
    """Runs a command. Returns its output, or what it says if it fails."""

    def support(*arguments, fails=False):
        result = run(service, operator, *arguments)
        assert result.returncode == (1 if fails else 0), result.stdout + result.stderr
        assert "Traceback" not in result.stderr, result.stderr
        return result.stderr if fails else result.stdout

    return support


def test_one_id_leads_to_the_whole_story_of_a_challenge(circle, new_user, support, records, bus):
    user = new_user(jti="token-of-a-login", sid="a-login", auth_time=int(time.time()) - 60)
    challenge_id = user.create_challenge()["challengeId"]
    circle.control("POST", f"/challenges/{challenge_id}/pin", {"correct": True})
    until("a webhook has settled the challenge", lambda: records.get(challenge_id)["rank"] == {"N": "3"})
    assert user.challenge(challenge_id)["status"] == "COMPLETE"
    assert len(bus.events(challenge_id)) == 2

    found = json.loads(support("challenge", challenge_id.upper(), "--json"))
    record, story = found["record"], found["story"]
    assert (record["userId"], record["status"], record["settledBy"]) == (user.id, "COMPLETE", "webhook")
    assert [entry["at"] for entry in story] == sorted(entry["at"] for entry in story)
    by_log = {name: [one["line"] for one in story if one["log"] == name] for name in {one["log"] for one in story}}
    assert {"record", "create-challenge", "receive-webhook", "get-challenge", "announce-challenges"} <= set(by_log)

    # Who requested it, and from where.
    [created] = [line for line in by_log["create-challenge"] if line["message"] == "challenge created"]
    span = created["span"]
    creation = {key: value for key, value in record["creation"].items() if key != "at"}
    assert creation == {"requestId": span["request_id"], "sourceIp": span["source_ip"]}
    assert span["user"] == json.loads(support("user", user.id, "--json"))["userOfLogLines"]
    assert (span["token_id"], span["session_id"]) == ("token-of-a-login", "a-login")
    assert span["signed_in_at"]
    # What the same request did before the challenge had an id.
    before = [line for line in by_log["create-challenge"] if "challenge_id" not in line["span"]]
    assert "create_session" in {line.get("operation") for line in before}
    assert {line["span"]["request_id"] for line in by_log["create-challenge"]} == {span["request_id"]}
    # The events.
    events = [line for line in by_log["announce-challenges"] if line["message"] == "event published"]
    assert [line["detail_type"] for line in events] == ["PIN Change Requested", "PIN Challenge Settled"]
    assert all(line["event_id"] for line in events)

    text = support("challenge", challenge_id)
    assert f"{'userId':18} {user.id}" in text and f"source_ip={span['source_ip']}" in text
    rows = [line for line in text.splitlines() if line[24:].startswith(("record ", "create-challenge "))]
    assert len(rows) == len(by_log["record"]) + len(by_log["create-challenge"])
    assert "eyJ" not in text


def test_a_challenge_that_nobody_knows_is_no_error(support):
    assert "There is no such record" in support("challenge", "00000000-0000-4000-8000-000000000000")


def test_a_user_is_found_by_id_with_every_challenge(circle, user, new_user, support):
    first, second = (user.create_challenge(kind)["challengeId"] for kind in ("CHANGE_PIN", "RESTORE_PIN"))
    new_user().create_challenge()
    found = json.loads(support("user", user.id, "--json"))
    assert [one["challengeId"] for one in found["challenges"]] == [second, first]
    assert found["isBlocked"] is False and found["lastSessionAt"] is not None
    text = support("user", user.id)
    assert "RESTORE_PIN  PENDING" in text and first in text and "Blocked             no" in text
    assert support("user", "nobody-here").count("\n") == 5


def test_a_blocked_user_gets_nothing_until_unblocked(user, support):
    assert user.call("GET", "/pin").status == 200
    assert "is blocked" in support("block", user.id)
    response = user.call("GET", "/pin")
    assert (response.status, response.json()["code"]) == (403, "user_blocked")
    assert "Blocked             yes" in support("user", user.id)
    support("unblock", user.id)
    assert user.call("GET", "/pin").status == 200
    assert "is not blocked" in support("unblock", user.id, fails=True)


def test_a_user_can_be_blocked_before_the_first_request(aws, service, user, support):
    support("block", user.id)
    assert user.call("POST", "/session-tokens").status == 403
    support("unblock", user.id)
    items = aws.client("dynamodb").scan(TableName=service.resource("RateLimitsTable"))["Items"]
    assert all("expiresAt" in item for item in items), "nothing stays for ever"
    assert user.call("POST", "/session-tokens").status == 201


def test_new_challenges_can_be_stopped(aws, service, support):
    """The item that the functions read, at most every 30 seconds."""
    support("stop")
    assert "challenges-stopped" in limit_keys(aws, service)
    support("start")
    assert "challenges-stopped" not in limit_keys(aws, service)
    support("start")


def test_an_abandoned_challenge_is_settled_by_the_next_run(aws, circle, service, user, support, records, overdue):
    circle.lose_webhooks()
    challenge_id, other = (user.create_challenge()["challengeId"] for _ in range(2))
    aws.client("dynamodb").update_item(
        TableName=records.name,
        Key={"challengeId": {"S": challenge_id}},
        UpdateExpression="SET abandonedAt = :at, abandonedReason = :reason REMOVE openShard, nextCheckAt",
        ExpressionAttributeValues={":at": {"S": "2026-01-01T12:00:00Z"}, ":reason": {"S": "checks_failed"}},
    )
    circle.control("POST", f"/challenges/{challenge_id}/pin", {"correct": True})
    assert f"resume {challenge_id}" in support("challenge", challenge_id)

    unknown = "00000000-0000-4000-8000-000000000000"
    lines = support("resume", challenge_id, other, unknown).splitlines()
    assert [line.split()[0] for line in lines] == [challenge_id, other, unknown]
    assert "resumed" in lines[0] and "not abandoned" in lines[1] and "nobody has requested" in lines[2]
    overdue(challenge_id)
    alias = service.resource("ReconcileChallengesFunctionAliaslive")
    aws.client("lambda").invoke(FunctionName=alias, Payload=b"{}")
    assert records.get(challenge_id)["settledBy"] == {"S": "reconcile"}


def test_a_user_is_erased_but_not_while_a_challenge_is_open(aws, circle, service, user, new_user, support, records):
    settled, still_open = (user.create_challenge()["challengeId"] for _ in range(2))
    other = new_user()
    others = other.create_challenge()["challengeId"]
    circle.control("POST", f"/challenges/{settled}/pin", {"correct": True})
    until("a webhook has settled the challenge", lambda: records.get(settled)["rank"] == {"N": "3"})

    refused = support("erase", user.id, "--yes", fails=True)
    assert still_open in refused and settled not in refused and "--force" in refused
    assert "--yes" in support("erase", user.id, "--force", fails=True), "nobody can be asked"
    assert records.get(settled) and records.get(still_open)

    before = limit_keys(aws, service)
    text = support("erase", user.id, "--yes", "--force")
    assert "Deleted challenges: 2." in text and "AuditLog" not in text
    assert "- 400 days: the logs for auditors, with a keyed hash of the user id" in text
    assert records.get(settled) is records.get(still_open) is None
    assert records.get(others)
    # The user's bucket, and the item of the hour or the two hours in which the challenges were created.
    assert len(before - limit_keys(aws, service)) in (2, 3)
    assert json.loads(support("user", user.id, "--json"))["challenges"] == []
    assert json.loads(support("user", other.id, "--json"))["lastSessionAt"]


def test_a_blocked_user_stays_blocked_after_an_erasure(user, support):
    user.create_challenge()
    support("block", user.id)
    assert "One item is kept" in support("erase", user.id, "--yes", "--force")
    assert user.call("GET", "/pin").status == 403
    support("unblock", user.id)


def limit_keys(aws, service):
    items = aws.client("dynamodb").scan(TableName=service.resource("RateLimitsTable"))["Items"]
    return {item["limitKey"]["S"] for item in items}


def test_without_permissions_it_says_what_is_needed(aws, service):
    nothing = {"Effect": "Deny", "Action": "*", "Resource": "*"}
    stranger = user_with(aws, "stranger-to-support", json.dumps({"Version": "2012-10-17", "Statement": [nothing]}))
    result = run(service, stranger, "user", "alice")
    assert result.returncode == 1 and "Traceback" not in result.stderr
    assert "DescribeStacks" in result.stderr and "support-policy.json" in result.stderr
