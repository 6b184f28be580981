"""Tries the mutants of the modules, and prints how many the tests catch.

cargo-mutants lists the mutants. All of them are compiled into a copy of the sources at once, and one is switched on in each
run of a test program: a build for each would take many hours. A module's tests run in stages, and a later one only tries what the
earlier ones have missed. Mutants that no test can catch are in .cargo/mutants.toml, with the reason. The exit status is 0
only if none is missed.
"""

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatch
from pathlib import Path
from time import monotonic

import switch
from modules import MODULES

ROOT = Path(__file__).parents[2]
COLUMNS = ("mutants", "unviable", "excluded", "constants", "caught", "missed")
# How many inputs each property tries. A mutant that only one input in thousands shows is missed.
FEW_INPUTS = {"PROPTEST_CASES": "20", "FORGERIES": "300"}


def main():
    parser = argparse.ArgumentParser(prog="tests/mutants/run", description=__doc__)
    parser.add_argument("modules", nargs="*", metavar="MODULE", help=", ".join(MODULES))
    parser.add_argument("--jobs", type=int, default=2 * os.cpu_count(), help="how many test programs run at once")
    resume = "try only what earlier runs have not caught, in files that are the same"
    parser.add_argument("--resume", action="store_true", help=resume)
    arguments = parser.parse_args()
    if unknown := set(arguments.modules) - set(MODULES):
        parser.error(f"unknown module: {', '.join(unknown)}")
    names = arguments.modules or list(MODULES)
    run = Run((Path(os.environ.get("CARGO_TARGET_DIR", "target")) / "mutants").resolve(), names, arguments.jobs)
    if arguments.resume:
        run.read_outcomes()
    run.switch_and_build()
    for name in names:
        run.try_module(name)
    rows = {name: run.count(name) for name in names}
    print_table(rows | {"all": sum(rows.values(), Counter())})
    sys.exit(any(row["missed"] for row in rows.values()))


class Run:
    def __init__(self, folder, names, jobs):
        self.tree, self.build, self.jobs = folder / "tree", folder / "build", jobs
        self.saved = folder / "outcomes.json"
        self.outcomes, self.programs = {}, {}
        copy_sources(self.tree)
        self.listed = list_mutants(self.tree)
        # Of the copy, before it has mutants: the checkout may change during the run.
        files = {mutant["file"] for mutant in self.listed}
        self.sources = {file: (self.tree / file).read_text() for file in files | {"shared/src/lib.rs"}}
        self.digests = {file: digest(self.tree / file) for file in files}
        considered = {mutant["name"] for mutant in list_mutants(self.tree, "--config", ROOT / ".cargo" / "mutants.toml")}
        self.excluded = {mutant["name"] for mutant in self.listed} - considered
        self.modules = defaultdict(list)
        for mutant in self.listed:
            self.modules[module_of(mutant["file"])].append(mutant)
        check_exclusions(self.listed)
        self.numbered = {
            number: mutant
            for number, mutant in enumerate((mutant for name in names for mutant in self.modules[name]), 1)
            if mutant["name"] not in self.excluded
        }
        self.stages = dict.fromkeys(stage for name in names for stage in MODULES[name].stages)

    def read_outcomes(self):
        """Takes the outcomes of earlier runs for files that are the same: a mutant's name contains its line."""
        earlier = json.loads(self.saved.read_text()) if self.saved.exists() else {}
        for file, saved in earlier.items():
            if saved["sha256"] == self.digests.get(file):
                self.outcomes |= saved["outcomes"]

    def write_outcomes(self):
        files = defaultdict(dict)
        for mutant in self.listed:
            if outcome := self.outcomes.get(mutant["name"]):
                files[mutant["file"]][mutant["name"]] = outcome
        saved = {file: {"sha256": self.digests[file], "outcomes": outcomes} for file, outcomes in files.items()}
        self.saved.write_text(json.dumps(saved, indent=1))

    def switch_and_build(self):
        """Compiles the mutants in. Those that the compiler rejects are left out, in as many rounds as it takes."""
        while True:
            self.write_mutants()
            rejected = self.compile("check", "--workspace")
            if not rejected:
                break
            for number, outcome in rejected.items():
                self.outcomes[self.numbered[number]["name"]] = outcome
        for package, target in dict.fromkeys((stage.package, stage.target) for stage in self.stages):
            command = ("test", "--no-run", "--profile=proof", f"--package={package}", target)
            if rejected := self.compile(*command, program=(package, target)):
                names = ", ".join(self.numbered[number]["name"] for number in rejected)
                sys.exit(f"{package} {target} does not compile with: {names}")

    def write_mutants(self):
        sources = defaultdict(dict)
        for number, mutant in self.numbered.items():
            if self.outcomes.get(mutant["name"]) not in ("unviable", "constant"):
                sources[mutant["file"]][number] = mutant
        for file, original in self.sources.items():
            source = switch.Source(original, "crate" if file.startswith("shared/") else "shared")
            for number, mutant in sources[file].items():
                if reason := source.add(number, mutant):
                    self.outcomes[mutant["name"]] = reason
            text = source.text() + (switch.FUNCTION if file == "shared/src/lib.rs" else "")
            if (self.tree / file).read_text() != text:
                (self.tree / file).write_text(text)

    def compile(self, *arguments, program=None):
        """Runs cargo. Returns the mutants that it rejects, by number, each with its outcome."""
        command = ["cargo", *arguments, "--locked", "--message-format=json", f"--target-dir={self.build}"]
        print(" ".join(["cargo", *arguments]), flush=True)
        done = subprocess.run(command, cwd=self.tree, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        messages = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        for message in messages:
            if program and message["reason"] == "compiler-artifact" and message["executable"] and message["profile"]["test"]:
                self.programs[program] = message["executable"]
        errors = [message["message"] for message in messages if message["reason"] == "compiler-message"]
        errors = [error for error in errors if error["level"] == "error" and error["spans"]]
        rejected = {}
        for error in errors:
            is_in_constant = error["code"] and error["code"]["code"] == "E0015"
            for number in switch.numbers_of(error, self.tree):
                rejected[number] = "constant" if is_in_constant else "unviable"
        if done.returncode and not rejected:
            sys.exit("".join(error["rendered"] for error in errors) or done.stderr)
        return rejected

    def try_module(self, name):
        for stage in MODULES[name].stages:
            numbers = [
                number
                for number, mutant in self.numbered.items()
                if module_of(mutant["file"]) == name and self.outcomes.get(mutant["name"], "missed") == "missed"
            ]
            if not numbers:
                return
            started = monotonic()
            with ThreadPoolExecutor(self.jobs) as pool:
                self.require_success(stage, pool, None)
                # One that makes a test hang is caught.
                limit = 60 + 10 * (monotonic() - started)
                caught = dict(zip(numbers, pool.map(lambda number: self.catches(stage, number, limit), numbers)))
                self.require_success(stage, pool, limit)
            for number, is_caught in caught.items():
                self.outcomes[self.numbered[number]["name"]] = "caught" if is_caught else "missed"
            self.write_outcomes()
            tests = f"{stage.package} {stage.target} {' '.join(stage.names)}"
            print(f"{name}: {sum(caught.values())} of {len(numbers)} by {tests}", flush=True)

    def require_success(self, stage, pool, limit):
        """Runs the tests without a mutant, under the same load: what fails because of that would count as caught."""
        if any(pool.map(lambda _: self.catches(stage, None, limit), range(self.jobs))):
            sys.exit(f"{stage} fails without a mutant")

    def catches(self, stage, number, limit):
        """Whether a test fails with this mutant. Ends the test program at the first one."""
        package = ROOT.joinpath(stage.package if stage.package in ("shared", "tests") else f"functions/{stage.package}")
        environment = os.environ | FEW_INPUTS | {"INSTA_UPDATE": "no", "INSTA_WORKSPACE_ROOT": str(self.tree)}
        environment |= {"RUST_MIN_STACK": "8388608"} | ({"MUTANT": str(number)} if number else {})
        process = subprocess.Popen(
            [self.programs[stage.package, stage.target], *stage.names],
            cwd=self.tree / package.relative_to(ROOT), env=environment, text=True, errors="replace",
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )
        with ThreadPoolExecutor(1) as reader:
            has_passed = reader.submit(passes, process.stdout)
            try:
                return not has_passed.result(limit)
            except TimeoutError:
                return True
            finally:
                process.kill()
                process.wait()

    def count(self, name):
        mutants = [mutant["name"] for mutant in self.modules[name]]
        row = Counter(self.outcomes.get(mutant, "missed") for mutant in mutants if mutant not in self.excluded)
        row["constants"] = row.pop("constant", 0)
        row |= {"mutants": len(mutants), "excluded": sum(mutant in self.excluded for mutant in mutants)}
        for mutant in mutants:
            if mutant not in self.excluded and self.outcomes.get(mutant, "missed") == "missed":
                print(f"missed: {mutant}")
        return row


def passes(output):
    """Reads a test program's output up to the first failure. Whether there was none."""
    for line in output:
        if line.startswith("test ") and line.rstrip().endswith("FAILED"):
            return False
        if line.startswith("test result: ok"):
            return True
    return False


def copy_sources(tree):
    """Copies what git knows of, or would add. A file that is the same keeps its time, so that cargo compiles no more than it
    must."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    files = {name for name in listed.split("\0") if name and (ROOT / name).is_file()}
    for path in [path for path in tree.rglob("*") if path.is_file()]:
        if str(path.relative_to(tree)) not in files:
            path.unlink()
    for name in files:
        source, copy = ROOT / name, tree / name
        if not copy.exists() or copy.read_bytes() != source.read_bytes():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, copy)


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def list_mutants(tree, *arguments):
    files = ["--file=shared/src/**", "--file=functions/*/src/**"]
    command = ["cargo", "mutants", "--list", "--json", *files, *(arguments or ["--no-config"])]
    return json.loads(subprocess.run(command, cwd=tree, check=True, capture_output=True).stdout)


def module_of(file):
    owners = [name for name, module in MODULES.items() if any(fnmatch(file, glob) for glob in module.files)]
    if len(owners) != 1:
        sys.exit(f"{file} belongs to {' and '.join(owners) or 'no module'}")
    return owners[0]


def check_exclusions(mutants):
    for pattern in tomllib.loads((ROOT / ".cargo" / "mutants.toml").read_text())["exclude_re"]:
        if not any(re.search(pattern, mutant["name"]) for mutant in mutants):
            sys.exit(f".cargo/mutants.toml: no mutant matches {pattern}")


def print_table(rows):
    width = max(map(len, rows))
    print(f"{'':{width}}", *COLUMNS)
    for name, row in rows.items():
        print(f"{name:{width}}", *(f"{row[column]:>{len(column)}}" for column in COLUMNS), flush=True)


if __name__ == "__main__":
    main()
