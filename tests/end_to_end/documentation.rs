use std::path::Path;

use shared::failure::FailureReason;
use shared::problem::Code;
use strum::IntoEnumIterator;

const PAGE: &str = include_str!("../../docs/api.md");

#[test]
fn documentation_lists_every_error_code_with_its_status() {
    let errors = PAGE.split("| code | status |").nth(1).unwrap().split("\n\n").next().unwrap();
    let rows = errors.lines().filter_map(|line| line.strip_prefix("| `"));
    let cells = rows.map(|row| row.split('|').map(|cell| cell.trim().trim_matches('`')));
    let mut listed: Vec<String> = cells.map(|cells| cells.take(2).collect::<Vec<_>>().join(" ")).collect();
    let codes = Code::iter().map(|code| format!("{} {}", code.as_str(), code.status().as_u16()));
    let mut expected: Vec<String> = codes.collect();
    listed.sort();
    expected.sort();
    assert_eq!(listed, expected);
}

#[test]
fn documentation_lists_every_failure_reason() {
    let row = PAGE.lines().find_map(|line| line.strip_prefix("| `reason` | ")).unwrap();
    let listed: Vec<_> = row.split('`').skip(1).step_by(2).collect();
    let expected: Vec<_> = FailureReason::iter().map(FailureReason::as_str).collect();
    assert_eq!(listed, expected);
}

#[test]
fn security_policy_names_existing_tests() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let code: Vec<_> = include_str!("../../SECURITY.md").split('`').collect();
    let mut checked = 0;
    for named in code.windows(3).filter(|named| named[1] == ": ") {
        let source = std::fs::read_to_string(root.join(named[0])).unwrap();
        let declarations = [format!("fn {}(", named[2]), format!("def {}(", named[2])];
        assert!(declarations.iter().any(|one| source.contains(one)), "{named:?}");
        checked += 1;
    }
    assert!(checked > 20, "only {checked} tests were found");
}
