"""Proves a deployed stack: runs the checks, prints their results as a table, and removes what it has made.

It needs AWS credentials and a region, as the AWS CLI does. tests/aws/policy.json has all permissions that it uses;
without one of them, the checks that need it say so. docs/deploying.md has more.
"""

import argparse
import getpass
import os
import pathlib
import signal
import sys

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from . import alarms, api, background, callers, events, logs, stack
from .deployment import Deployment
from .table import Table

EXIT_CODES = (
    "exit codes: 0 all checks passed, 1 one failed, 2 the stack cannot be read, 3 none failed, but one could not be checked"
)


def options():
    parser = argparse.ArgumentParser(prog="tests/aws/run", description=__doc__, epilog=EXIT_CODES)
    parser.add_argument("stack", metavar="STACK", help="the stack's name")
    parser.add_argument("--region", help="default: AWS_REGION, AWS_DEFAULT_REGION or the profile's")
    parser.add_argument("--api-url", metavar="URL", help="default: the stack's output ApiUrl")
    parser.add_argument(
        "--token-file",
        type=pathlib.Path,
        metavar="FILE",
        help="the token of a test user who has a PIN; default: the variable TOKEN, or a question",
    )
    parser.add_argument(
        "--wrong-scope-token-file",
        type=pathlib.Path,
        metavar="FILE",
        help="a valid token that lacks the scope RequiredScope",
    )
    parser.add_argument(
        "--interactive", action="store_true", help="wait until you have changed the test user's PIN in your app"
    )
    parser.add_argument("--alarms", action="store_true", help="turn each alarm on and off again: people will be paged")
    parser.add_argument(
        "--burst", action="store_true", help="send up to 1000 HEAD requests, until the webhook route is throttled"
    )
    parser.add_argument(
        "--patience", type=int, default=40, metavar="SECONDS", help="how long an event or an alarm may take (40)"
    )
    return parser.parse_args()


def token(file, variable, question=None):
    """A token from a file, a variable or a person. Never from an argument: all users of a machine can read those."""
    if file:
        return file.read_text().strip()
    if os.environ.get(variable):
        return os.environ[variable].strip()
    if question and sys.stdin.isatty():
        return getpass.getpass(question).strip()
    return None


def run(table, deployment, chosen):
    user_token = token(chosen.token_file, "TOKEN", "Token of a test user who has a PIN (Enter for none): ")
    wrong_scope_token = token(chosen.wrong_scope_token_file, "WRONG_SCOPE_TOKEN")
    service = api.Api(deployment, chosen.api_url)
    user = callers.User(service, user_token) if user_token else None

    stack.checks(table, deployment)
    api.checks(table, deployment, service, wrong_scope_token, chosen.burst)
    callers.checks(table, user)
    background.checks(table, deployment)
    events.checks(table, deployment)
    if chosen.interactive:
        callers.interactive(table, deployment, user)
    alarms.checks(table, deployment, chosen.alarms)
    # Last, so that the lines of all requests are there.
    secrets = (user.secrets() if user else []) + ([wrong_scope_token] if wrong_scope_token else [])
    logs.checks(table, deployment, secrets)


def main():
    chosen = options()
    # `finally` then removes what the run has made.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    region = chosen.region or os.environ.get("AWS_REGION")
    session = boto3.Session(region_name=region)
    try:
        deployment = Deployment(session, chosen.stack, chosen.patience)
    except (BotoCoreError, ClientError) as error:
        print(f"The stack {chosen.stack} cannot be read: {error}", file=sys.stderr)
        return 2
    if "ApiUrl" not in deployment.outputs:
        status = deployment.stack["StackStatus"]
        print(f"The stack {chosen.stack} has no output ApiUrl. Its status is {status}.", file=sys.stderr)
        return 2
    table = Table()
    try:
        run(table, deployment, chosen)
    finally:
        if table.rows:
            table.print()
    return table.exit_code()


if __name__ == "__main__":
    sys.exit(main())
