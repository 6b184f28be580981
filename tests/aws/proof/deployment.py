"""The deployed stack, as CloudFormation describes it."""

import json
import pathlib
import re
import time

import urllib3
import yaml
from botocore.config import Config
from botocore.httpsession import where

from .table import NotChecked

ROOT = pathlib.Path(__file__).resolve().parents[3]
CONFIG = Config(retries={"mode": "standard", "max_attempts": 4})
# With the AWS SDK's certificate authorities: not every Python on macOS finds the system's.
HTTP = urllib3.PoolManager(retries=False, timeout=35, maxsize=50, ca_certs=where())


class Deployment:
    def __init__(self, session, name, patience):
        """Reads the stack. Fails if it does not exist, or if its description may not be read."""
        self.session = session
        # How many seconds an event or the action of an alarm may take.
        self.patience = patience
        self.clients = {}
        self.started = int(time.time())
        cloudformation = self.client("cloudformation")
        self.stack = cloudformation.describe_stacks(StackName=name)["Stacks"][0]
        self.name = self.stack["StackName"]
        self.parameters = {one["ParameterKey"]: one["ParameterValue"] for one in self.stack.get("Parameters", [])}
        self.outputs = {one["OutputKey"]: one["OutputValue"] for one in self.stack.get("Outputs", [])}
        pages = cloudformation.get_paginator("list_stack_resources").paginate(StackName=name)
        self.resources = {one["LogicalResourceId"]: one for page in pages for one in page["StackResourceSummaries"]}
        # After the transformation by SAM.
        body = cloudformation.get_template(StackName=name, TemplateStage="Processed")["TemplateBody"]
        self.template = yaml.safe_load(body) if isinstance(body, str) else body

    def client(self, service):
        if service not in self.clients:
            self.clients[service] = self.session.client(service, config=CONFIG)
        return self.clients[service]

    def resource(self, logical_id):
        """The physical id of a resource."""
        if logical_id not in self.resources:
            raise NotChecked(f"the stack has no {logical_id}")
        return self.resources[logical_id]["PhysicalResourceId"]

    def of_type(self, resource_type):
        """The physical ids of all resources of a type, by logical id."""
        return {
            name: one["PhysicalResourceId"]
            for name, one in self.resources.items()
            if one["ResourceType"] == resource_type and "PhysicalResourceId" in one
        }

    def properties(self, logical_id):
        """The properties of a resource in the template."""
        return self.template["Resources"][logical_id]["Properties"]

    def value(self, value):
        """A value of the template as text, or None if it is an expression that this program does not evaluate."""
        if isinstance(value, dict):
            name = value.get("Ref")
            if name in self.parameters:
                return self.parameters[name]
            return self.resources.get(name, {}).get("PhysicalResourceId")
        return json.dumps(value) if isinstance(value, bool) else str(value)

    def age(self):
        """Seconds since the stack was created."""
        return time.time() - self.stack["CreationTime"].timestamp()

    def log_groups(self):
        """The names of the stack's log groups, by logical id."""
        return self.of_type("AWS::Logs::LogGroup")

    def log(self, group, since, pattern="", limit=10_000):
        """Events of a log group since a time in epoch seconds, the oldest first, at most `limit`."""
        pages = self.client("logs").get_paginator("filter_log_events").paginate(
            logGroupName=group,
            startTime=int(since * 1000),
            filterPattern=pattern,
            PaginationConfig={"MaxItems": limit},
        )
        return [event for page in pages for event in page["events"]]


def file_name(logical_id):
    """CreateTokenFunction -> create-token, the function's folder."""
    return re.sub("(?<!^)(?=[A-Z])", "-", logical_id.removesuffix("Function")).lower()


def until(condition, patience, interval=1):
    """Waits until a condition is true, and returns its last value."""
    deadline = time.monotonic() + patience
    while not (value := condition()) and time.monotonic() < deadline:
        time.sleep(interval)
    return value
