"""What infra/cloudfront-waf.yaml promises, and a deployment would not report if it were missing."""

import posixpath
import urllib.parse

import pytest
from samtranslator.yaml_helper import yaml_parse

from conftest import CLOUDFRONT

TOKEN = {"authorization": "Bearer a.b.c"}


@pytest.fixture(scope="module")
def cloudfront():
    return yaml_parse(CLOUDFRONT.read_text())


@pytest.fixture(scope="module")
def web_acl(cloudfront):
    return cloudfront["Resources"]["WebAcl"]["Properties"]


@pytest.fixture(scope="module")
def rules(web_acl):
    rules = sorted(web_acl["Rules"], key=lambda rule: rule["Priority"])
    return {rule["Name"]: rule for rule in rules}


TRANSFORMATIONS = {
    "NONE": str,
    "LOWERCASE": str.lower,
    "URL_DECODE": urllib.parse.unquote,
    "NORMALIZE_PATH": lambda path: posixpath.normpath(path.replace("//", "/")),
}


def matches(statement, method, path, headers):
    """Whether AWS WAF finds that a request matches a statement without a rate. A header that is missing never does."""
    [(kind, options)] = statement.items()
    if kind == "NotStatement":
        return not matches(options["Statement"], method, path, headers)
    if kind == "AndStatement":
        return all(matches(one, method, path, headers) for one in options["Statements"])
    [(field, of)] = options["FieldToMatch"].items()
    value = {"UriPath": path, "Method": method, "SingleHeader": headers.get(of.get("Name"))}[field]
    if value is None:
        return False
    for transformation in sorted(options["TextTransformations"], key=lambda one: one["Priority"]):
        value = TRANSFORMATIONS[transformation["Type"]](value)
    if kind == "SizeConstraintStatement":
        assert options["ComparisonOperator"] == "GT"
        return len(value) > options["Size"]
    assert kind == "ByteMatchStatement"
    found = {"EXACTLY": str.__eq__, "STARTS_WITH": str.startswith}[options["PositionalConstraint"]]
    return found(value, options["SearchString"])


def blocked_by(rules, method, path, headers=()):
    """The first rule that blocks a single request, or None."""
    for name, rule in rules.items():
        if "RateBasedStatement" not in rule["Statement"] and matches(rule["Statement"], method, path, dict(headers)):
            assert rule["Action"] == {"Block": {}}
            return name
    return None


def test_requests_of_apps_pass_with_a_token_only(rules, openapi):
    for path, methods in openapi["paths"].items():
        for method in set(methods) & {"get", "post", "put", "patch", "delete"}:
            assert blocked_by(rules, method.upper(), path, TOKEN) is None
            assert blocked_by(rules, method.upper(), path) == "no-token"
            assert blocked_by(rules, method.upper(), path, {"authorization": ""}) == "no-token"
        # The preflight request of a web page.
        assert blocked_by(rules, "OPTIONS", path) is None


def test_webhooks_do_not_come_this_way(rules, webhooks):
    """The service would see CloudFront's address instead of Circle's."""
    paths = list(webhooks["paths"])
    assert paths
    for path in [*paths, *(f"//x/..{one}" for one in paths), *(one.replace("w", "%57") for one in paths)]:
        for method in ["HEAD", "POST"]:
            assert blocked_by(rules, method, path, TOKEN) == "webhooks"


def test_the_limits_count_addresses_and_tokens(cloudfront, web_acl, rules):
    statements = {name: rule["Statement"]["RateBasedStatement"] for name, rule in list(rules.items())[-2:]}
    assert statements == {
        "address": {"AggregateKeyType": "IP", "EvaluationWindowSec": 300, "Limit": {"Ref": "RequestsPerAddress"}},
        "token": {
            "AggregateKeyType": "CUSTOM_KEYS",
            "CustomKeys": [
                {"Header": {"Name": "authorization", "TextTransformations": [{"Priority": 0, "Type": "NONE"}]}}
            ],
            "EvaluationWindowSec": 300,
            "Limit": {"Ref": "RequestsPerToken"},
        },
    }
    for name in statements:
        condition, block, count = rules[name]["Action"]["Fn::If"]
        assert (condition, count) == ("BlocksAtLimits", {"Count": {}})
        response = block["Block"]["CustomResponse"]
        assert response["ResponseCode"] == 429
        assert response["CustomResponseBodyKey"] in web_acl["CustomResponseBodies"]
    assert cloudfront["Parameters"]["LimitAction"]["Default"] == "BLOCK"
    # An app polls once in 3 seconds at most. The template's defaults allow a user 20 other requests, and 60 more.
    limit = cloudfront["Parameters"]["RequestsPerToken"]
    assert limit["Default"] > limit["MinValue"] > 300 / 3 + 20 + 300 / 5


def test_tokens_are_in_no_sample_and_no_log(web_acl):
    [protection] = web_acl["DataProtectionConfig"]["DataProtections"]
    assert protection["Field"] == {"FieldType": "SINGLE_HEADER", "FieldKeys": ["authorization", "x-user-token"]}
    assert protection["Action"] == "SUBSTITUTION"


def test_everything_reaches_the_api_and_nothing_is_cached(cloudfront):
    config = cloudfront["Resources"]["Distribution"]["Properties"]["DistributionConfig"]
    assert config["WebACLId"] == {"Fn::GetAtt": ["WebAcl", "Arn"]}
    behavior = config["DefaultCacheBehavior"]
    # The ids are the same in every account.
    assert behavior["CachePolicyId"] == "4135ea2d-6df8-44a3-9df3-4b5a84be39ad", "CachingDisabled"
    assert behavior["OriginRequestPolicyId"] == "b689b0a8-53d0-40ab-baf2-68738e2966ac", "AllViewerExceptHostHeader"
    assert {"GET", "POST", "OPTIONS"} <= set(behavior["AllowedMethods"])
    assert "CacheBehaviors" not in config
    [origin] = config["Origins"]
    assert origin["DomainName"] == {"Fn::Select": [2, {"Fn::Split": ["/", {"Ref": "ApiUrl"}]}]}
    assert origin["CustomOriginConfig"]["OriginProtocolPolicy"] == "https-only"
