"""Reconciliation, invoked as its schedule invokes it."""

import time

from deployment import invoke
from processes import until


def run(aws, service):
    return invoke(aws, service.resource("ReconcileChallengesFunctionAliaslive"), {})


def test_a_challenge_whose_webhook_was_lost_is_settled(aws, circle, service, user, records, overdue):
    circle.lose_webhooks()
    challenge_id = user.create_challenge()["challengeId"]
    circle.control("POST", f"/challenges/{challenge_id}/pin", {"correct": True})
    run(aws, service)
    assert records.get(challenge_id)["rank"] == {"N": "0"}, "the check is not due yet"

    overdue(challenge_id)
    run(aws, service)
    record = records.get(challenge_id)
    assert (record["status"], record["settledBy"]) == ({"S": "COMPLETE"}, {"S": "reconcile"})
    assert not {"openShard", "nextCheckAt"} & set(record)
    assert user.challenge(challenge_id)["status"] == "COMPLETE"


def test_an_open_challenge_is_checked_again_later(aws, service, user, records, overdue):
    challenge_id = user.create_challenge()["challengeId"]
    overdue(challenge_id)
    assert run(aws, service)["open"] == 1
    record = records.get(challenge_id)
    assert record["rank"] == {"N": "0"}
    assert int(record["nextCheckAt"]["N"]) > time.time()


def test_a_user_with_a_recent_session_is_deferred(aws, circle, service, user, records, overdue):
    """A check needs a new session, which might end the one in use."""
    challenge_id = user.create_challenge()["challengeId"]
    overdue(challenge_id)
    assert user.call("POST", "/session-tokens").status == 201
    circle.control("DELETE", "/calls")
    assert run(aws, service)["deferred"] == 1
    assert circle.control("GET", "/calls") == {}
    overdue(challenge_id)
    assert run(aws, service)["open"] == 1


def test_the_schedule_starts_a_run(aws, circle, service, user, records, overdue, start_now):
    schedule = aws.client("scheduler").get_schedule(Name=f"{service.name}-reconcile")
    assert (schedule["State"], schedule["ScheduleExpression"]) == ("ENABLED", "rate(5 minutes)")
    circle.lose_webhooks()
    challenge_id = user.create_challenge()["challengeId"]
    circle.control("POST", f"/challenges/{challenge_id}/pin", {"correct": True})
    overdue(challenge_id)
    start_now(schedule)
    until("the run has settled the challenge", lambda: records.get(challenge_id)["rank"] == {"N": "3"}, patience=60)
    assert records.get(challenge_id)["settledBy"] == {"S": "reconcile"}

    # The emulator does not check the permission of the role.
    role = schedule["Target"]["RoleArn"].rpartition("/")[2]
    [policy] = aws.client("iam").list_role_policies(RoleName=role)["PolicyNames"]
    [statement] = aws.client("iam").get_role_policy(RoleName=role, PolicyName=policy)["PolicyDocument"]["Statement"]
    assert (statement["Action"], statement["Resource"]) == ("lambda:InvokeFunction", schedule["Target"]["Arn"])
