//! `cargo local incident`: lists the incidents, and plays one.

use std::io::Write;

use serde_json::{Value, json};
use shared::clock::AdjustableClock;
use tokio::sync::mpsc;

use super::{INCIDENTS, Incident, ONLY_ON_AWS};
use crate::log::Log;
use crate::row::Row;
use crate::running::RunningStack;
use crate::stack::{Stack, StackOptions};

/// The incidents, and the alarms that have none.
pub fn list(as_json: bool) -> String {
    if as_json {
        let only_on_aws =
            ONLY_ON_AWS.iter().map(|(alarm, reason)| json!({ "alarm": alarm, "reason": reason }));
        let incidents = INCIDENTS.iter().map(Incident::json);
        let lists = json!({
            "incidents": incidents.collect::<Vec<_>>(),
            "onlyOnAws": only_on_aws.collect::<Vec<_>>(),
        });
        return format!("{lists:#}");
    }
    let mut text = "Incidents for `cargo local incident NAME`:\n\n".to_owned();
    for Incident { name, title, .. } in INCIDENTS {
        text += &format!("  {name:<30}  {title}\n");
    }
    text += "\nThese alarms can only be seen in the cloud:\n\n";
    for (alarm, reason) in ONLY_ON_AWS {
        text += &format!("  {alarm:<24}  {reason}\n");
    }
    text + "\nEach alarm has a section in docs/runbook.md."
}

/// Plays an incident on a stack that runs for it alone, and prints what happens. The process has to log to `log`.
///
/// # Errors
/// If the stack does not start, or the incident does not raise its metrics.
pub async fn play_on_stack_of_its_own(
    incident: &Incident,
    clock: AdjustableClock,
    log: Log,
    as_json: bool,
) -> Result<(), Box<dyn std::error::Error>> {
    let options =
        StackOptions { clock, log: Some(log), scheduled: false, throttled: false, ..StackOptions::default() };
    let stack = Stack::start(options).await?;
    // The test message of the subscription counts as a webhook about something else.
    stack.circle.wait_for_deliveries(1).await;
    let (steps, mut received) = mpsc::unbounded_channel();
    let mut printer = Printer::begin(incident, as_json);
    let printing = async {
        while let Some(message) = received.recv().await {
            printer.print(&message);
        }
        printer.end()
    };
    let ((), result) = tokio::join!(incident.play(&stack.sources, steps), printing);
    stack.stop().await;
    result
}

/// Plays an incident on the stack whose HTTP API is on `port`, and prints what happens.
///
/// # Errors
/// If no stack is running there, or the incident does not raise its metrics.
pub async fn play_on_running_stack(
    incident: &Incident,
    port: u16,
    as_json: bool,
) -> Result<(), Box<dyn std::error::Error>> {
    let mut lines = RunningStack::on(port).play(incident.name).await?;
    let mut printer = Printer::begin(incident, as_json);
    while let Some(message) = lines.next().await? {
        printer.print(&message);
    }
    printer.end()
}

/// Prints what happens in an incident.
struct Printer {
    as_json: bool,
    error: Option<String>,
    has_raised: bool,
}

impl Printer {
    fn begin(incident: &Incident, as_json: bool) -> Self {
        if !as_json {
            println!("{}\n", incident.title);
        }
        Self { as_json, error: None, has_raised: false }
    }

    fn print(&mut self, message: &Value) {
        if let Some(error) = message["error"].as_str() {
            self.error = Some(error.to_owned());
        }
        if self.as_json {
            println!("{message}");
        } else if let Some(step) = message["step"].as_str() {
            println!("  {step}");
        } else if message["raised"].is_object() {
            if !std::mem::replace(&mut self.has_raised, true) {
                println!();
            }
            println!("{}", raised(&message["raised"]));
        }
        // A pipe gets each line at once.
        let _ = std::io::stdout().flush();
    }

    fn end(self) -> Result<(), Box<dyn std::error::Error>> {
        self.error.map_or(Ok(()), |error| Err(error.into()))
    }
}

/// A metric, its alarm and the section of the runbook.
fn raised(raised: &Value) -> String {
    let dimensions = raised["dimensions"].as_object().into_iter().flatten();
    let dimensions = dimensions.map(|(name, value)| format!("{name}={}", value.as_str().unwrap_or_default()));
    let dimensions = dimensions.collect::<Vec<_>>().join(", ");
    let metric = format!("{} {dimensions}", raised["metric"].as_str().unwrap_or_default());
    let sum = raised["sum"].as_f64().unwrap_or_default();
    let Row { what, detail, .. } = Row::of_log(&raised["line"]);
    let mut text = format!("  metric   {}: {sum}\n  log      {what}  {detail}", metric.trim());
    for name in ["alarm", "runbook"] {
        if let Some(value) = raised[name].as_str() {
            text += &format!("\n  {name:<7}  {value}");
        }
    }
    text
}
