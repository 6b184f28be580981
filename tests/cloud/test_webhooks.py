"""Circle's webhooks through the public URL: the signature covers the exact bytes of the body."""

import json
import uuid

import pytest

from processes import HTTP, until
from receiver import Receiver

# Valid JSON that no serializer writes. Parsing it and writing it again gives other bytes.
ODD = (
    '\r\n {{ "version" :2.0e0,\t"notificationType":"challenges.changePin" , "notificationId":"{id}",\n'
    ' "notification" : {{"status":"COM\\u0050LETE","type":"CHANGE_PIN", "id" : "{id}"'
    ' ,"note":"Zoë 🔑 \\ud83d\\udd11 \\/ \u2028"}}'
    ' , "timestamp":"2026-01-01T12:00:00.123456789Z" , "subscriptionId" : "{id}" }}\n\n\t '
)


@pytest.fixture
def receiver(circle, service):
    """Another endpoint with a subscription, which receives what Circle signs."""
    with Receiver() as receiver:
        subscription_id = circle.subscribe(receiver.url)
        yield receiver
        circle.unsubscribe(subscription_id)


@pytest.fixture
def odd(circle, receiver):
    """A signed message of odd bytes: the challenge's id, Circle's two headers and the body."""
    challenge_id = str(uuid.uuid4())
    text = ODD.format(id=challenge_id)
    circle.control("POST", "/webhooks", {"raw": text})
    headers, body, _ = receiver.next(lambda message: message["notification"].get("id") == challenge_id)
    assert body == text.encode()
    return challenge_id, {name: headers[name] for name in ["x-circle-key-id", "x-circle-signature"]}, body


def post(service, headers, body, content_type="application/json"):
    response = service.call("POST", "/webhooks/circle", None, body, {**headers, "Content-Type": content_type})
    return response.status, response.json()


# API Gateway passes text to a function as it is, and other content in base64.
CONTENT_TYPES = [
    "application/json",
    "application/json; charset=utf-8",
    "text/plain",
    "application/octet-stream",
    "image/png",
]


def test_circles_own_delivery_is_accepted(circle, service, odd, records):
    challenge_id, _, _ = odd
    [delivery] = until("Circle has delivered the webhook", lambda: circle.deliveries(service.webhook_url, challenge_id))
    assert (delivery["attempt"], delivery["status"]) == (1, 200)
    assert records.get(challenge_id)["status"] == {"S": "COMPLETE"}


@pytest.mark.parametrize("content_type", CONTENT_TYPES)
def test_signed_bytes_arrive_as_they_were_signed(circle, service, odd, content_type):
    challenge_id, headers, body = odd
    until("Circle has delivered the webhook", lambda: circle.deliveries(service.webhook_url, challenge_id))
    assert post(service, headers, body, content_type) == (200, {"outcome": "duplicate"})


CHANGES = {
    "an added space": lambda body: body + b" ",
    "a removed carriage return": lambda body: body.replace(b"\r\n", b"\n", 1),
    "the same JSON, written again": lambda body: json.dumps(json.loads(body)).encode(),
    "an added byte order mark": lambda body: b"\xef\xbb\xbf" + body,
    "invalid UTF-8": lambda body: body[:-1] + b"\xff",
    "an empty body": lambda body: b"",
}


@pytest.mark.parametrize("content_type", ["application/json", "application/octet-stream"])
@pytest.mark.parametrize("change", CHANGES)
def test_changed_bytes_are_rejected(service, odd, change, content_type):
    _, headers, body = odd
    status, problem = post(service, headers, CHANGES[change](body), content_type)
    assert (status, problem["code"]) == (401, "invalid_signature")


def test_a_webhook_without_circles_headers_is_rejected(service, odd):
    _, headers, body = odd
    for missing in headers:
        rest = {name: value for name, value in headers.items() if name != missing}
        status, problem = post(service, rest, body)
        assert (status, problem["code"]) == (401, "invalid_signature"), missing


def test_circles_head_request_needs_no_token(service):
    response = HTTP.request("HEAD", service.webhook_url)
    assert (response.status, response.data) == (200, b"")


def test_a_new_signing_key_is_found(circle, service, receiver):
    circle.control("POST", "/signing-key/rotate")
    challenge_id = str(uuid.uuid4())
    circle.control("POST", "/webhooks", {"raw": ODD.format(id=challenge_id)})
    [delivery] = until("Circle has delivered the webhook", lambda: circle.deliveries(service.webhook_url, challenge_id))
    assert (delivery["attempt"], delivery["status"]) == (1, 200)


def test_callers_cannot_read_a_challenge_that_nobody_requested(circle, service, user, records):
    challenge_id = str(uuid.uuid4())
    notification = {"id": challenge_id, "userId": user.id, "type": "CHANGE_PIN", "status": "COMPLETE"}
    circle.control("POST", "/webhooks", {"notificationType": "challenges.changePin", "notification": notification})
    until("Circle has delivered the webhook", lambda: circle.deliveries(service.webhook_url, challenge_id))
    record = records.get(challenge_id)
    assert record["status"] == {"S": "COMPLETE"} and "requestedAt" not in record
    response = user.call("GET", f"/challenges/{challenge_id}")
    assert (response.status, response.json()["code"]) == (404, "challenge_not_found")
