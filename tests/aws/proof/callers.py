"""The API with a user's token. No token, session or key is ever printed."""

import base64
import binascii
import json
import sys
import time
import uuid

import jsonschema

from .api import OPENAPI
from .background import messages
from .deployment import until
from .events import settled
from .listener import Listener
from .table import Failed, NotChecked, require

# How long a person has to complete a challenge.
PATIENCE = 600


class User:
    def __init__(self, api, token):
        self.api = api
        self.token = token
        self.session = None
        self.challenge_id = None

    def call(self, method, path, status, schema, headers=None, **body):
        """Calls the API, checks the status and the body, and returns the body."""
        response = self.api.call(method, path, self.token, headers, **body)
        if response.status != status:
            raise Failed(f"{method} {path.partition('?')[0]}: {problem(response)}")
        try:
            document = response.json()
        except ValueError:
            raise Failed("the body is not JSON") from None
        wanted = {"$ref": f"#/components/schemas/{schema}", "components": OPENAPI["components"]}
        for error in jsonschema.Draft202012Validator(wanted).iter_errors(document):
            # The message of the error would print the value, which may be a secret.
            raise Failed(f"the body is not a {schema}: {error.json_path} violates {error.validator}")
        return document

    def claim(self, name):
        """A claim of the token. API Gateway verifies the token, not this program."""
        try:
            payload = self.token.split(".")[1]
            return json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))).get(name)
        except (IndexError, ValueError, binascii.Error):
            raise Failed("the token is not a JWT") from None

    def secrets(self):
        """What must not appear in a log."""
        session = self.session or {}
        return [one for one in (self.token, session.get("userToken"), session.get("encryptionKey")) if one]


def problem(response):
    """What went wrong, from a problem document or from API Gateway."""
    try:
        body = response.json()
    except ValueError:
        body = {}
    said = response.headers.get("www-authenticate") or body.get("detail") or body.get("message") or ""
    return f"{response.status} {body.get('code', '')} {said}"


def checks(table, user):
    if user is None:
        table.check("session", needs_token)
        return
    if table.check("session", session, user):
        table.check("state of the PIN", pin, user)
        if table.check("challenge", challenge, user):
            table.check("status of the challenge", status, user)
            table.check("list of challenges", listed, user)


def needs_token():
    raise NotChecked("needs the token of a test user who has a PIN: the variable TOKEN, or --token-file")


def session(user):
    user.session = user.call("POST", "/session-tokens", 201, "Session")
    return f"201, valid until {user.session['expiresAt']}"


def pin(user):
    state = user.call("GET", "/pin", 200, "Pin")
    return f"200, PIN {state['pinStatus']}, security questions {state['securityQuestionStatus']}"


def challenge(user):
    headers = {"X-User-Token": user.session["userToken"], "Idempotency-Key": str(uuid.uuid4())}
    created = user.call("POST", "/challenges", 201, "CreatedChallenge", headers, json={"type": "CHANGE_PIN"})
    user.session = created.get("session", user.session)
    user.challenge_id = created["challengeId"]
    return f"201, {user.challenge_id}; nobody has to complete it"


def status(user):
    headers = {"X-User-Token": user.session["userToken"]}
    found = user.call("GET", f"/challenges/{user.challenge_id}", 200, "Challenge", headers)
    # With a session, the service has asked Circle.
    if "checkError" in found:
        raise Failed(f"200 {found['status']}, but Circle could not be asked: {found['checkError']['code']}")
    return f"200 {found['status']}"


def newest(user):
    return user.call("GET", "/challenges?limit=20", 200, "ChallengeList")["challenges"]


def listed(user):
    # The index is eventually consistent.
    ids = until(lambda: user.challenge_id in [one["challengeId"] for one in newest(user)], patience=15)
    require(ids, "the challenge does not appear in the list")
    return "200, with the challenge"


def interactive(table, deployment, user):
    """Waits until a person has changed the PIN, and checks the record, the webhook and the event."""
    if user is None or user.session is None:
        table.check("PIN change by a person", needs_token)
        return
    user_id = user.claim(deployment.parameters["UserIdClaim"])
    with Listener(table, deployment, "person", {"userId": [user_id]}) as listener:
        done = {}
        if table.check("PIN change by a person", wait_for_person, user, done):
            table.check("record of the PIN change", record, deployment, done)
            table.check("webhook of the PIN change", webhook, deployment, done["challengeId"])
            table.check("event of the PIN change", event, listener, done["challengeId"], user_id)


def event(listener, challenge_id, user_id):
    return settled(listener, challenge_id, challengeId=challenge_id, userId=user_id, version=1, status="COMPLETE")


def webhook(deployment, challenge_id):
    """The app's polls may have settled the record before it. Then it changes nothing, but it has to arrive."""
    group = deployment.resource("ReceiveWebhookLogGroup")

    def found():
        lines = messages(deployment, group, deployment.started, "webhook accepted")
        reports = [(line["span"].get("challenge_id"), line.get("status")) for _, line in lines]
        return (challenge_id, "COMPLETE") in reports

    require(until(found, deployment.patience), f"no webhook within {deployment.patience} s")
    return "COMPLETE"


def wait_for_person(user, done):
    minutes = PATIENCE // 60
    print(
        f"\nChange the PIN of this user in your app now, within {minutes} minutes. A new challenge counts, and so does"
        f"\nthis one: {user.challenge_id}\n",
        file=sys.stderr,
        flush=True,
    )

    def completed():
        return {one["challengeId"]: one for one in newest(user) if one["status"] == "COMPLETE"}

    before, began = completed(), time.monotonic()
    found = until(lambda: [one for id, one in completed().items() if id not in before], PATIENCE, interval=3)
    if not found:
        raise NotChecked(f"nobody completed a challenge within {minutes} minutes")
    done.update(found[0])
    return f"{done['challengeId']} after {time.monotonic() - began:.0f} s"


def record(deployment, done):
    item = deployment.client("dynamodb").get_item(
        TableName=deployment.outputs["ChallengesTableName"],
        Key={"challengeId": {"S": done["challengeId"]}},
        ProjectionExpression="challengeId, #status, settledBy",
        ExpressionAttributeNames={"#status": "status"},
        ConsistentRead=True,
    )["Item"]
    status, settled_by = item["status"]["S"], item.get("settledBy", {}).get("S")
    require(status == "COMPLETE", status)
    require(settled_by, "COMPLETE, but without settledBy")
    return f"COMPLETE, settledBy {settled_by}"
