"""The results of the checks, and which of them an error stands for."""

import re
import sys
import traceback

import urllib3
from botocore.exceptions import BotoCoreError, ClientError

PASSED = "passed"
FAILED = "failed"
NOT_CHECKED = "could not be checked"


class Failed(Exception):
    """The deployment is not as it should be. The text says how."""


class NotChecked(Exception):
    """The check was not possible. The text says what it needs."""


def require(condition, problem):
    if not condition:
        raise Failed(problem)


def listing(names):
    """Names as text, at most five of them."""
    names = sorted(names)
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more


class Table:
    def __init__(self):
        self.rows = []

    def check(self, name, function, *arguments):
        """Runs a check, which returns a detail or raises. Returns whether it passed."""
        print(f"... {name}", file=sys.stderr, flush=True)
        try:
            result, detail = PASSED, function(*arguments)
        except NotChecked as reason:
            result, detail = NOT_CHECKED, str(reason)
        except Failed as problem:
            result, detail = FAILED, str(problem)
        except ClientError as error:
            missing = missing_permission(error)
            result = NOT_CHECKED if missing else FAILED
            detail = f"needs {missing}" if missing else str(error)
        except (BotoCoreError, urllib3.exceptions.HTTPError) as error:
            result, detail = FAILED, f"{type(error).__name__}: {error}"
        except Exception as error:
            # Its text could have a token: Python shows a header that it does not accept.
            place = traceback.extract_tb(error.__traceback__)[-1]
            result, detail = NOT_CHECKED, f"unexpected {type(error).__name__} in {place.filename}, line {place.lineno}"
        self.add(name, result, detail)
        return result == PASSED

    def add(self, name, result, detail):
        self.rows.append((name, result, " ".join((detail or "").split())))

    def print(self):
        width = max(len(name) for name, _, _ in self.rows)
        print()
        for name, result, detail in [("CHECK", "RESULT", "DETAIL"), *self.rows]:
            print(f"{name:{width}}  {result:{len(NOT_CHECKED)}}  {detail}".rstrip())
        counts = {kind: sum(result == kind for _, result, _ in self.rows) for kind in (PASSED, FAILED, NOT_CHECKED)}
        print("\n" + ", ".join(f"{number} {kind}" for kind, number in counts.items()))

    def exit_code(self):
        """0 if every check passed, 1 if one failed, 3 if none failed but one was not possible."""
        results = {result for _, result, _ in self.rows}
        return 1 if FAILED in results else 3 if NOT_CHECKED in results else 0


def missing_permission(error):
    """The IAM action that AWS denied, or None if the error is another one."""
    code = error.response["Error"].get("Code", "")
    if not re.search("AccessDenied|Unauthorized|AuthorizationError|Forbidden", code):
        return None
    named = re.search(r"perform:? ([a-z0-9-]+:\w+)", error.response["Error"].get("Message", ""))
    return named.group(1) if named else f"the permission for {error.operation_name}"
