"""What an auditor needs for years: the logs of who asked for what."""

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
