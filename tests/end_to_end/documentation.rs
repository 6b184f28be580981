use std::path::Path;

use shared::failure::FailureReason;
use shared::metric::{LINES, LOGGED};
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

const METRICS_PAGE: &str = include_str!("../../docs/logs-and-metrics.md");

#[test]
fn documentation_lists_every_measurement_with_its_unit_and_dimensions() {
    let table = METRICS_PAGE.split("| metric | unit | dimensions |").nth(1).unwrap();
    let mut listed = Vec::new();
    for row in table.split("\n\n").next().unwrap().lines().filter_map(|line| line.strip_prefix("| `")) {
        let cells: Vec<_> = row.split(" | ").collect();
        let sets = cells[2].split("; ").map(|set| set.replace('`', "").replace("none", ""));
        let dimensions = sets.collect::<Vec<_>>().join("; ");
        let names = cells[0].split(", ").map(|name| name.trim_matches('`'));
        listed.extend(names.map(|name| format!("{name} {} {dimensions}", cells[1])));
    }
    let lines = LINES.iter().flat_map(|(_, measured)| *measured).chain(LOGGED);
    let mut expected: Vec<String> = lines
        .flat_map(|measured| {
            let sets: Vec<_> = measured.dimensions.iter().map(|set| set.join(", ")).collect();
            let dimensions = sets.join("; ");
            let names = measured.metrics.iter();
            names
                .map(move |metric| format!("{} {} {dimensions}", metric.name, metric.unit))
                .collect::<Vec<_>>()
        })
        .collect();
    listed.sort();
    expected.sort();
    expected.dedup();
    assert_eq!(listed, expected);
}

#[test]
fn documentation_lists_every_operation_and_outcome_of_calls_to_circle() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let text = |path: &str| std::fs::read_to_string(root.join("shared/src/circle").join(path)).unwrap();
    let calls = [text("mod.rs"), text("subscriptions.rs")].concat();
    let operations =
        calls.split("Call::new(\"").skip(1).map(|rest| rest.split('"').next().unwrap().to_owned());
    let operations: Vec<_> = operations.collect();
    assert!(operations.len() > 8, "{operations:?}");
    for operation in operations {
        assert!(METRICS_PAGE.contains(&format!("`{operation}`")), "{operation}");
    }
}
