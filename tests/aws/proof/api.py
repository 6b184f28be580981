"""The API without a valid token: API Gateway's part, and the webhook route."""

import base64
import concurrent.futures
import time
import uuid

import yaml

from .deployment import HTTP, ROOT
from .table import Failed, NotChecked, require

OPENAPI = yaml.safe_load((ROOT / "infra" / "openapi.yaml").read_text())
METHODS = {"get", "post", "put", "patch", "delete", "head"}
PROTECTED = sorted(
    f"{method.upper()} {path}" for path, item in OPENAPI["paths"].items() for method in METHODS & set(item)
)
WEBHOOK = "/webhooks/circle"
OPEN = [f"HEAD {WEBHOOK}", f"POST {WEBHOOK}"]
FOREIGN_ORIGIN = "https://not-allowed.example"
# The burst stops after this many requests, or this many seconds.
BURST_REQUESTS, BURST_SECONDS = 1000, 5


class Api:
    def __init__(self, deployment, url):
        self.url = (url or deployment.outputs["ApiUrl"]).rstrip("/")
        self.webhook_url = self.url + WEBHOOK if url else deployment.outputs["WebhookUrl"]

    def call(self, method, path, token=None, headers=None, **body):
        headers = {**(headers or {}), **({"Authorization": f"Bearer {token}"} if token else {})}
        url = self.webhook_url if path == WEBHOOK else self.url + path
        return HTTP.request(method, url, headers=headers, redirect=False, **body)

    def route(self, key, token=None):
        """Calls a route by its key, such as `GET /challenges/{challengeId}`."""
        method, _, path = key.partition(" ")
        return self.call(method, path.replace("{challengeId}", str(uuid.uuid4())), token)


def checks(table, deployment, api, wrong_scope_token, burst):
    table.check("routes", routes, deployment)
    table.check("issuer and audience", authorizer, deployment)
    table.check("no token: 401", rejected, api, None, 401)
    table.check("invalid token: 401", rejected, api, "abc", 401)
    if wrong_scope_token:
        table.check("token without the scope: 403", rejected, api, wrong_scope_token, 403)
    elif deployment.parameters["RequiredScope"]:
        table.check("token without the scope: 403", needs_wrong_scope_token)
    table.check("unknown route: 404", unknown_route, api)
    table.check("CORS", cors, deployment, api)
    table.check("throttles", throttles, deployment)
    table.check("HEAD of the webhook route", probe, api)
    table.check("forged webhook", forged_webhook, api)
    if burst:
        table.check("throttle in effect", throttled, deployment, api)


def routes(deployment):
    client, api_id = deployment.client("apigatewayv2"), deployment.resource("HttpApi")
    pages = client.get_paginator("get_routes").paginate(ApiId=api_id)
    found = {route["RouteKey"]: route for page in pages for route in page["Items"]}
    different = sorted(set(found) ^ {*PROTECTED, *OPEN})
    require(not different, f"missing or unknown: {', '.join(different)}")
    scope = deployment.parameters["RequiredScope"]
    for key in PROTECTED:
        require(found[key]["AuthorizationType"] == "JWT", f"{key} needs no token")
        scopes = found[key].get("AuthorizationScopes", [])
        require(scopes == ([scope] if scope else []), f"{key} requires the scopes {scopes}")
    return f"{len(PROTECTED)} need a token" + (f" with the scope {scope}" if scope else "") + f", {len(OPEN)} do not"


def authorizer(deployment):
    client, api_id = deployment.client("apigatewayv2"), deployment.resource("HttpApi")
    found = client.get_authorizers(ApiId=api_id)["Items"]
    require(len(found) == 1, f"{len(found)} authorizers")
    jwt = found[0]["JwtConfiguration"]
    issuer, audiences = deployment.parameters["JwtIssuer"], deployment.parameters["JwtAudience"].split(",")
    require(jwt["Issuer"] == issuer, f"the issuer is {jwt['Issuer']}")
    require(sorted(jwt["Audience"]) == sorted(audiences), f"the audiences are {jwt['Audience']}")
    return f"{issuer}, {', '.join(audiences)}"


def rejected(api, token, status):
    for key in PROTECTED:
        response = api.route(key, token)
        require(response.status == status, f"{key}: {response.status}")
        # API Gateway's own body. A function would respond with a problem document.
        require("problem" not in response.headers.get("content-type", ""), f"{key}: {status} of the function")
    return f"on {len(PROTECTED)} routes"


def needs_wrong_scope_token():
    raise NotChecked("needs --wrong-scope-token-file with a valid token without RequiredScope")


def unknown_route(api):
    response = api.call("GET", f"/{uuid.uuid4()}")
    require(response.status == 404, str(response.status))


def cors(deployment, api):
    """A browser's question before a request, from each allowed origin and from another one."""
    origins = [one for one in deployment.parameters["AllowedOrigins"].split(",") if one]
    for origin in [*origins, FOREIGN_ORIGIN]:
        for key in PROTECTED:
            method, _, path = key.partition(" ")
            asked = {
                "Origin": origin,
                "Access-Control-Request-Method": method,
                "Access-Control-Request-Headers": "authorization,content-type,idempotency-key,x-user-token",
            }
            response = api.call("OPTIONS", path.replace("{challengeId}", str(uuid.uuid4())), headers=asked)
            found = response.headers.get("access-control-allow-origin")
            require(found == (origin if origin in origins else None), f"{key}: the response to {origin} allows {found}")
            if origin in origins:
                allowed = response.headers.get("access-control-allow-headers", "").lower().replace(" ", "").split(",")
                require("*" in allowed or "authorization" in allowed, f"{key}: authorization is not allowed")
    return f"allowed: {', '.join(origins)}" if origins else "off: no origin is allowed"


def throttles(deployment):
    api_id = deployment.resource("HttpApi")
    stage = deployment.client("apigatewayv2").get_stage(ApiId=api_id, StageName="$default")
    settings = {"other routes": ("Route", stage.get("DefaultRouteSettings", {}))}
    settings |= {key: ("Webhook", stage.get("RouteSettings", {}).get(key, {})) for key in OPEN}
    for route, (group, found) in settings.items():
        for kind in ("Rate", "Burst"):
            wanted = float(deployment.parameters[f"{group}Throttle{kind}"])
            actual = found.get(f"Throttling{kind}Limit")
            require(actual == wanted, f"{route}: the {kind.lower()} is {actual}, not {wanted:g}")
    return ", ".join(
        f"{route}: {found['ThrottlingRateLimit']:g}/s, burst {found['ThrottlingBurstLimit']}"
        for route, (_, found) in settings.items()
    )


def probe(api):
    response = api.call("HEAD", WEBHOOK)
    require(response.status == 200, f"{response.status}; Circle's check of the endpoint fails too")
    return "200"


def forged_webhook(api):
    headers = {
        "Content-Type": "application/json",
        "X-Circle-Key-Id": str(uuid.uuid4()),
        # Well-formed, with 1 as both numbers.
        "X-Circle-Signature": base64.b64encode(bytes.fromhex("3006020101020101")).decode(),
    }
    response = api.call("POST", WEBHOOK, headers=headers, body=b'{"notification": {}}')
    code = response.json().get("code") if "problem" in response.headers.get("content-type", "") else None
    rejections = {(403, "source_not_allowed"): "by its address", (401, "invalid_signature"): "by its signature"}
    require((response.status, code) in rejections, f"{response.status} {code or ''}")
    return f"rejected {rejections[response.status, code]}: {response.status} {code}"


def throttled(deployment, api):
    """Sends HEAD requests until one is throttled. The bucket holds the burst, and is refilled at the rate."""
    rate, burst = (float(deployment.parameters[f"WebhookThrottle{kind}"]) for kind in ("Rate", "Burst"))
    began = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(50) as pool:
        sent = 0
        while sent < BURST_REQUESTS and time.monotonic() - began < BURST_SECONDS:
            statuses = [one.status for one in pool.map(lambda _: api.call("HEAD", WEBHOOK), range(50))]
            sent += len(statuses)
            if 429 in statuses:
                return f"429 after {sent} requests in {time.monotonic() - began:.1f} s"
    seconds = time.monotonic() - began
    text = f"no 429 after {sent} requests in {seconds:.1f} s"
    if sent <= burst + rate * seconds:
        raise NotChecked(f"{text}, which is below the limit")
    raise Failed(text)
