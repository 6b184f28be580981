//! Every incident of `cargo local incident` raises its metrics.

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::Mutex;
use std::thread;

use local::incidents::INCIDENTS;
use serde_json::Value;

/// How many incidents are played at once. Each is a process of its own.
const AT_ONCE: usize = 2;

/// Runs the command. Returns its lines of JSON, or what it printed if it failed.
fn incident(arguments: &[&str]) -> Result<Vec<Value>, String> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_local"));
    let output = command.arg("incident").args(arguments).arg("--json").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        return Err(format!("{text}{}", String::from_utf8_lossy(&output.stderr)));
    }
    Ok(text.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

#[test]
fn each_incident_raises_its_metrics() {
    let names = Mutex::new(INCIDENTS.iter());
    let failures = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let next = names.lock().unwrap().next();
                    let Some(one) = next else { break };
                    let raised = incident(&[one.name]).map(|lines| {
                        lines.iter().filter(|line| line["raised"]["sum"].as_f64() > Some(0.0)).count()
                    });
                    if raised.as_ref() != Ok(&one.raises.len()) {
                        failures.lock().unwrap().push(format!("{}: {raised:?}", one.name));
                    }
                }
            });
        }
    });
    assert_eq!(failures.into_inner().unwrap(), [] as [String; 0]);
}

#[test]
fn names_are_unique_and_an_unknown_one_is_rejected() {
    let names: BTreeSet<_> = INCIDENTS.iter().map(|incident| incident.name).collect();
    assert_eq!(names.len(), INCIDENTS.len());
    let error = incident(&["circle-up"]).unwrap_err();
    assert!(error.contains("there is no such incident; `cargo local incident` lists them"), "{error}");
}
