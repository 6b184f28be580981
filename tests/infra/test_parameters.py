"""The parameters of the template: their descriptions, defaults and accepted values."""

import re

import pytest

from conftest import REQUIRED


def test_parameters_have_a_description_limits_and_a_valid_default(template):
    grouped = [
        name
        for group in template["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
        for name in group["Parameters"]
    ]
    parameters = template["Parameters"]
    assert sorted(grouped) == sorted(parameters)
    assert {name for name, parameter in parameters.items() if "Default" not in parameter} == set(REQUIRED)
    for name, parameter in parameters.items():
        assert len(parameter["Description"]) > 20, name
        pattern = parameter.get("AllowedPattern")
        default = parameter.get("Default", REQUIRED.get(name))
        if pattern:
            assert re.fullmatch(pattern, default), name
            assert "ConstraintDescription" in parameter, name
        else:
            assert default in parameter["AllowedValues"], name


def test_a_number_is_a_whole_number_in_its_range(template):
    """CloudFormation's own type Number accepts 8.5, with which a function does not start. It also accepts 0.0, which is
    not the 0 of a condition."""
    numbers = {}
    for name, parameter in template["Parameters"].items():
        assert parameter["Type"] == "String", name
        assert isinstance(parameter.get("Default", ""), str) and "MinValue" not in parameter, name
        assert all(isinstance(value, str) for value in parameter.get("AllowedValues", [])), name
        constraint = parameter.get("ConstraintDescription", "")
        described = re.fullmatch(r"must be a whole number from (\d+) to (\d+)\.", constraint)
        if described:
            numbers[name] = parameter["AllowedPattern"], *map(int, described.groups())
        else:
            assert "AllowedValues" in parameter or not parameter.get("Default", "").isdigit(), name
    assert len(numbers) >= 19
    for name, (pattern, minimum, maximum) in numbers.items():
        for number in [*range(min(maximum + 2, 12000)), maximum, maximum + 1, 10 * maximum, maximum + 1_000_000]:
            assert bool(re.fullmatch(pattern, str(number))) == (minimum <= number <= maximum), (name, number)
        for number in (minimum, maximum, template["Parameters"][name]["Default"]):
            for wrong in ("{}.0", "{}.5", " {}", "{} ", "+{}", "-{}", "0{}", "{}e0", "{}\n", "{},{}"):
                assert not re.fullmatch(pattern, wrong.replace("{}", str(number))), (name, wrong, number)
        assert not re.fullmatch(pattern, "")


@pytest.mark.parametrize(
    ("parameter", "good", "bad"),
    [
        (
            "AllowedOrigins",
            ["", "https://a.example.com:8443,http://localhost:3000,http://127.0.0.1"],
            [
                "*",
                "https://*",
                "https://example.com/",
                "http://example.com",
                "https://example.com,http://example.com",
                "http://localhost.example.com",
                "http://127.0.0.10",
                "https://a.example.com, https://b.example.com",
            ],
        ),
        ("CircleBaseUrl", ["http://127.0.0.1:9"], ["http://example.com", "https://a@b.c", "https://api.circle.com/v1"]),
        ("JwtIssuer", ["https://auth.example.com/"], ["http://auth.example.com", "auth.example.com"]),
        ("JwtAudience", ["a,b"], ["", "a, b", "a,"]),
        ("CircleSourceIps", ["", "10.0.0.1, ::1"], ["10.0.0.0/8", "example.com"]),
        (
            "WebhookApiKeySecretArn",
            ["", REQUIRED["CircleApiKeySecretArn"]],
            ["circle", "arn:aws:secretsmanager:us-east-1:123456789012:secret:circle", "TEST_API_KEY:a:b"],
        ),
        (
            "SubscriptionApiKeySecretArn",
            ["", REQUIRED["CircleApiKeySecretArn"]],
            ["circle", "arn:aws:secretsmanager:us-east-1:123456789012:secret:circle", "TEST_API_KEY:a:b"],
        ),
        (
            "ExistingUserHashKeyArn",
            ["", REQUIRED["CircleApiKeySecretArn"]],
            ["user-hash-key", "arn:aws:secretsmanager:us-east-1:123456789012:secret:user-hash-key", "a" * 64],
        ),
        ("RunbookUrl", ["docs/runbook.md", "https://wiki.example.com/runbook?a=b"], ["", "the runbook", "a" * 301]),
        ("EventArchiveDays", ["0", "30", "365", "3650"], ["", "-1", "1.5", "030", "3651", "10000"]),
        ("AlarmEmail", ["", "on-call+pin@example.com"], ["example.com", "a@b@c", "a@example.com, b@example.com"]),
        (
            "AlarmTopicArn",
            ["", "arn:aws:sns:us-east-1:123456789012:alarms"],
            ["alarms", "arn:aws:sns:us-east-1:123456789012:alarms.fifo"],
        ),
        ("UserIdClaim", ["https://example.com/circle_user", "custom:circle"], ["", "a b"]),
        (
            "CircleApiKeySecretArn",
            [REQUIRED["CircleApiKeySecretArn"]],
            ["circle", "arn:aws:secretsmanager:us-east-1:123456789012:secret:circle", "TEST_API_KEY:a:b"],
        ),
    ],
)
def test_a_parameter_accepts_good_values_only(template, parameter, good, bad):
    pattern = template["Parameters"][parameter]["AllowedPattern"]
    assert all(re.fullmatch(pattern, value) for value in good)
    assert not any(re.fullmatch(pattern, value) for value in bad)
