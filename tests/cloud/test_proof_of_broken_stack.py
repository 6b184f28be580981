"""tests/aws/run, against a stack on which everything is broken. Each of its checks can fail."""

import io
import time
import zipfile

import pytest

from processes import until
from proof_run import ROOT_USER, SCOPE, deploy, leftovers, prove, throttle


def package(bootstrap):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("bootstrap", bootstrap)
    return buffer.getvalue()


ARM64 = b"\x7fELF\x02\x01\x01" + bytes(9) + (2).to_bytes(2, "little") + (183).to_bytes(2, "little") + bytes(44)


def is_active(functions, function, version):
    configuration = functions.get_function_configuration(FunctionName=function, Qualifier=version)
    return (configuration["State"], configuration["LastUpdateStatus"]) == ("Active", "Successful")


@pytest.fixture
def broken(aws, circle, parameters, request):
    """A stack on which everything is broken that API calls can break. Its topic has no subscription."""
    topic = aws.client("sns").create_topic(Name="nobody")["TopicArn"]
    stack = deploy(aws, "broken", parameters, topic, request)
    sound = stack.parameters
    # Its rollback leaves everything as it was.
    stack.parameters = {**sound, "CircleEnvironment": "LIVE"}
    stack.deploy("update", "1", "UPDATE_ROLLBACK_COMPLETE")
    stack.parameters = sound

    functions, api = aws.client("lambda"), stack.resource("HttpApi")
    code = {"GetPin": package(ARM64), "GetChallenge": package(b"#!/bin/sh")}
    for function, archive in code.items():
        functions.update_function_code(FunctionName=stack.resource(f"{function}Function"), ZipFile=archive)
    # The last two do not start.
    changes = {"CreateToken": "ALIEN", "ReceiveWebhook": "CIRCLE_SOURCE_IPS", "ReconcileChallenges": "CIRCLE_BASE_URL"}
    for function, name in changes.items():
        function = stack.resource(f"{function}Function")
        variables = functions.get_function_configuration(FunctionName=function)["Environment"]["Variables"]
        functions.update_function_configuration(
            FunctionName=function, Environment={"Variables": {**variables, name: "invalid"}}
        )
    for function in [*code, *changes]:
        function = stack.resource(f"{function}Function")
        version = functions.publish_version(FunctionName=function)["Version"]
        until("the version is there", lambda: is_active(functions, function, version))
        functions.update_alias(FunctionName=function, Name="live", FunctionVersion=version)
    functions.update_alias(
        FunctionName=stack.resource("CreateChallengeFunction"), Name="live", FunctionVersion="$LATEST"
    )
    functions.delete_alias(FunctionName=stack.resource("AnnounceChallengesFunction"), Name="live")
    mapping = stack.resource("AnnounceChallengesFunctionStream")
    functions.update_event_source_mapping(UUID=mapping, Enabled=False)

    gateway = aws.client("apigatewayv2")
    routes = {one["RouteKey"]: one for one in gateway.get_routes(ApiId=api)["Items"]}
    gateway.update_route(ApiId=api, RouteId=routes["GET /pin"]["RouteId"], AuthorizationType="NONE")
    gateway.create_route(
        ApiId=api, RouteKey="$default", AuthorizationType="NONE", Target=routes["POST /webhooks/circle"]["Target"]
    )
    [authorizer] = gateway.get_authorizers(ApiId=api)["Items"]
    jwt = {**authorizer["JwtConfiguration"], "Audience": ["somebody-else"]}
    gateway.update_authorizer(ApiId=api, AuthorizerId=authorizer["AuthorizerId"], JwtConfiguration=jwt)
    gateway.update_api(ApiId=api, CorsConfiguration={"AllowOrigins": ["*"], "AllowMethods": ["*"]})
    throttle(gateway, api, 10_000.0)

    scheduler = aws.client("scheduler")
    schedule = scheduler.get_schedule(Name="broken-reconcile")
    members = ["Name", "ScheduleExpression", "FlexibleTimeWindow", "Target"]
    scheduler.update_schedule(**{name: schedule[name] for name in members}, State="DISABLED")
    circle.unsubscribe(stack.resource("CircleSubscription"))

    alarms = aws.client("cloudwatch")
    alarms.disable_alarm_actions(AlarmNames=[stack.resource("InternalAlarm")])
    alarms.set_alarm_state(AlarmName=stack.resource("TimeoutAlarm"), StateValue="ALARM", StateReason="broken")

    logs = aws.client("logs")
    # This also removes the lines about Circle's test.
    group = stack.resource("ReceiveWebhookLogGroup")
    logs.delete_log_group(logGroupName=group)
    logs.create_log_group(logGroupName=group)
    logs.create_log_stream(logGroupName=stack.resource("AccessLogGroup"), logStreamName="leak")
    line = {"timestamp": int(time.time() * 1000), "message": '{"token":"eyJhbGciOiJSUzI1NiJ9.e30.c2ln"}'}
    logs.put_log_events(
        logGroupName=stack.resource("AccessLogGroup"), logStreamName="leak", logEvents=[line]
    )
    return stack


def test_a_broken_deployment_fails_and_each_row_says_why(aws, broken, issuer):
    token = issuer.token("broken-user", scope=SCOPE)
    proof = prove(broken, ROOT_USER, "--patience", "2", TOKEN=token, WRONG_SCOPE_TOKEN=token)
    assert proof.exit_code == 1
    failed = {name: proof.details[name] for name, result in proof.results.items() if result == "failed"}
    wanted = {
        "stack": "UPDATE_ROLLBACK_COMPLETE",
        "function get-pin": "the package is for arm64, and the function for x86_64",
        "function get-challenge": "the package's bootstrap is not an ELF file",
        "function create-challenge": "the alias live points at $LATEST, not at a version",
        "function announce-challenges": "there is no alias live",
        "function create-token": "settings differ from the template: ALIEN",
        "function receive-webhook": "settings differ from the template: CIRCLE_SOURCE_IPS",
        "function reconcile-challenges": "settings differ from the template: CIRCLE_BASE_URL",
        "routes": "missing or unknown: $default",
        "issuer and audience": "the audiences are ['somebody-else']",
        "no token: 401": "GET /pin: ",
        "invalid token: 401": "GET /pin: ",
        "token without the scope: 403": "GET /challenges: 401",
        "unknown route: 404": "50",
        "CORS": "https://app.example.com allows *",
        "throttles": "HEAD /webhooks/circle: the rate is 10000.0, not 100",
        "HEAD of the webhook route": "50",
        "forged webhook": "50",
        "session": "POST /session-tokens: 401",
        "stream of the table": "the mapping is Disab",
        "schedules": "broken-reconcile is DISABLED",
        "run of reconciliation": "the function failed",
        "webhook received": "not even Circle's test",
        "subscription at Circle": "missing; raise the parameter SubscriptionRevision to repair it",
        "events of a synthetic challenge": "no event of 3 records, within 2 s each",
        "actions of the alarms": "without an action: broken-InternalAlarm-",
        "states of the alarms": "on: broken-TimeoutAlarm-",
        "recipients of the alarms": "nobody has no subscription",
        "retention of the logs": "broken-receive-webhook keeps its lines for ever",
        "no token in the logs": f"{broken.resource('AccessLogGroup')} has a token or a key",
    }
    assert set(failed) == set(wanted), proof.output
    for name, text in wanted.items():
        assert text in failed[name], (name, failed[name])
    # The line itself is not shown.
    assert "eyJ" not in proof.output + proof.progress
    assert leftovers(aws, broken) == []
