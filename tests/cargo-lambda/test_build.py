"""The build for a deployment."""

import shutil
import subprocess

from processes import ROOT

MANIFESTS = ["Cargo.toml", "Cargo.lock", ".cargo", "functions", "shared", "infra", "tests/Cargo.toml", "tests/end_to_end"]


def test_a_build_needs_a_lock_file_that_fits(tmp_path):
    """`sam build` runs this command in the function's folder, without --locked."""
    for name in MANIFESTS:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    function = tmp_path / "functions" / "create-token"
    manifest = function / "Cargo.toml"
    manifest.write_text(manifest.read_text().replace("version.workspace = true", 'version = "9.9.9"', 1))
    # Cargo finds the mismatch before it compiles anything.
    build = subprocess.run(
        ["cargo", "lambda", "build", "--release"], cwd=function, capture_output=True, text=True, timeout=60
    )
    assert build.returncode != 0
    assert "cannot update the lock file" in build.stderr
    assert (tmp_path / "Cargo.lock").read_bytes() == (ROOT / "Cargo.lock").read_bytes()
