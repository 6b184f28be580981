"""A template for SAM, as CloudFormation receives it."""

import pathlib

from samtranslator.translator.transform import transform


class NoManagedPolicies:
    """No function uses a policy of SAM or AWS, so SAM does not have to look one up."""

    def load(self):
        return {}


def uploaded(template, code):
    """The template with the packages where `code` has uploaded them, as `sam deploy` changes it."""
    for resource in template["Resources"].values():
        if "CodeUri" in resource.get("Properties", {}):
            package = pathlib.PurePath(resource["Properties"]["CodeUri"])
            resource["Properties"]["CodeUri"] = code(package.stem)
    return template


def expanded(template, parameters):
    """The template after SAM's transformation. SAM puts the values of parameters in some places, such as the names of
    packages."""
    return transform(template, parameters, NoManagedPolicies())
