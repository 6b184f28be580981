"""Circle's webhooks through the public URL: byte for byte, signature first."""

import json
import queue
import threading
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from processes import HTTP, until

# Valid JSON as no serialiser writes it: parsed and written again, it is other bytes.
ODD = (
    '\r\n {{ "version" :2.0e0,\t"notificationType":"challenges.changePin" , "notificationId":"{id}",\n'
    ' "notification" : {{"status":"COM\\u0050LETE","type":"CHANGE_PIN", "id" : "{id}"'
    ' ,"note":"Zoë 🔑 \\ud83d\\udd11 \\/ \u2028"}}'
    ' , "timestamp":"2026-01-01T12:00:00.123456789Z" , "subscriptionId" : "{id}" }}\n\n\t '
)


class Receiver:
    """Another endpoint that is subscribed, which has what Circle truly signed."""

    def __init__(self, circle):
        received = self.received = queue.Queue()

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self):
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def do_POST(self):
                received.put((dict(self.headers), self.rfile.read(int(self.headers["Content-Length"]))))
                self.do_HEAD()

            def log_message(self, *_):
                pass

        self.circle = circle
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{self.server.server_port}/"
        body = {"endpoint": url, "notificationTypes": ["*"]}
        self.headers = {"Authorization": f"Bearer {circle.api_key}"}
        answer = HTTP.request("POST", f"{circle.url}/v2/notifications/subscriptions", json=body, headers=self.headers)
        assert answer.status == 200, answer.data
        self.subscription = answer.json()["data"]["id"]

    def next(self, wanted):
        while True:
            headers, body = self.received.get(timeout=10)
            if wanted in body:
                names = ("x-circle-key-id", "x-circle-signature")
                return {name: value for name, value in headers.items() if name.lower() in names}, body

    def close(self):
        url = f"{self.circle.url}/v2/notifications/subscriptions/{self.subscription}"
        assert HTTP.request("DELETE", url, headers=self.headers).status == 204
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def receiver(circle, service):
    receiver = Receiver(circle)
    yield receiver
    receiver.close()


@pytest.fixture
def odd(circle, receiver):
    """A signed message of odd bytes: the challenge's id, Circle's two headers, and the body."""
    challenge_id = str(uuid.uuid4())
    text = ODD.format(id=challenge_id)
    circle.control("POST", "/webhooks", {"raw": text})
    headers, body = receiver.next(challenge_id.encode())
    assert body == text.encode()
    return challenge_id, headers, body


def post(service, headers, body, content_type="application/json"):
    answer = service.call("POST", "/webhooks/circle", None, body, {**headers, "Content-Type": content_type})
    return answer.status, answer.json()


# API Gateway hands a function text as it is, and what is not text in base64.
CONTENT_TYPES = [
    "application/json",
    "application/json; charset=utf-8",
    "text/plain",
    "application/octet-stream",
    "image/png",
]


def test_circles_own_delivery_is_taken_byte_for_byte(circle, service, odd, records):
    challenge_id, _, _ = odd
    [delivery] = until("it is delivered", lambda: circle.deliveries(service.webhook_url, challenge_id))
    assert (delivery["attempt"], delivery["status"]) == (1, 200)
    assert records.get(challenge_id)["status"] == {"S": "COMPLETE"}


@pytest.mark.parametrize("content_type", CONTENT_TYPES)
def test_signed_bytes_arrive_as_they_were_signed(circle, service, odd, content_type):
    challenge_id, headers, body = odd
    until("Circle has delivered it", lambda: circle.deliveries(service.webhook_url, challenge_id))
    assert post(service, headers, body, content_type) == (200, {"outcome": "duplicate"})


CHANGES = {
    "a space more": lambda body: body + b" ",
    "a line end less": lambda body: body.replace(b"\r\n", b"\n", 1),
    "another way to write the same JSON": lambda body: json.dumps(json.loads(body)).encode(),
    "a byte order mark": lambda body: b"\xef\xbb\xbf" + body,
    "no longer UTF-8": lambda body: body[:-1] + b"\xff",
    "nothing": lambda body: b"",
}


@pytest.mark.parametrize("content_type", ["application/json", "application/octet-stream"])
@pytest.mark.parametrize("change", CHANGES)
def test_other_bytes_are_not_circles(service, odd, change, content_type):
    _, headers, body = odd
    status, problem = post(service, headers, CHANGES[change](body), content_type)
    assert (status, problem["code"]) == (401, "invalid_signature")


def test_without_circles_headers_nothing_is_taken(service, odd):
    _, headers, body = odd
    for missing in headers:
        rest = {name: value for name, value in headers.items() if name != missing}
        status, problem = post(service, rest, body)
        assert (status, problem["code"]) == (401, "invalid_signature"), missing


def test_circles_check_needs_no_token(service):
    answer = HTTP.request("HEAD", service.webhook_url)
    assert (answer.status, answer.data) == (200, b"")


def test_a_new_signing_key_is_found(circle, service, receiver):
    circle.control("POST", "/signing-key/rotate")
    challenge_id = str(uuid.uuid4())
    circle.control("POST", "/webhooks", {"raw": ODD.format(id=challenge_id)})
    [delivery] = until("it is delivered", lambda: circle.deliveries(service.webhook_url, challenge_id))
    assert (delivery["attempt"], delivery["status"]) == (1, 200)


def test_of_another_apps_challenge_callers_see_nothing(circle, service, user, records):
    challenge_id = str(uuid.uuid4())
    notification = {"id": challenge_id, "userId": user.id, "type": "CHANGE_PIN", "status": "COMPLETE"}
    circle.control("POST", "/webhooks", {"notificationType": "challenges.changePin", "notification": notification})
    until("it is delivered", lambda: circle.deliveries(service.webhook_url, challenge_id))
    record = records.get(challenge_id)
    assert record["status"] == {"S": "COMPLETE"} and "requestedAt" not in record
    answer = user.call("GET", f"/challenges/{challenge_id}")
    assert (answer.status, answer.json()["code"]) == (404, "challenge_not_found")
