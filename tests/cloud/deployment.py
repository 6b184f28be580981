"""The packages and the template of infra/build, as a stack on the local AWS. `adapted` has each difference between the
emulator and AWS."""

import functools
import hashlib
import io
import json
import os
import pathlib
import zipfile

from samtranslator.yaml_helper import yaml_parse

from processes import HTTP, until
from sam import expanded, uploaded

# The folder with the packages and their template.
PACKAGES = pathlib.Path(os.environ["PACKAGES"])
BUCKET = "code"


def source():
    """The template as built."""
    return yaml_parse((PACKAGES / "template.yaml").read_text())


def adapted(template, url, parameters):
    """The template for the emulator at `url`."""
    resources = template["Resources"]

    # An issuer on the loopback interface has no certificate.
    issuer = template["Parameters"]["JwtIssuer"]
    issuer["AllowedPattern"] += "|^http://127[.]0[.]0[.]1:[0-9]+$"
    # The metadata of a user pool is at a host of AWS, which the emulator does not serve.
    if "//cognito-idp." in parameters["JwtIssuer"]:
        resources["JwtIssuerCheck"] = {"Type": "AWS::CloudFormation::WaitConditionHandle"}

    # The emulator ignores the body of an API, so each route becomes a resource. It has no throttling, CORS or access
    # logs.
    api = resources["HttpApi"]
    body = api["Properties"].pop("Body")
    api["Properties"] = {"Name": {"Ref": "AWS::StackName"}, "ProtocolType": "HTTP"}
    routes = http_api(body)
    resources.update(routes)

    # The emulator rejects alarms on several metrics, and those that combine them.
    dashboard = resources["Dashboard"]["Properties"]["DashboardBody"]["Fn::Sub"]
    for name, one in list(resources.items()):
        if one["Type"] == "AWS::CloudWatch::CompositeAlarm" or (
            one["Type"] == "AWS::CloudWatch::Alarm" and "Metrics" in one["Properties"]
        ):
            del resources[name]
            dashboard[0] = dashboard[0].replace(f'"${{{name}.Arn}}",', "")

    # The emulator has no CodeDeploy, so an alias points to a new version at once. test_versions.py runs the smoke test,
    # with a stand-in for CodeDeploy. The policies name the application.
    for name in [name for name, one in resources.items() if one["Type"].startswith("AWS::CodeDeploy::")]:
        del resources[name]
    resources["ServerlessDeploymentApplication"] = {"Type": "AWS::CloudFormation::WaitConditionHandle"}
    for resource in resources.values():
        resource.pop("UpdatePolicy", None)

    # The emulator does not know policies and archives of event buses, and has no TLS, which queues and buckets require.
    del resources["EventBusPolicy"], resources["EventArchive"], template["Outputs"]["EventArchiveArn"]
    del resources["UnreadableRecordsQueuePolicy"], resources["FailedRecordsBucketPolicy"]
    for name in ["PinChangedQueuePolicy", "PinChangedDeadLetterQueuePolicy"]:
        policy = resources[name]["Properties"]["PolicyDocument"]
        policy["Statement"] = [statement for statement in policy["Statement"] if statement["Effect"] == "Allow"]

    # In the emulator's filters, an attribute that does not exist never matches, not even {"exists": false}. Without
    # this condition more records reach the function, which decides by itself.
    filters = resources["AnnounceChallengesFunctionStream"]["Properties"]["FilterCriteria"]["Filters"]
    for one in filters:
        pattern = json.loads(one["Pattern"])
        pattern["dynamodb"].pop("OldImage", None)
        one["Pattern"] = json.dumps(pattern)

    # A hostname of API Gateway would lead to AWS. The routes have to exist when Circle calls the endpoint.
    subscription = resources["CircleSubscription"]
    subscription["Properties"]["Endpoint"] = {
        "Fn::Sub": f"{url}/_aws/execute-api/${{HttpApi}}/$default/webhooks/circle"
    }
    subscription["DependsOn"] += list(routes)
    function = resources["ManageSubscriptionFunction"]["Properties"]
    function["Environment"]["Variables"]["WEBHOOK_URL"] = subscription["Properties"]["Endpoint"]
    return template


def http_api(body):
    """The authorizer, the integrations and the routes of an OpenAPI document that SAM has written."""
    resources = {}
    of_api = {"ApiId": {"Ref": "HttpApi"}}
    for name, scheme in body["components"]["securitySchemes"].items():
        authorizer = scheme["x-amazon-apigateway-authorizer"]
        assert authorizer["type"] == "jwt"
        resources[f"{name}Authorizer"] = {
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
            resources[f"{name}Integration"] = {
                "Type": "AWS::ApiGatewayV2::Integration",
                "Properties": {
                    **of_api,
                    "IntegrationType": integration["type"].upper(),
                    "IntegrationUri": integration["uri"],
                    "PayloadFormatVersion": integration["payloadFormatVersion"],
                },
            }
            # SAM writes one security requirement for each route: no authorizer, or one with its scopes.
            [(scheme, scopes)] = operation["security"][0].items()
            authorization = {"AuthorizationType": "NONE"}
            if scheme != "NONE":
                authorization = {
                    "AuthorizationType": "JWT",
                    "AuthorizerId": {"Ref": f"{scheme}Authorizer"},
                    "AuthorizationScopes": scopes,
                }
            resources[f"{name}Route"] = {
                "Type": "AWS::ApiGatewayV2::Route",
                "Properties": {
                    **of_api,
                    "RouteKey": f"{method.upper()} {path}",
                    "Target": {"Fn::Sub": f"integrations/${{{name}Integration}}"},
                    **authorization,
                },
            }
    return resources


@functools.cache
def archive(function, release):
    """A function's package: as built for release 1, and with one more file, so that it is new code, for another one."""
    buffer = io.BytesIO((PACKAGES / f"{function}.zip").read_bytes())
    if release != "1":
        with zipfile.ZipFile(buffer, "a") as package:
            package.writestr("release", release)
    return buffer.getvalue()


def invoke(aws, function, event):
    """The result of a function, which must not fail."""
    response = aws.client("lambda").invoke(FunctionName=function, Payload=json.dumps(event))
    result = json.loads(response["Payload"].read())
    assert "FunctionError" not in response, result
    return result


class Stack:
    """A deployed stack, and its API. `released` is a template whose packages are already in a bucket."""

    def __init__(self, aws, name, parameters, wanted="CREATE_COMPLETE", released=None, bucket=BUCKET):
        self.aws = aws
        self.bucket = bucket
        self.name = name
        self.released = released
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
            s3.put_object(Bucket=self.bucket, Key=key, Body=code)
            return f"s3://{self.bucket}/{key}"

        template = yaml_parse(self.released) if self.released else uploaded(source(), upload)
        body = json.dumps(adapted(expanded(template, self.parameters), self.aws.url, self.parameters))
        s3.put_object(Bucket=self.bucket, Key=f"{self.name}.json", Body=body)
        change = getattr(self.aws.client("cloudformation"), f"{action}_stack")
        # A deleted stack can be described by its id only.
        self.id = change(
            StackName=self.name,
            TemplateURL=f"{self.aws.url}/{self.bucket}/{self.name}.json",
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

    def events(self):
        """What CloudFormation has done with each resource, the latest first."""
        pages = self.aws.client("cloudformation").get_paginator("describe_stack_events").paginate(StackName=self.id)
        return [event for page in pages for event in page["StackEvents"]]

    def reasons(self):
        """The reasons that CloudFormation gives for the states of resources, the latest first."""
        events = [event for event in self.events() if event.get("ResourceStatusReason")]
        return [(event["LogicalResourceId"], event["ResourceStatusReason"]) for event in events]

    def resource(self, logical_id):
        """The physical id of a resource."""
        description = self.aws.client("cloudformation").describe_stack_resource(
            StackName=self.name, LogicalResourceId=logical_id
        )
        return description["StackResourceDetail"]["PhysicalResourceId"]

    def call(self, method, path, token=None, body=None, headers=()):
        """Calls the API. A body of bytes is sent as it is, any other as JSON."""
        headers = dict(headers)
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
            headers["Content-Type"] = "application/json"
        return HTTP.request(method, self.url + path, body=body, headers=headers)

    def log(self):
        """The lines that the functions have logged, without Lambda's own: time, function and message."""
        logs = self.aws.client("logs")
        lines = []
        groups = logs.describe_log_groups(logGroupNamePrefix=f"/aws/lambda/{self.name}-")["logGroups"]
        # CloudFormation generates the name of this one.
        names = [group["logGroupName"] for group in groups] + [self.resource("ManageSubscriptionLogGroup")]
        for name in names:
            for page in logs.get_paginator("filter_log_events").paginate(logGroupName=name):
                lines += [(event["timestamp"], name.rpartition("/")[2], event["message"]) for event in page["events"]]
        # The sort is stable: lines of the same millisecond stay in order.
        lines.sort(key=lambda line: line[0])
        return [line for line in lines if not line[2].startswith(("START ", "END ", "REPORT "))]
