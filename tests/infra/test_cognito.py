"""What infra/cognito.yaml promises, and a deployment would not report if it were missing."""

import re

import pytest
from samtranslator.yaml_helper import yaml_parse

from conftest import COGNITO

NO_VALUE = {"Ref": "AWS::NoValue"}
# The event of version 2, as the Cognito Developer Guide shows it ("Pre token generation Lambda trigger").
EVENT = {
    "version": "2",
    "triggerSource": "TokenGeneration_HostedAuth",
    "region": "us-east-1",
    "userPoolId": "us-east-1_EXAMPLE",
    "userName": "6b1a3f5e-4c57-4b0f-9a51-0d3d1b1f7a01",
    "callerContext": {"awsSdkVersion": "aws-sdk-unknown-unknown", "clientId": "1example23456789"},
    "request": {
        "userAttributes": {
            "sub": "6b1a3f5e-4c57-4b0f-9a51-0d3d1b1f7a01",
            "cognito:user_status": "CONFIRMED",
            "email_verified": "true",
            "email": "mary@example.com",
        },
        "groupConfiguration": {"groupsToOverride": [], "iamRolesToOverride": [], "preferredRole": None},
        "scopes": ["openid", "pin/change"],
        # Whoever signs in chooses these.
        "clientMetadata": {"custom:circle_user_id": "somebody-else", "circle_user_id": "somebody-else"},
    },
    "response": {"claimsAndScopeOverrideDetails": None},
}


@pytest.fixture(scope="module")
def cognito():
    return yaml_parse(COGNITO.read_text())


@pytest.fixture(scope="module")
def pool(cognito):
    return cognito["Resources"]["UserPool"]


@pytest.fixture(scope="module")
def client(cognito):
    return cognito["Resources"]["UserPoolClient"]["Properties"]


def test_a_user_signs_in_on_the_pages_only(client):
    assert client["GenerateSecret"] is False, "an app could not keep it"
    assert (client["AllowedOAuthFlowsUserPoolClient"], client["AllowedOAuthFlows"]) == (True, ["code"])
    test_flow = {"Fn::If": ["AllowsTestSignIn", "ALLOW_ADMIN_USER_PASSWORD_AUTH", NO_VALUE]}
    assert client["ExplicitAuthFlows"] == ["ALLOW_REFRESH_TOKEN_AUTH", test_flow]
    assert client["PreventUserExistenceErrors"] == "ENABLED"


def test_a_token_lives_for_minutes(client):
    assert client["TokenValidityUnits"] == {"AccessToken": "minutes", "IdToken": "minutes", "RefreshToken": "days"}
    assert client["AccessTokenValidity"] <= 15 and client["IdTokenValidity"] <= 15
    assert client["RefreshTokenValidity"] == 1
    assert client["EnableTokenRevocation"] is True


def test_nobody_but_an_administrator_writes_the_user_id(cognito, pool, client):
    [attribute] = [one for one in pool["Properties"]["Schema"] if one["Name"] == "circle_user_id"]
    assert attribute["Mutable"] is False
    assert attribute["StringAttributeConstraints"] == {"MinLength": "5", "MaxLength": "50"}
    assert client["WriteAttributes"] == ["email"]
    assert "aws.cognito.signin.user.admin" not in client["AllowedOAuthScopes"], "such a token can change its user"
    users = [name for name, one in cognito["Resources"].items() if one["Type"] == "AWS::Cognito::UserPoolClient"]
    assert users == ["UserPoolClient"], "each client has lists of its own"


def test_users_are_not_lost_with_the_stack(pool):
    assert (pool["DeletionPolicy"], pool["UpdateReplacePolicy"]) == ("Retain", "Retain")
    assert pool["Properties"]["DeletionProtection"] == "ACTIVE"


def test_a_password_is_long_and_a_second_factor_possible(cognito, pool):
    assert pool["Properties"]["Policies"]["PasswordPolicy"]["MinimumLength"] == 15
    assert pool["Properties"]["EnabledMfas"] == ["SOFTWARE_TOKEN_MFA"]
    assert cognito["Parameters"]["Mfa"]["AllowedValues"] == ["ON", "OPTIONAL"]


def test_what_weakens_the_pool_is_off_by_default(cognito):
    defaults = {name: parameter["Default"] for name, parameter in cognito["Parameters"].items()}
    assert (defaults["SignUp"], defaults["TestSignIn"]) == ("DISABLED", "DISABLED")
    admin_only = {"Fn::If": ["AllowsSignUp", False, True]}
    assert cognito["Resources"]["UserPool"]["Properties"]["AdminCreateUserConfig"] == {
        "AllowAdminCreateUserOnly": admin_only
    }


def test_the_outputs_are_parameters_of_the_service(cognito, template, client):
    outputs = {name: output["Value"] for name, output in cognito["Outputs"].items()}
    names = {"JwtIssuer", "JwtAudience", "UserIdClaim", "RequiredScope"}
    assert names == set(outputs) & set(template["Parameters"])
    values = {
        "JwtIssuer": "https://cognito-idp.us-east-1.amazonaws.com/us-east-1_EXAMPLE",
        "JwtAudience": "1example23456789",
        "RequiredScope": outputs["RequiredScope"],
        "UserIdClaim": "circle_user_id",
    }
    for name in names:
        assert re.search(template["Parameters"][name]["AllowedPattern"], values[name])
    assert outputs["UserIdClaim"] == {"Fn::If": ["UsesAttribute", "circle_user_id", "sub"]}
    server = cognito["Resources"]["PinResourceServer"]["Properties"]
    [scope] = server["Scopes"]
    assert outputs["RequiredScope"] == f"{server['Identifier']}/{scope['ScopeName']}"
    assert client["AllowedOAuthScopes"] == ["openid", "email", outputs["RequiredScope"]]


def add_user_id(cognito, attributes):
    """What the function adds to the access token of a user with these attributes."""
    code = {}
    exec(cognito["Resources"]["AddUserIdFunction"]["Properties"]["Code"]["ZipFile"], code)
    request = EVENT["request"] | {"userAttributes": EVENT["request"]["userAttributes"] | attributes}
    event = EVENT | {"request": request, "response": dict(EVENT["response"])}
    answer = code["handler"](event, None)
    rest = {name: value for name, value in answer.items() if name != "response"}
    assert rest == {name: value for name, value in event.items() if name != "response"}
    [(details, sections)] = answer["response"].items()
    assert (details, list(sections)) == ("claimsAndScopeOverrideDetails", ["accessTokenGeneration"])
    [(name, claims)] = sections["accessTokenGeneration"].items()
    assert name == "claimsToAddOrOverride"
    return claims


def test_the_function_copies_the_attribute_and_nothing_else(cognito):
    assert add_user_id(cognito, {"custom:circle_user_id": "known-user"}) == {"circle_user_id": "known-user"}
    for attributes in [{}, {"custom:circle_user_id": ""}, {"custom:other": "known-user"}]:
        assert add_user_id(cognito, attributes) == {}


def test_the_function_can_only_write_its_log_and_only_the_pool_calls_it(cognito):
    resources = cognito["Resources"]
    [policy] = resources["AddUserIdRole"]["Properties"]["Policies"]
    assert policy["PolicyDocument"]["Statement"] == [
        {
            "Effect": "Allow",
            "Action": ["logs:CreateLogStream", "logs:PutLogEvents"],
            "Resource": {"Fn::GetAtt": ["AddUserIdLogGroup", "Arn"]},
        }
    ]
    assert "ManagedPolicyArns" not in resources["AddUserIdRole"]["Properties"]
    permission = resources["AddUserIdPermission"]["Properties"]
    assert permission["Principal"] == "cognito-idp.amazonaws.com"
    assert permission["SourceArn"] == {"Fn::GetAtt": ["UserPool", "Arn"]}
    assert permission["SourceAccount"] == {"Ref": "AWS::AccountId"}
