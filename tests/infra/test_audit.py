"""What an auditor needs for years: the logs of who asked for what, and the key for the hashes of user ids in them."""

# Eight hexadecimal digits of the stack's id, arn:PARTITION:cloudformation:REGION:ACCOUNT:stack/NAME/ID. With them, a
# log group or a secret that outlives its stack does not block the next stack with the same name.
UNIQUE = {"Fn::Select": [0, {"Fn::Split": ["-", {"Fn::Select": [2, {"Fn::Split": ["/", {"Ref": "AWS::StackId"}]}]}]}]}
AUDITED = {
    "AccessLogGroup": "/aws/vendedlogs/${AWS::StackName}/http-api-${Id}",
    "CreateChallengeLogGroup": "/aws/lambda/${AWS::StackName}-create-challenge-${Id}",
    "CreateTokenLogGroup": "/aws/lambda/${AWS::StackName}-create-token-${Id}",
}


def outlives(resource):
    """Whether it outlives the stack, unless the stack's first deployment fails."""
    return (resource.get("DeletionPolicy"), resource.get("UpdateReplacePolicy")) == ("RetainExceptOnCreate", "Retain")


def test_the_logs_of_an_auditor_are_kept_longer_than_the_stack(template):
    groups = {name: one for name, one in template["Resources"].items() if one["Type"] == "AWS::Logs::LogGroup"}
    audited = {
        name: group["Properties"]
        for name, group in groups.items()
        if group["Properties"]["RetentionInDays"] == {"Ref": "AuditLogRetentionDays"}
    }
    assert {name: one["LogGroupName"] for name, one in audited.items()} == {
        name: {"Fn::Sub": [text, {"Id": UNIQUE}]} for name, text in AUDITED.items()
    }
    assert all(outlives(groups[name]) for name in audited)
    [separator, names] = template["Outputs"]["AuditLogGroups"]["Value"]["Fn::Join"]
    assert separator == " " and {name["Ref"] for name in names} == set(audited)
    days = [template["Parameters"][name] for name in ["AuditLogRetentionDays", "LogRetentionDays"]]
    assert [one["Default"] for one in days] == ["400", "30"]
    assert days[0]["AllowedValues"] == days[1]["AllowedValues"]
    for name in groups.keys() - audited.keys():
        assert groups[name]["Properties"]["RetentionInDays"] == {"Ref": "LogRetentionDays"}, name


def test_the_user_hash_key_is_generated_once_and_kept(template):
    resources = template["Resources"]
    # There is no schedule for a rotation.
    assert [name for name, one in resources.items() if "SecretsManager" in one["Type"]] == ["UserHashKey"]
    secret = resources["UserHashKey"]
    assert outlives(secret) and secret["Condition"] == "OwnsUserHashKey"
    assert template["Conditions"]["OwnsUserHashKey"] == {"Fn::Equals": [{"Ref": "ExistingUserHashKeyArn"}, ""]}
    properties = secret["Properties"]
    assert properties["Name"] == {"Fn::Sub": ["${AWS::StackName}/user-hash-key-${Id}", {"Id": UNIQUE}]}
    # CloudFormation makes a new key if one of these changes.
    assert properties["GenerateSecretString"] == {"PasswordLength": 64, "ExcludePunctuation": True}
    assert set(properties) == {"Name", "Description", "GenerateSecretString"}
    assert template["Outputs"]["UserHashKeyArn"]["Value"] == {
        "Fn::If": ["OwnsUserHashKey", {"Ref": "UserHashKey"}, {"Ref": "ExistingUserHashKeyArn"}]
    }


def dynamic_references(node, path=()):
    """The places in the template that hold a secret's value once CloudFormation has resolved them."""
    if isinstance(node, str):
        return {path} if "{{resolve:" in node else set()
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else []
    return {place for key, child in children for place in dynamic_references(child, (*path, key))}


def test_only_settings_of_functions_hold_the_user_hash_key(template):
    """CloudFormation hides the key from its own events, and a function's configuration shows it."""
    places = {place[:6] for place in dynamic_references(template)}
    functions = ["CreateToken", "CreateChallenge", "GetChallenge", "GetPin", "ReconcileChallenges"]
    variable = ("Properties", "Environment", "Variables", "USER_HASH_KEY")
    assert places == {("Resources", f"{name}Function", *variable) for name in functions}
