use shared::problem::Code;
use strum::IntoEnumIterator;

/// The README lists every error that a caller can meet, with its status, and none besides.
#[test]
fn the_readme_lists_every_code_with_its_status() {
    let readme = include_str!("../../README.md");
    let errors = readme.split("### Errors").nth(1).unwrap().split("\n## ").next().unwrap();
    let listed: Vec<String> = errors
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .map(|row| {
            row.split('|').take(2).map(|cell| cell.trim().trim_matches('`')).collect::<Vec<_>>().join(" ")
        })
        .collect();
    let mut expected: Vec<String> =
        Code::iter().map(|code| format!("{} {}", code.as_str(), code.status().as_u16())).collect();
    let mut sorted = listed.clone();
    sorted.sort();
    expected.sort();
    assert_eq!(sorted, expected);
}
