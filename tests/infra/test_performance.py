"""The page on performance, its figures, and the memory size that follows from them."""

import re
import subprocess

from conftest import ROOT


def test_tables_and_plots_are_those_of_the_figures():
    checked = subprocess.run([ROOT / "tests" / "bench" / "document", "--check"], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr


def test_a_table_that_its_figures_do_not_make_is_found(tmp_path):
    for part in ("docs", "tests/bench/document", "tests/bench/figures"):
        (tmp_path / part).parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cp", "-R", ROOT / part, tmp_path / part], check=True)
    page = tmp_path / "docs" / "performance.md"
    page.write_text(
        re.sub(r"(<!-- begin growth -->\n(?:.*\n)*?\| `POST /challenges` \| \d+ \| )", r"\g<1>1", page.read_text())
    )
    checked = subprocess.run([tmp_path / "tests" / "bench" / "document", "--check"], capture_output=True, text=True)
    assert checked.returncode == 1
    assert checked.stderr == "not what the figures say: performance.md\n"


def test_costs_and_recommendation_are_for_the_memory_size_of_the_template(deployed):
    sizes = {
        # The first is with a collector of traces.
        resource["Properties"]["MemorySize"]["Fn::If"][2]
        for resource in deployed.values()
        # The page is about the functions in Rust.
        if resource["Type"] == "AWS::Lambda::Function" and resource["Properties"]["Runtime"] == "provided.al2023"
    }
    [size] = sizes
    assert f"**The template sets {size} MB.**" in (ROOT / "docs" / "performance.md").read_text()
    costs = (ROOT / "docs" / "operations.md").read_text()
    # A second of a function's duration in each of these.
    assert set(re.findall(r"× ([\d.]+) GB\b(?!/)", costs)) == {str(size / 1024)}
