"""Responses as the functions return them to API Gateway. The end-to-end tests check the sentences in them."""

import re


class Text:
    """Equal to every string that the pattern matches from its beginning to its end."""

    def __init__(self, pattern):
        self.pattern = re.compile(pattern, re.DOTALL)

    def __eq__(self, other):
        return isinstance(other, str) and self.pattern.fullmatch(other) is not None

    def __repr__(self):
        return f"Text({self.pattern.pattern!r})"


SENTENCE = Text(r"\w.*")
UUID = Text(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
TIME = Text(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
TOKEN = Text(r"[\w-]+\.[\w-]+\.[\w-]+")

SESSION = {"userToken": TOKEN, "encryptionKey": Text(".+"), "expiresAt": TIME}
PENDING = {
    "challengeId": UUID,
    "type": "CHANGE_PIN",
    "status": "PENDING",
    "createdAt": TIME,
    "updatedAt": TIME,
    "checkedAt": TIME,
}
JSON_HEADERS = {"cache-control": "no-store", "content-type": "application/json"}
POLL_HEADERS = {**JSON_HEADERS, "retry-after": "3"}


def response(status, body, headers=JSON_HEADERS):
    return {
        "statusCode": status,
        "headers": headers,
        "multiValueHeaders": {},
        "cookies": [],
        "body": body,
        "isBase64Encoded": False,
    }


def problem(status, code, **members):
    body = {
        "type": f"urn:circle-pin-reset:problem:{code}",
        "title": SENTENCE,
        "status": status,
        "detail": SENTENCE,
        "code": code,
        # The request id of every event in `events/`.
        "requestId": "JKJaXmPLvHcESHA=",
        **members,
    }
    return response(status, body, {**JSON_HEADERS, "content-type": "application/problem+json"})


CHALLENGE_NOT_FOUND = problem(404, "challenge_not_found", userMessage=SENTENCE)
INVALID_SIGNATURE = problem(401, "invalid_signature")
