"""A deployment by a user with infra/deployer-policy.json. The emulator checks the user's own calls, and not those that
CloudFormation makes for the user; tests/infra compares the policy with what CloudFormation needs."""

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from deployment import Stack
from local_aws import REGION
from processes import ROOT

# The name of a second environment.
NAME = "circle-pin-reset-live"
# The SAM CLI gives its bucket such a name.
PACKAGES = "aws-sam-cli-managed-default-samclisourcebucket-a1b2c3"


class Deployer:
    """The local AWS with the permissions of the deployer."""

    def __init__(self, aws):
        self.url = aws.url
        iam = aws.client("iam")
        iam.create_user(UserName="deployer")
        key = iam.create_access_key(UserName="deployer")["AccessKey"]
        self.session = boto3.Session(key["AccessKeyId"], key["SecretAccessKey"], region_name=REGION)

    def client(self, service):
        config = Config(retries={"max_attempts": 0}, s3={"addressing_style": "path"})
        return self.session.client(service, endpoint_url=self.url, config=config)


def test_the_policy_is_enough_to_deploy_and_not_to_read(aws, parameters):
    deployer = Deployer(aws)
    with pytest.raises(ClientError, match="AccessDenied"):
        deployer.client("s3").create_bucket(Bucket=PACKAGES)
    aws.client("iam").put_user_policy(
        UserName="deployer",
        PolicyName="deploy",
        PolicyDocument=(ROOT / "infra" / "deployer-policy.json").read_text(),
    )
    deployer.client("s3").create_bucket(Bucket=PACKAGES)
    stack = Stack(deployer, NAME, parameters, bucket=PACKAGES)
    stack.parameters = {**parameters, "ChallengesPerHour": "5"}
    stack.deploy("update", "2", "UPDATE_COMPLETE")
    table = stack.resource("ChallengesTable")
    deployer.client("dynamodb").describe_table(TableName=table)
    with pytest.raises(ClientError, match="AccessDenied"):
        deployer.client("dynamodb").scan(TableName=table)
    with pytest.raises(ClientError, match="AccessDenied"):
        deployer.client("secretsmanager").get_secret_value(SecretId=parameters["CircleApiKeySecretArn"])
    with pytest.raises(ClientError, match="AccessDenied"):
        Stack(deployer, "another-stack", parameters, bucket=PACKAGES)
    stack.delete()
