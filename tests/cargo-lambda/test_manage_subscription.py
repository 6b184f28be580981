"""The webhook's subscription, as a deployment creates it, keeps it and removes it."""

import pytest

from expected import UUID, Text
from receiver import Receiver


@pytest.fixture
def changed(event):
    """The event in `events/`, for another endpoint."""
    shipped = event("manage-subscription")["ResourceProperties"]["Endpoint"]
    return lambda endpoint: event("manage-subscription", shipped, endpoint)


@pytest.fixture
def endpoint(stack):
    return f"{stack['api']}/webhooks/circle"


def outcome(event, status, physical_id, **members):
    ids = {name: event[name] for name in ["StackId", "RequestId", "LogicalResourceId"]}
    return {"Status": status, "PhysicalResourceId": physical_id, **ids, **members}


def test_another_endpoint_fails_the_deployment(invoke, changed):
    event = changed("https://api.example.com/webhooks/circle")
    reason = Text(r".*Endpoint.*WEBHOOK_URL.* CloudWatch log group .*")
    assert invoke("manage-subscription", event) == outcome(event, "FAILED", "not-created", Reason=reason)


def test_an_existing_subscription_is_kept(invoke, changed, circle, endpoint):
    [existing] = circle.subscriptions(endpoint)
    event = changed(endpoint)
    assert invoke("manage-subscription", event) == outcome(event, "SUCCESS", existing["id"])
    assert circle.subscriptions(endpoint) == [existing]


def test_a_subscription_is_deleted_and_created(invoke, changed, circle, endpoint):
    [existing] = circle.subscriptions(endpoint)
    event = changed(endpoint)
    with Receiver() as receiver:
        response_url = f"{receiver.url}?X-Amz-Signature=pre-signed"
        deletion = {**event, "RequestType": "Delete", "PhysicalResourceId": existing["id"]}
        deleted = invoke("manage-subscription", {**deletion, "ResponseURL": response_url})
        headers, _, uploaded = receiver.next(lambda _: True)
    assert deleted == outcome(event, "SUCCESS", existing["id"])
    # A pre-signed URL accepts no other content type.
    assert (headers["content-type"], uploaded) == ("", deleted)
    assert circle.subscriptions(endpoint) == []

    created = invoke("manage-subscription", event)
    assert created == outcome(event, "SUCCESS", UUID)
    assert [one["id"] for one in circle.subscriptions(endpoint)] == [created["PhysicalResourceId"]]
