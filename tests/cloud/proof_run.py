"""Runs of tests/aws/run, and stacks for it."""

import json
import os
import re
import subprocess

from conftest import STACKS
from deployment import Stack
from local_aws import REGION
from processes import ROOT

SCOPE = "pin:change"
ORIGINS = ["https://app.example.com", "http://localhost:3000"]
POLICY = (ROOT / "tests" / "aws" / "policy.json").read_text()


class Proof:
    """A run of the program, and its table."""

    def __init__(self, stack, credentials, *options, **variables):
        # The caller's own settings stay out, and so does a token of theirs.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        command = [ROOT / "tests" / "aws" / "run", stack.name, "--api-url", stack.url, "--region", REGION]
        self.process = subprocess.Popen(
            [*command, "--patience", "10", *options],
            env={
                **environment,
                "AWS_ENDPOINT_URL": stack.aws.url,
                "AWS_EC2_METADATA_DISABLED": "true",
                "AWS_ACCESS_KEY_ID": credentials["AccessKeyId"],
                "AWS_SECRET_ACCESS_KEY": credentials["SecretAccessKey"],
                **variables,
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def finish(self):
        self.output, self.progress = self.process.communicate(timeout=300)
        self.exit_code = self.process.returncode
        rows = [re.split("  +", line, maxsplit=2) for line in self.output.splitlines() if "  " in line]
        self.results = {row[0]: row[1] for row in rows[1:]}
        self.details = {row[0]: row[2] if len(row) == 3 else "" for row in rows[1:]}
        return self


def prove(*arguments, **variables):
    return Proof(*arguments, **variables).finish()


ROOT_USER = {"AccessKeyId": "test", "SecretAccessKey": "test"}


def policy_of(stack):
    """The policy for a stack on the emulator."""
    policy = json.loads(POLICY.replace("circle-pin-reset", stack.name))
    resources = {one["Sid"]: one for one in policy["Statement"]}
    # On AWS, CloudFormation begins the name of this log group with the stack's.
    resources["ReadLogs"]["Resource"].append(f"arn:aws:logs:*:*:log-group:/aws/cloudformation/{stack.name}/*")
    # The emulator takes the bus for the resource of the actions on a rule's targets.
    resources["ListenOnBus"]["Resource"] = [
        resources["ListenOnBus"]["Resource"],
        f"arn:aws:events:*:*:event-bus/{stack.name}",
    ]
    # It takes the reading of one alias or mapping for a list of all.
    resources["ReadFunctions"]["Action"].append("lambda:ListAliases")
    resources["ReadWiring"]["Action"].append("lambda:ListEventSourceMappings")
    resources["ReadWiring"]["Resource"].append("*")
    return json.dumps(policy)


def user_with(aws, name, policy):
    """The credentials of a new IAM user with one policy."""
    iam = aws.client("iam")
    iam.create_user(UserName=name)
    iam.put_user_policy(UserName=name, PolicyName="prove", PolicyDocument=policy)
    return iam.create_access_key(UserName=name)["AccessKey"]


def deploy(aws, name, parameters, topic, request):
    """A stack with the CORS and throttles of its parameters, which the emulator's CloudFormation leaves out."""
    parameters = {
        **parameters,
        "AlarmTopicArn": topic,
        "RequiredScope": SCOPE,
        "AllowedOrigins": ",".join(ORIGINS),
    }
    stack = Stack(aws, name, parameters)
    request.config.stash[STACKS].append(stack)
    api, client = stack.resource("HttpApi"), aws.client("apigatewayv2")
    client.update_api(
        ApiId=api,
        CorsConfiguration={
            "AllowOrigins": ORIGINS,
            "AllowMethods": ["GET", "POST"],
            "AllowHeaders": ["authorization", "content-type", "x-user-token", "idempotency-key"],
        },
    )
    throttle(client, api, 100.0)
    return stack


def throttle(client, api, webhook_rate):
    webhooks = {"ThrottlingRateLimit": webhook_rate, "ThrottlingBurstLimit": 200}
    client.update_stage(
        ApiId=api,
        StageName="$default",
        DefaultRouteSettings={"ThrottlingRateLimit": 50.0, "ThrottlingBurstLimit": 100},
        RouteSettings={"HEAD /webhooks/circle": webhooks, "POST /webhooks/circle": webhooks},
    )


def leftovers(aws, stack):
    """The names of the rules and queues that are there."""
    rules = aws.client("events").list_rules(EventBusName=stack.resource("EventBus"), NamePrefix="proof-")["Rules"]
    queues = aws.client("sqs").list_queues(QueueNamePrefix=f"{stack.name}-proof-").get("QueueUrls", [])
    return [rule["Name"] for rule in rules] + queues
