"""infra/cognito.yaml as the issuer of a deployed service: from signing in to Circle to a session.

On AWS the sign-in pages have a host of their own. Here they are on the emulator's only host. The emulator lets users
write every attribute, so tests/infra/test_cognito.py checks what the template says about that.
"""

import base64
import hashlib
import re
import secrets
import uuid
from urllib.parse import parse_qs, urlencode, urlsplit

import jwt
import pytest
from botocore.exceptions import ClientError

from conftest import STACKS, create_at_circle
from deployment import Stack
from processes import HTTP, ROOT

CALLBACK = "http://localhost:8080/"
PASSWORD = "a-long-password-for-tests"


class UserPool:
    """A deployed user pool. Its outputs are parameters of the service."""

    def __init__(self, aws, name, **parameters):
        self.cognito = aws.client("cognito-idp")
        self.pages = aws.url
        cloudformation = aws.client("cloudformation")
        cloudformation.create_stack(
            StackName=name,
            TemplateBody=(ROOT / "infra" / "cognito.yaml").read_text(),
            Capabilities=["CAPABILITY_IAM"],
            Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
        )
        cloudformation.get_waiter("stack_create_complete").wait(StackName=name, WaiterConfig={"Delay": 1})
        stack = cloudformation.describe_stacks(StackName=name)["Stacks"][0]
        self.outputs = {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}
        self.id, self.client = self.outputs["UserPoolId"], self.outputs["JwtAudience"]

    def create_user(self, **attributes):
        """A new user: the e-mail address and the claim `sub`."""
        email = f"{uuid.uuid4()}@example.com"
        user = self.cognito.admin_create_user(
            UserPoolId=self.id,
            Username=email,
            MessageAction="SUPPRESS",
            # The emulator would make up one that is too short.
            TemporaryPassword=PASSWORD,
            UserAttributes=[{"Name": "email", "Value": email}, {"Name": "email_verified", "Value": "true"}]
            + [{"Name": f"custom:{name}", "Value": value} for name, value in attributes.items()],
        )["User"]
        self.cognito.admin_set_user_password(UserPoolId=self.id, Username=email, Password=PASSWORD, Permanent=True)
        [sub] = [one["Value"] for one in user["Attributes"] if one["Name"] == "sub"]
        return email, sub

    def test_sign_in(self, email):
        """The tokens that an administrator gets with a user's password."""
        return self.cognito.admin_initiate_auth(
            UserPoolId=self.id,
            ClientId=self.client,
            AuthFlow="ADMIN_USER_PASSWORD_AUTH",
            AuthParameters={"USERNAME": email, "PASSWORD": PASSWORD},
        )["AuthenticationResult"]

    def sign_in(self, email):
        """The tokens of the app, as OAuth names them, for a user who signs in on the pages."""
        verifier = secrets.token_hex(32)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        question = {
            "response_type": "code",
            "client_id": self.client,
            "redirect_uri": CALLBACK,
            "scope": f"openid {self.outputs['RequiredScope']}",
            "code_challenge_method": "S256",
            "code_challenge": challenge,
        }
        page = HTTP.request("GET", f"{self.pages}/oauth2/authorize", fields=question)
        assert page.status == 200, page.data
        hidden = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', page.data.decode()))
        answer = self.post("/login", **hidden, username=email, password=PASSWORD)
        assert answer.status == 302, answer.data
        location = answer.headers["Location"]
        assert location.startswith(CALLBACK)
        exchange = {
            "grant_type": "authorization_code",
            "client_id": self.client,
            "redirect_uri": CALLBACK,
            "code": parse_qs(urlsplit(location).query)["code"][0],
        }
        # Whoever intercepts the code cannot use it.
        assert self.post("/oauth2/token", **exchange, code_verifier=secrets.token_hex(32)).status == 400
        tokens = self.post("/oauth2/token", **exchange, code_verifier=verifier)
        assert tokens.status == 200, tokens.data
        return tokens.json()

    def post(self, path, **form):
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        return HTTP.request("POST", self.pages + path, body=urlencode(form), headers=headers)


def deploy(aws, parameters, pool, name, request, *outputs):
    """The service with these outputs of the user pool as its parameters."""
    stack = Stack(aws, name, {**parameters, **{output: pool.outputs[output] for output in outputs}})
    request.config.stash[STACKS].append(stack)
    return stack


def claims(token):
    return jwt.decode(token, options={"verify_signature": False})


def test_a_first_token_needs_no_page_and_no_function(aws, circle, parameters, request):
    pool = UserPool(aws, "users", TestSignIn="ENABLED")
    service = deploy(aws, parameters, pool, "with-users", request, "JwtIssuer", "JwtAudience", "UserIdClaim")
    email, user_id = pool.create_user()
    create_at_circle(circle, user_id)
    tokens = pool.test_sign_in(email)
    token = claims(tokens["AccessToken"])
    assert token["sub"] == user_id and token["scope"] == "aws.cognito.signin.user.admin" and "auth_time" in token
    assert token["exp"] - token["iat"] == 15 * 60
    response = service.call("POST", "/session-tokens", tokens["AccessToken"])
    assert response.status == 201, response.data
    assert claims(response.json()["userToken"])["sub"] == user_id


@pytest.fixture(scope="module")
def pool(aws):
    return UserPool(aws, "users-with-ids", UserIdSource="ATTRIBUTE", TestSignIn="ENABLED", CallbackUrls=CALLBACK)


@pytest.fixture(scope="module")
def protected(aws, parameters, pool, request):
    outputs = ["JwtIssuer", "JwtAudience", "UserIdClaim", "RequiredScope"]
    return deploy(aws, parameters, pool, "with-user-ids", request, *outputs)


def test_a_user_of_the_sign_in_pages_gets_a_session_for_the_id_in_the_attribute(circle, pool, protected):
    user_id = f"known-{uuid.uuid4()}"
    create_at_circle(circle, user_id)
    email, sub = pool.create_user(circle_user_id=user_id)
    tokens = pool.sign_in(email)
    token = claims(tokens["access_token"])
    assert (token["sub"], token["circle_user_id"], token["scope"]) == (sub, user_id, "openid pin/change")
    response = protected.call("POST", "/session-tokens", tokens["access_token"])
    assert response.status == 201, response.data
    assert claims(response.json()["userToken"])["sub"] == user_id


def test_only_an_access_token_of_the_sign_in_pages_has_the_scope(circle, pool, protected):
    user_id = f"known-{uuid.uuid4()}"
    create_at_circle(circle, user_id)
    email, _ = pool.create_user(circle_user_id=user_id)
    for token in [pool.sign_in(email)["id_token"], pool.test_sign_in(email)["AccessToken"]]:
        response = protected.call("POST", "/session-tokens", token)
        assert (response.status, response.json()) == (403, {"message": "Forbidden"})


def test_a_user_without_the_attribute_is_nobody(pool, protected):
    email, _ = pool.create_user()
    token = pool.sign_in(email)["access_token"]
    assert "circle_user_id" not in claims(token)
    response = protected.call("POST", "/session-tokens", token)
    assert (response.status, response.json()["code"]) == (403, "invalid_user_id")


@pytest.mark.parametrize("parameters", [{"Tier": "LITE"}, {"SignUp": "ENABLED"}])
def test_an_attribute_needs_a_tier_and_an_administrator(aws, parameters):
    with pytest.raises(ClientError, match="AttributeNeedsATierAndAnAdministrator"):
        UserPool(aws, "impossible", UserIdSource="ATTRIBUTE", **parameters)
