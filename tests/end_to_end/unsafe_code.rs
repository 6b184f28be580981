//! No code of this repository may use `unsafe`, that of the tests and the benchmark included.

use std::fs;
use std::path::{Path, PathBuf};

/// The manifests below a folder, without those of installed packages and builds.
fn manifests(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let is_installed = name.starts_with('.') || ["target", "node_modules", "venvs"].contains(&&*name);
            match path.is_dir() {
                true if !is_installed => manifests(&path),
                false if name == "Cargo.toml" => vec![path],
                _ => vec![],
            }
        })
        .collect()
}

/// `forbid`, unlike `deny`, cannot be overridden in the code.
#[test]
fn every_package_forbids_unsafe_code() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let (mut packages, mut workspaces) = (0, 0);
    for path in manifests(root) {
        let manifest = fs::read_to_string(&path).unwrap();
        if manifest.contains("[package]\n") {
            assert!(manifest.contains("\n[lints]\nworkspace = true\n"), "{}", path.display());
            packages += 1;
        }
        if manifest.contains("[workspace]\n") {
            let (_, lints) = manifest.split_once("\n[workspace.lints.rust]\n").unwrap();
            assert!(lints.starts_with("unsafe_code = \"forbid\"\n"), "{}", path.display());
            workspaces += 1;
        }
    }
    assert!(packages >= 15 && workspaces == 3, "{packages} packages and {workspaces} workspaces were found");
}
