"""The logs: how long they are kept, and that no secret is in them."""

import re

from .table import require

# What every JWT begins with: {" in base64.
TOKEN = re.compile(r"eyJ[A-Za-z0-9_-]{8,}")
LIMIT = 20_000


def checks(table, deployment, secrets):
    table.check("retention of the logs", retention, deployment)
    table.check("no token in the logs", no_token, deployment, secrets)


def retention(deployment):
    groups = deployment.log_groups()
    for logical_id, name in groups.items():
        wanted = int(deployment.value(deployment.properties(logical_id)["RetentionInDays"]))
        page = deployment.client("logs").describe_log_groups(logGroupNamePrefix=name)["logGroups"]
        days = {group["logGroupName"]: group.get("retentionInDays") for group in page}
        require(name in days, f"{name} is deleted")
        kept = f"{days[name]} days" if days[name] else "for ever"
        require(days[name] == wanted, f"{name} keeps its lines {kept}, not {wanted} days")
    return f"{len(groups)} groups keep their lines as long as the template says"


def no_token(deployment, secrets):
    """Searches what was logged since this run began, which includes the run's own requests."""
    lines = 0
    for name in deployment.log_groups().values():
        for event in deployment.log(name, deployment.started - 60, limit=LIMIT):
            lines += 1
            has_secret = TOKEN.search(event["message"]) or any(secret in event["message"] for secret in secrets)
            # The line itself stays out of the detail.
            require(not has_secret, f"{name} has a token or a key, at {event['timestamp']} in {event['logStreamName']}")
    require(lines, "the functions have logged nothing")
    return f"none in {lines} lines since the run began"
