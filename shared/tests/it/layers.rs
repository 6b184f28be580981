use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The layer of each module, as the crate's doc comment lists them.
fn layers() -> HashMap<String, usize> {
    let mut layers = HashMap::new();
    for line in include_str!("../../src/lib.rs").lines() {
        let Some((number, modules)) = line.strip_prefix("//! ").and_then(|line| line.split_once(". ")) else {
            continue;
        };
        let (Ok(number), Some((modules, _))) = (number.parse(), modules.split_once(": ")) else { continue };
        for module in modules.split(", ") {
            layers.insert(module.trim_matches('`').to_owned(), number);
        }
    }
    layers
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] }).collect()
}

/// The modules that a source names in paths like `crate::clock::Clock` and `crate::{clock, random}`.
fn used_modules(source: &str) -> Vec<&str> {
    let is_name =
        |character: char| character.is_ascii_lowercase() || character.is_ascii_digit() || character == '_';
    source
        .split("crate::")
        .skip(1)
        .flat_map(|path| match path.strip_prefix('{') {
            Some(list) => list.split('}').next().unwrap().split(',').map(str::trim).collect(),
            None => vec![path],
        })
        .map(|path| path.split(|character| !is_name(character)).next().unwrap())
        .filter(|module| !module.is_empty())
        .collect()
}

#[test]
fn modules_use_only_lower_layers() {
    let layers = layers();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut checked = 0;
    for path in sources(&root) {
        let module = path.strip_prefix(&root).unwrap().iter().next().unwrap().to_str().unwrap();
        let module = module.trim_end_matches(".rs");
        // Tests may name any module.
        if module == "lib" || path.ends_with("tests.rs") {
            continue;
        }
        let layer = layers.get(module).unwrap_or_else(|| panic!("lib.rs names no layer of {module}"));
        let source = fs::read_to_string(&path).unwrap();
        // So may doc comments, and tests within a file.
        let code: Vec<_> = source.lines().take_while(|line| *line != "#[cfg(test)]").collect();
        let code: Vec<_> = code.into_iter().filter(|line| !line.trim_start().starts_with("//")).collect();
        for used in used_modules(&code.join("\n")) {
            let used_layer =
                layers.get(used).unwrap_or_else(|| panic!("{module} names the unknown module {used}"));
            assert!(used == module || used_layer < layer, "{module} uses {used}");
            checked += 1;
        }
    }
    assert!(checked > 50, "only {checked} uses were found");
}
