"""A webhook that Circle signed, received by an endpoint of this suite and sent to the function as an event."""

import pytest

from expected import INVALID_SIGNATURE, Text, response
from receiver import Receiver


@pytest.fixture
def signed(invoke, event, circle):
    """The event of a webhook about a failed challenge."""
    with Receiver() as receiver:
        subscription_id = circle.subscribe(receiver.url)
        receiver.next(lambda message: message["notificationType"] == "webhooks.test")
        challenge_id = invoke("create-challenge")["body"]["challengeId"]
        circle.control("POST", f"/challenges/{challenge_id}/cancel")

        def failed(message):
            notification = message["notification"]
            return (notification.get("id"), notification.get("status")) == (challenge_id, "FAILED")

        headers, body, _ = receiver.next(failed)
        circle.unsubscribe(subscription_id)
    signed = event("receive-webhook")
    signed["body"] = body.decode()
    signed["headers"] |= {name: headers[name] for name in ["x-circle-key-id", "x-circle-signature", "content-type"]}
    signed["headers"]["content-length"] = str(len(body))
    return signed


def outcome(pattern):
    return response(200, {"outcome": Text(pattern)})


def test_circles_own_webhook_is_accepted_and_an_altered_one_is_not(invoke, signed):
    # Circle also delivers the notification to the webhook route, either before this event or after it.
    assert invoke("receive-webhook", signed) == outcome("applied|duplicate|stale")
    assert invoke("receive-webhook", signed) == outcome("duplicate|stale")
    altered = {**signed, "body": signed["body"].replace("FAILED", "COMPLETE")}
    assert altered != signed
    assert invoke("receive-webhook", altered) == INVALID_SIGNATURE


def test_circles_head_request_gets_an_empty_response(invoke, event):
    head = event("receive-webhook", "POST /webhooks/circle", "HEAD /webhooks/circle")
    head["requestContext"]["http"]["method"] = "HEAD"
    del head["body"]
    assert invoke("receive-webhook", head) == response(200, "", headers={})
