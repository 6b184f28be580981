"""The modules, and the tests that should catch their mutants, the fastest ones first."""

from typing import NamedTuple


class Tests(NamedTuple):
    """Tests of a package's target, by parts of their names; all of them without any."""

    package: str
    target: str
    names: tuple[str, ...] = ()


class Module(NamedTuple):
    files: tuple[str, ...]
    stages: tuple[Tests, ...]


UNIT = Tests("shared", "--lib")


def integration(*names):
    return Tests("shared", "--test=it", names)


def end_to_end(*names):
    return Tests("tests", "--test=end_to_end", names)


def shared(*names, stages):
    return Module(tuple(f"shared/src/{name}" for name in names), (UNIT, *stages))


def function(name, *names):
    return Module((f"functions/{name}/src/**",), (end_to_end(*names),))


MODULES = {
    "challenge": shared(
        "challenge.rs", "challenge_view.rs", "failure.rs", "circle_code.rs",
        stages=[
            integration("challenge_store", "transitions", "properties::reports", "texts"),
            end_to_end("complete_after_failure", "failure_reasons", "webhooks", "flow", "polling", "challenge_list"),
        ],
    ),
    "challenge-store": shared(
        "challenge_store/**", "dynamodb.rs",
        stages=[
            integration("challenge_store", "transitions"),
            end_to_end(
                "webhooks", "complete_after_failure", "challenge_list", "resuming", "audit_trail", "lost_responses",
                "table_calls", "reconcile::", "reconcile_failures",
            ),
        ],
    ),
    "rate-limit": shared(
        "rate_limit/**",
        stages=[
            integration("rate_limit"),
            end_to_end("call_limits", "rate_limit::", "operator_switches", "lost_responses", "table_calls", "idempotency"),
        ],
    ),
    "webhook": shared(
        "webhook/**",
        stages=[
            integration("public_keys", "forgery", "key_cache", "properties::reports"),
            end_to_end("webhooks", "signing_keys", "signatures"),
        ],
    ),
    "problem": shared(
        "problem/**",
        stages=[
            integration("texts", "properties::problems"),
            end_to_end(
                "circle_errors", "misconfiguration", "ineligible_users", "operator_switches", "outages", "signatures",
                "recent_sign_in", "signing_keys", "key_rotation",
            ),
        ],
    ),
    "reconcile-decisions": Module(
        tuple(
            f"functions/reconcile-challenges/src/{name}.rs" for name in ("policy", "ledger", "error", "quiet", "summary")
        ),
        (Tests("reconcile-challenges", "--lib"), end_to_end("reconcile::", "reconcile_failures")),
    ),
    "reconcile-run": Module(
        tuple(f"functions/reconcile-challenges/src/{name}.rs" for name in ("lib", "main", "resume", "run")),
        (end_to_end("reconcile::", "reconcile_failures", "resuming", "lost_responses", "table_calls"), end_to_end("reconcile_scale")),
    ),
    "receive-webhook": function("receive-webhook", "webhooks", "signatures", "signing_keys", "misconfiguration", "table_calls"),
    "create-challenge": function(
        "create-challenge", "flow", "idempotency", "ineligible_users", "invalid_requests", "operator_switches",
        "lost_responses", "freshness", "rate_limit::", "recent_sign_in", "table_calls",
    ),
    "create-token": function("create-token", "flow", "authentication", "call_limits", "circle_errors"),
    "get-challenge": function(
        "get-challenge", "polling", "challenge_list", "flow", "call_limits", "invalid_requests", "circle_errors", "table_calls",
    ),
    "get-pin": function("get-pin", "pin::", "call_limits", "circle_errors", "authentication"),
    "announce-challenges": Module(
        ("functions/announce-challenges/src/**",),
        (Tests("announce-challenges", "--lib"), end_to_end("event", "republishing", "complete_after_failure")),
    ),
    "manage-subscription": Module(
        ("functions/manage-subscription/src/**",),
        (Tests("manage-subscription", "--lib"), end_to_end("subscription", "api_key_check", "key_rotation")),
    ),
    "circle": shared(
        "circle/**",
        stages=[
            integration("circle::", "subscriptions", "properties::idempotency", "connections", "public_keys"),
            end_to_end(
                "circle_errors", "flow", "polling", "freshness", "subscription", "ineligible_users", "reconcile_failures",
                "key_rotation", "misconfiguration",
            ),
        ],
    ),
    "request": shared(
        "identity.rs", "request.rs", "retry.rs", "boundary.rs", "response.rs", "user_id.rs", "user_hash.rs", "api_key.rs",
        "secrets.rs", "clock.rs", "random.rs", "api.rs",
        stages=[
            integration("circle::", "connections", "public_keys", "texts", "events"),
            end_to_end(
                "authentication", "invalid_requests", "misconfiguration", "key_rotation", "call_limits", "clock_jumps",
                "freshness", "secrets", "table_calls", "recent_sign_in", "audit_trail", "api_key_check", "circle_errors",
                "reconcile::",
            ),
        ],
    ),
    "platform": shared(
        "config/**", "http_client.rs", "platform/**", "lambda/**",
        stages=[
            integration("connections", "certificates", "clock_skew", "events"),
            end_to_end("misconfiguration", "flow", "outages", "resuming", "republishing", "subscription"),
        ],
    ),
    "telemetry": shared(
        "metric/**", "telemetry/**",
        stages=[integration("events", "challenge_store"), end_to_end("audit_trail", "flow", "events", "webhooks")],
    ),
}
