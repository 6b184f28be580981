"""infra/template.yaml as a stack on the local AWS.

It is bent where the emulator is not AWS, and only there; `bent` says each place.
"""

import functools
import hashlib
import io
import json
import pathlib
import zipfile

from samtranslator.translator.transform import transform
from samtranslator.yaml_helper import yaml_parse

from processes import HTTP, until

ROOT = pathlib.Path(__file__).resolve().parents[2]
BOOTSTRAPS = ROOT / "target" / "lambda"
BUCKET = "code"


class NoManagedPolicies:
    """No function uses a policy of SAM's or of AWS's, so none is looked up."""

    def load(self):
        return {}


def source():
    """The template as it is written."""
    return yaml_parse((ROOT / "infra" / "template.yaml").read_text())


def expanded(code):
    """The template as CloudFormation meets it: SAM's resources expanded, and the code where `code` says."""
    template = source()
    for resource in template["Resources"].values():
        if resource["Type"] == "AWS::Serverless::Function":
            folder = pathlib.PurePath(resource["Properties"]["CodeUri"])
            resource["Properties"]["CodeUri"] = code(folder.name)
    return transform(template, {}, NoManagedPolicies())


def bent(template, url):
    """The template for the emulator at `url`."""
    resources = template["Resources"]

    # An issuer on loopback has no certificate.
    template["Parameters"]["JwtIssuer"]["AllowedPattern"] = "^http://127[.]0[.]0[.]1:[0-9]+$"

    # The body of an API is not read: the same in resources of their own. Throttling, CORS and access logs are not done.
    api = resources["HttpApi"]
    body = api["Properties"].pop("Body")
    api["Properties"] = {"Name": {"Ref": "AWS::StackName"}, "ProtocolType": "HTTP"}
    routes = http_api(body)
    resources.update(routes)

    # Alarms of several metrics are refused.
    for name in [name for name, one in resources.items() if "Metrics" in one.get("Properties", {})]:
        assert resources[name]["Type"] == "AWS::CloudWatch::Alarm"
        del resources[name]

    # A hostname of API Gateway leads to AWS; and the routes are there before Circle is told of them.
    subscription = resources["CircleSubscription"]
    subscription["Properties"]["Endpoint"] = {
        "Fn::Sub": f"{url}/_aws/execute-api/${{HttpApi}}/$default/webhooks/circle"
    }
    subscription["DependsOn"] += list(routes)
    return template


def http_api(body):
    """The authorizer, the integrations and the routes of an OpenAPI document as SAM writes it."""
    made = {}
    of_api = {"ApiId": {"Ref": "HttpApi"}}
    for name, scheme in body["components"]["securitySchemes"].items():
        authorizer = scheme["x-amazon-apigateway-authorizer"]
        assert authorizer["type"] == "jwt"
        made[f"{name}Authorizer"] = {
            "Type": "AWS::ApiGatewayV2::Authorizer",
            "Properties": {
                **of_api,
                "Name": name,
                "AuthorizerType": "JWT",
                "IdentitySource": [authorizer["identitySource"]],
                "JwtConfiguration": {
                    "Audience": authorizer["jwtConfiguration"]["audience"],
                    "Issuer": authorizer["jwtConfiguration"]["issuer"],
                },
            },
        }
    for path, methods in body["paths"].items():
        for method, operation in methods.items():
            name = "".join(filter(str.isalnum, f"{method}{path}".title()))
            integration = operation["x-amazon-apigateway-integration"]
            made[f"{name}Integration"] = {
                "Type": "AWS::ApiGatewayV2::Integration",
                "Properties": {
                    **of_api,
                    "IntegrationType": integration["type"].upper(),
                    "IntegrationUri": integration["uri"],
                    "PayloadFormatVersion": integration["payloadFormatVersion"],
                },
            }
            # The two forms that SAM writes for the two that the template has.
            [(scheme, scopes)] = operation["security"][0].items()
            authorization = {"AuthorizationType": "NONE"}
            if scheme != "NONE":
                authorization = {
                    "AuthorizationType": "JWT",
                    "AuthorizerId": {"Ref": f"{scheme}Authorizer"},
                    "AuthorizationScopes": scopes,
                }
            made[f"{name}Route"] = {
                "Type": "AWS::ApiGatewayV2::Route",
                "Properties": {
                    **of_api,
                    "RouteKey": f"{method.upper()} {path}",
                    "Target": {"Fn::Sub": f"integrations/${{{name}Integration}}"},
                    **authorization,
                },
            }
    return made


@functools.cache
def archive(function, release):
    """A function's code as it is uploaded. Releases differ in a file beside the bootstrap."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
        file.write(BOOTSTRAPS / function / "bootstrap", "bootstrap")
        file.writestr("release", release)
    return buffer.getvalue()


class Stack:
    """A deployed stack, and its API as a caller sees it."""

    def __init__(self, aws, name, parameters, wanted="CREATE_COMPLETE"):
        self.aws = aws
        self.name = name
        self.parameters = parameters
        self.deploy("create", "1", wanted)
        if wanted != "CREATE_COMPLETE":
            return
        self.url = f"{aws.url}/_aws/execute-api/{self.resource('HttpApi')}/$default"
        self.webhook_url = f"{self.url}/webhooks/circle"

    def deploy(self, action, release, wanted):
        s3 = self.aws.client("s3")

        def upload(function):
            code = archive(function, release)
            key = f"{function}/{hashlib.sha256(code).hexdigest()}"
            s3.put_object(Bucket=BUCKET, Key=key, Body=code)
            return f"s3://{BUCKET}/{key}"

        body = json.dumps(bent(expanded(upload), self.aws.url))
        s3.put_object(Bucket=BUCKET, Key=f"{self.name}.json", Body=body)
        change = getattr(self.aws.client("cloudformation"), f"{action}_stack")
        # A deleted stack is known by its id only.
        self.id = change(
            StackName=self.name,
            TemplateURL=f"{self.aws.url}/{BUCKET}/{self.name}.json",
            Capabilities=["CAPABILITY_IAM"],
            Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in self.parameters.items()],
        )["StackId"]
        self.wait(wanted)

    def delete(self):
        self.aws.client("cloudformation").delete_stack(StackName=self.id)
        self.wait("DELETE_COMPLETE")

    def wait(self, wanted):
        def done():
            stacks = self.aws.client("cloudformation").describe_stacks(StackName=self.id)["Stacks"]
            return None if stacks[0]["StackStatus"].endswith("_IN_PROGRESS") else stacks[0]["StackStatus"]

        status = until(f"stack {self.name} is done", done, patience=120)
        assert status == wanted, json.dumps(self.reasons(), indent=2)

    def reasons(self):
        """What CloudFormation says about resources, the latest first."""
        pages = self.aws.client("cloudformation").get_paginator("describe_stack_events").paginate(StackName=self.id)
        events = [event for page in pages for event in page["StackEvents"] if event.get("ResourceStatusReason")]
        return [(event["LogicalResourceId"], event["ResourceStatusReason"]) for event in events]

    def resource(self, logical_id):
        """The physical id of a resource."""
        answer = self.aws.client("cloudformation").describe_stack_resource(
            StackName=self.name, LogicalResourceId=logical_id
        )
        return answer["StackResourceDetail"]["PhysicalResourceId"]

    def call(self, method, path, token=None, body=None, headers=()):
        """A request to the API; bytes are sent as they are."""
        headers = dict(headers)
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
            headers["Content-Type"] = "application/json"
        return HTTP.request(method, self.url + path, body=body, headers=headers)

    def log(self):
        """What the functions have logged, without Lambda's own lines: when, which function, what."""
        logs = self.aws.client("logs")
        lines = []
        groups = logs.describe_log_groups(logGroupNamePrefix=f"/aws/lambda/{self.name}-")["logGroups"]
        # The one whose name CloudFormation makes up.
        names = [group["logGroupName"] for group in groups] + [self.resource("ManageSubscriptionLogGroup")]
        for name in names:
            for page in logs.get_paginator("filter_log_events").paginate(logGroupName=name):
                lines += [(event["timestamp"], name.rpartition("/")[2], event["message"]) for event in page["events"]]
        # In the order in which they came where they came at once.
        lines.sort(key=lambda line: line[0])
        return [line for line in lines if not line[2].startswith(("START ", "END ", "REPORT "))]
