"""Writes infra/parameters.example, which lists the template's parameters. Run it after a change of the parameters:

    tests/harness/venvs/infra/bin/python tests/infra/parameters_example.py
"""

import pathlib
import re
import textwrap

from samtranslator.yaml_helper import yaml_parse

INFRA = pathlib.Path(__file__).resolve().parents[2] / "infra"

HEADER = """\
# The parameters of a stack, one NAME=VALUE in a line. Values have no quotes, and no spaces in or around them. Copy this
# file to `parameters`, fill in the first three values, and remove the # before each line that you want to change.
#
# The file holds no secret, so you can keep it under version control. A parameter that you leave out has its default at
# the first deployment, and keeps its value at later ones. To set it back, write its default, even if that is empty.
#
# With the SAM CLI, in bash or zsh:
#     sam deploy --parameter-overrides $(grep '^[A-Z]' parameters | sed 's/=$/=""/')
# With the AWS CLI:
#     aws cloudformation deploy ... --parameter-overrides $(grep '^[A-Z]' parameters)
"""


def meaning(parameter):
    """The first sentence of a description, as a comment."""
    sentence = re.split(r"(?<=\.)\s", parameter["Description"], maxsplit=1)[0]
    return textwrap.fill(sentence, 120, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False)


def example(template):
    parameters = template["Parameters"]
    required = [name for name, parameter in parameters.items() if "Default" not in parameter]
    lines = [HEADER]
    for name in required:
        lines += [meaning(parameters[name]), f"{name}=", ""]
    for group in template["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]:
        optional = [name for name in group["Parameters"] if name not in required]
        lines += [f"# --- {group['Label']['default']} ---", ""] if optional else []
        for name in optional:
            lines += [meaning(parameters[name]), f"#{name}={parameters[name]['Default']}", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    written = example(yaml_parse((INFRA / "template.yaml").read_text()))
    (INFRA / "parameters.example").write_text(written)
