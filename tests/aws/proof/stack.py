"""The stack itself, and its functions."""

import io
import zipfile

from botocore.exceptions import ClientError

from .deployment import HTTP, file_name
from .table import Failed, require

OUTPUTS = ["ApiUrl", "WebhookUrl", "EventBusName", "EventBusArn", "ChallengesTableName"]
# e_machine in the header of an ELF file, and Lambda's name for it.
MACHINES = {62: "x86_64", 183: "arm64"}
ALIAS = "live"


def checks(table, deployment):
    table.check("stack", status, deployment)
    for logical_id in deployment.of_type("AWS::Lambda::Function"):
        table.check(f"function {file_name(logical_id)}", function, deployment, logical_id)


def status(deployment):
    status = deployment.stack["StackStatus"]
    require(status in ("CREATE_COMPLETE", "UPDATE_COMPLETE", "IMPORT_COMPLETE"), status)
    missing = [name for name in OUTPUTS if name not in deployment.outputs]
    require(not missing, f"{status}, but without the outputs {', '.join(missing)}")
    return f"{status}, {len(deployment.resources)} resources, {len(deployment.outputs)} outputs"


def function(deployment, logical_id):
    name = deployment.resource(logical_id)
    has_alias = f"{logical_id}Alias{ALIAS}" in deployment.template["Resources"]
    client = deployment.client("lambda")
    details = []
    if has_alias:
        try:
            alias = client.get_alias(FunctionName=name, Name=ALIAS)
        except ClientError as error:
            if error.response["Error"]["Code"] == "ResourceNotFoundException":
                raise Failed(f"there is no alias {ALIAS}") from None
            raise
        version = alias["FunctionVersion"]
        require(version.isdigit(), f"the alias {ALIAS} points at {version}, not at a version")
        require(not alias.get("RoutingConfig"), f"the alias {ALIAS} is shifting traffic: a deployment is in progress")
        details.append(f"{ALIAS} is version {version}")
    deployed = client.get_function(FunctionName=name, **({"Qualifier": ALIAS} if has_alias else {}))
    configuration = deployed["Configuration"]

    states = (configuration["State"], configuration.get("LastUpdateStatus", "Successful"))
    require(states == ("Active", "Successful"), f"State {states[0]}, LastUpdateStatus {states[1]}")

    properties = deployment.properties(logical_id)
    [wanted] = [deployment.value(one) for one in properties.get("Architectures", ["x86_64"])]
    require(configuration["Architectures"] == [wanted], f"for {configuration['Architectures']}, not for {wanted}")
    details.append(wanted)
    if configuration["Runtime"].startswith("provided"):
        response = HTTP.request("GET", deployed["Code"]["Location"])
        require(response.status == 200, f"the package cannot be downloaded: {response.status}")
        found = machine(response.data)
        require(found == wanted, f"the package is for {found}, and the function for {wanted}")
        details.append(f"package of {len(response.data) / 1e6:.1f} MB")

    wanted = properties.get("Environment", {}).get("Variables", {})
    found = configuration.get("Environment", {}).get("Variables", {})
    # The values stay out of the detail, because an operator may have put anything there.
    changed = sorted(set(wanted) ^ set(found)) + sorted(
        name
        for name in set(wanted) & set(found)
        if deployment.value(wanted[name]) not in (None, found[name])
    )
    require(not changed, f"settings differ from the template: {', '.join(changed)}")
    if wanted:
        details.append(f"{len(wanted)} settings")
    return ", ".join(details)


def machine(package):
    """The machine that the program in a function's package is for."""
    try:
        with zipfile.ZipFile(io.BytesIO(package)) as archive, archive.open("bootstrap") as file:
            header = file.read(20)
    except (zipfile.BadZipFile, KeyError) as error:
        raise Failed(f"the package has no bootstrap: {error}") from None
    require(header.startswith(b"\x7fELF") and len(header) == 20, "the package's bootstrap is not an ELF file")
    number = int.from_bytes(header[18:20], "little")
    return MACHINES.get(number, f"machine {number}")
