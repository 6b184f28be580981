use shared::problem::Code;
use strum::IntoEnumIterator;

#[test]
fn readme_lists_every_error_code_with_its_status() {
    let readme = include_str!("../../README.md");
    let errors = readme.split("### Errors").nth(1).unwrap().split("\n## ").next().unwrap();
    let rows = errors.lines().filter_map(|line| line.strip_prefix("| `"));
    let cells = rows.map(|row| row.split('|').map(|cell| cell.trim().trim_matches('`')));
    let mut listed: Vec<String> = cells.map(|cells| cells.take(2).collect::<Vec<_>>().join(" ")).collect();
    let codes = Code::iter().map(|code| format!("{} {}", code.as_str(), code.status().as_u16()));
    let mut expected: Vec<String> = codes.collect();
    listed.sort();
    expected.sort();
    assert_eq!(listed, expected);
}
