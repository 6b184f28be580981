"""From a record to its events: a synthetic record is written and settled while a temporary queue listens.

The user and the beginning of the ids are fixed, so that consumers can ignore them and that policy.json allows no other
write.
"""

import time
import uuid
from datetime import datetime, timezone

from .listener import Listener, remove_leftovers
from .table import Failed, require

SYNTHETIC_USER = "synthetic-check"
# The ids of synthetic records are UUIDs that begin with this.
SYNTHETIC_IDS = "5e1f7e57-0000-4000-8000-"
LIFETIME = 3600
# A new rule can take some time until it matches, so that the first record may stay without an event.
ATTEMPTS = 3
WHERE = "read the log of announce-challenges and the queue of unreadable records"
REQUESTED = {"version", "challengeId", "userId", "type", "requestedAt"}
SETTLED = {"version", "challengeId", "userId", "type", "status", "reason", "circleCode", "updatedAt"}


def checks(table, deployment):
    table.check("leftovers of earlier runs", remove_leftovers, deployment)
    with Listener(table, deployment, "record", {"userId": [SYNTHETIC_USER]}) as listener:
        table.check("events of a synthetic challenge", announced, deployment, listener)


def announced(deployment, listener):
    if listener.error:
        raise listener.error
    for _ in range(ATTEMPTS):
        challenge_id = SYNTHETIC_IDS + uuid.uuid4().hex[:12]
        known = {"version": 1, "challengeId": challenge_id, "userId": SYNTHETIC_USER, "type": "CHANGE_PIN"}
        with SyntheticRecord(deployment, challenge_id) as record:
            began = time.monotonic()
            event = listener.event("PIN Change Requested", challenge_id)
            if not event:
                continue
            compare(event, REQUESTED, known)
            requested = time.monotonic() - began
            record.settle()
            settled(listener, challenge_id, **known, status="EXPIRED", reason="expired", circleCode=None)
            return f"requested: after {requested:.1f} s; settled: {time.monotonic() - began - requested:.1f} s later"
    raise Failed(f"no event of {ATTEMPTS} records, within {deployment.patience} s each; {WHERE}")


def settled(listener, challenge_id, **known):
    """Waits for the event of a challenge's end, and checks its detail."""
    began = time.monotonic()
    event = listener.event("PIN Challenge Settled", challenge_id)
    require(event, f"no event that the challenge is settled within {listener.deployment.patience} s; {WHERE}")
    compare(event, SETTLED, known)
    return f"{event['detail']['status']}, after {time.monotonic() - began:.1f} s"


def compare(event, members, known):
    """The detail has all members, and the known values. A later version may add members."""
    detail = event["detail"]
    missing = members - set(detail)
    require(not missing, f"{event['detail-type']} lacks {', '.join(sorted(missing))}")
    wrong = {name: detail[name] for name, value in known.items() if detail[name] != value}
    require(not wrong, f"{event['detail-type']} has {wrong}")


class SyntheticRecord:
    """A record of a challenge that Circle does not know. It is in no index, so that neither callers nor reconciliation
    see it."""

    def __init__(self, deployment, challenge_id):
        self.dynamodb = deployment.client("dynamodb")
        self.table = deployment.outputs["ChallengesTableName"]
        self.key = {"challengeId": {"S": challenge_id}}

    def __enter__(self):
        now = timestamp()
        item = {
            **self.key,
            "userId": {"S": SYNTHETIC_USER},
            "type": {"S": "CHANGE_PIN"},
            "status": {"S": "PENDING"},
            "rank": {"N": "0"},
            **{name: {"S": now} for name in ("createdAt", "requestedAt", "updatedAt", "checkedAt")},
            # DynamoDB removes it if this program cannot.
            "expiresAt": {"N": str(int(time.time()) + LIFETIME)},
        }
        self.dynamodb.put_item(TableName=self.table, Item=item, ConditionExpression="attribute_not_exists(challengeId)")
        return self

    def settle(self):
        """EXPIRED is the end that no user has to be told of."""
        self.dynamodb.update_item(
            TableName=self.table,
            Key=self.key,
            UpdateExpression="SET #status = :expired, #rank = :final, reason = :reason, updatedAt = :now",
            ExpressionAttributeNames={"#status": "status", "#rank": "rank"},
            ExpressionAttributeValues={
                ":expired": {"S": "EXPIRED"},
                ":final": {"N": "2"},
                ":reason": {"S": "expired"},
                ":now": {"S": timestamp()},
            },
        )

    def __exit__(self, *_):
        self.dynamodb.delete_item(TableName=self.table, Key=self.key)


def timestamp():
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
