"""Traces: the collector beside the functions."""

import re
import tomllib

from conftest import ROOT, expanded
from functions import FUNCTIONS, logical

LAYER = "arn:aws:lambda:us-east-1:123456789012:layer:aws-otel-collector-arm64-ver-1:2"


def test_a_collector_is_beside_every_function(deployed):
    for name in [*map(logical, FUNCTIONS), "CheckApiKeys"]:
        properties = deployed[f"{name}Function"]["Properties"]
        layers = {"Fn::If": ["HasCollector", [{"Ref": "CollectorLayerArn"}], {"Ref": "AWS::NoValue"}]}
        assert properties["Layers"] == layers, name
        # The collector alone needs more than the functions have without it.
        assert properties["MemorySize"] == {"Fn::If": ["HasCollector", 512, 128]}, name


def test_a_collector_and_lambda_may_send_traces_to_x_ray():
    conditions = expanded(CollectorLayerArn=LAYER)["Conditions"]
    has_collector = {"Fn::Not": [{"Fn::Equals": [{"Ref": "CollectorLayerArn"}, ""]}]}
    is_active = {"Fn::Equals": [{"Ref": "Tracing"}, "Active"]}
    assert conditions["HasCollector"] == has_collector
    # The roles have X-Ray's permissions on this condition, which test_permissions.py checks.
    assert conditions["IsTraced"] == {"Fn::Or": [is_active, {"Condition": "HasCollector"}]}


def test_the_layer_has_a_version(template):
    pattern = template["Parameters"]["CollectorLayerArn"]["AllowedPattern"]
    assert all(re.fullmatch(pattern, arn) for arn in ("", LAYER))
    for arn in (LAYER.rsplit(":", 1)[0], LAYER.replace("layer", "function"), f"{LAYER},{LAYER}"):
        assert not re.fullmatch(pattern, arn)


def test_the_share_of_traces_is_that_of_the_code(template):
    share = template["Parameters"]["TraceShare"]
    code = (ROOT / "shared" / "src" / "config" / "traces.rs").read_text()
    assert f'default: Some("{share["Default"]}")' in code
    assert all(0 <= float(value) <= 1 for value in share["AllowedValues"])


def test_every_function_can_be_built_with_traces():
    """`infra/build --features otel` names no function."""
    for manifest in ROOT.glob("functions/*/Cargo.toml"):
        assert tomllib.loads(manifest.read_text())["features"] == {"otel": ["shared/otel"]}, manifest
