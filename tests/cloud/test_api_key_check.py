"""First deployments with an API key or an issuer that cannot work. They fail before they create anything that has to be
removed."""

import pytest

from deployment import Stack
from test_lifecycle import events

FOREIGN = "arn:aws:secretsmanager:us-east-1:123456789012:secret:not-ours-AbCdEf"


@pytest.fixture
def secret(aws, request):
    """Stores a secret, and returns its ARN."""

    def create(content):
        name = request.node.name.replace("[", "-").rstrip("]")
        return aws.client("secretsmanager").create_secret(Name=f"{name}-key", SecretString=content)["ARN"]

    return create


@pytest.fixture
def failed(aws, parameters, request):
    """Deploys a stack that fails in a check, and returns the reason. Nothing of it may be left but its log."""

    def deploy(name, check="CircleApiKeyCheck", **changes):
        tables = aws.client("dynamodb").list_tables()["TableNames"]
        stack = Stack(aws, name, {**parameters, **changes}, wanted="ROLLBACK_COMPLETE")
        created = [one["LogicalResourceId"] for one in stack.events() if one["ResourceStatus"] == "CREATE_COMPLETE"]
        assert "ManageSubscriptionLogGroup" in created and not [one for one in created if "Table" in one], created
        assert aws.client("dynamodb").list_tables()["TableNames"] == tables
        [reason] = [reason for name, reason in stack.reasons() if name == check]
        # Only the log that the reason names is kept.
        [log] = aws.client("logs").describe_log_groups(logGroupNamePattern=name)["logGroups"]
        assert "ERROR" in [line["level"] for line in events(aws, log["logGroupName"])]
        return reason

    return deploy


def test_a_key_of_the_other_environment(circle, failed):
    before = circle.subscriptions()
    reason = failed("wrong-environment", CircleEnvironment="LIVE")
    assert "holds a TEST Circle API key, but CIRCLE_ENVIRONMENT is LIVE" in reason
    assert circle.subscriptions() == before


@pytest.mark.parametrize("purpose", ["Circle", "Webhook", "Subscription"])
def test_a_key_that_circle_rejects(secret, failed, purpose):
    parameter = f"{purpose}ApiKeySecretArn"
    reason = failed(f"rejected-{purpose.lower()}", **{parameter: secret("TEST_API_KEY:not:ours")})
    assert f"Circle rejects the API key in the secret of {parameter} (status 401, code 4)" in reason


def test_a_key_without_a_permission(circle, failed):
    circle.knobs(apiKeyWallets="NONE")
    reason = failed("no-permission")
    assert 'has no permission for users and challenges (status 403, code 3). Give it the permission "Wallets' in reason


def test_a_secret_that_cannot_be_read_without_a_managed_subscription(failed):
    reason = failed("unreadable", CircleApiKeySecretArn=FOREIGN, ManageSubscription="false")
    assert FOREIGN in reason and "The parameter CircleApiKeySecretArn must be the ARN of a secret that exists" in reason


def test_an_invalid_setting(failed):
    reason = failed("invalid-setting", CircleSourceIps="192.0.2.999")
    assert "The function's setting CIRCLE_SOURCE_IPS must be a comma-separated list of IP addresses" in reason


def test_an_issuer_without_metadata(circle, failed):
    """The simulator of Circle is no issuer."""
    reason = failed("wrong-issuer", check="JwtIssuerCheck", JwtIssuer=circle.url)
    assert f"cannot be read at {circle.url}/.well-known/openid-configuration: <HTTPError 404" in reason
