//! What happened, on one line each, for the terminal.

use std::fmt::Write;

use anstyle::{AnsiColor, Style};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::activity::News;
use crate::embedded_metrics::MetricValues;

/// One line: what happened, how it ended, and about what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// `request`, `webhook`, `record`, `event`, `problem` or `log`.
    pub kind: String,
    /// What happened, such as `GET /pin`.
    pub what: String,
    /// How it ended, such as a status; empty if that is part of `what`.
    pub result: String,
    /// The rest.
    pub detail: String,
}

impl Row {
    fn new(kind: &str, what: impl Into<String>, result: impl Into<String>, detail: Vec<String>) -> Self {
        let detail = detail.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("  ");
        Self { kind: kind.to_owned(), what: what.into(), result: result.into(), detail }
    }

    /// The row for the live view. `None` for news that say nothing new: a webhook that was accepted is a request too, and
    /// a record also changes without its status.
    pub fn of_news(news: &News) -> Option<Self> {
        match news {
            News::Request(line) => {
                let is_accepted_webhook = line["route"] == "/webhooks/circle" && line["status"] == 200;
                (!is_accepted_webhook).then(|| Self::of_request(line))
            }
            News::Problem { metric, line } => Some(Self::of_problem(metric, line)),
            News::Failure(line) => Some(Self::new("problem", text(&line["message"]), "", vec![cause(line)])),
            News::Webhook(webhook) => Some(Self::of_webhook(webhook)),
            News::Record { old, new } if new["status"] != old["status"] && new.is_object() => {
                let change = [text(&old["status"]), text(&new["status"])];
                let change = change.iter().filter(|status| !status.is_empty()).cloned().collect::<Vec<_>>();
                let by = text(&new["settledBy"]);
                let by = if by.is_empty() { by } else { format!("by {by}") };
                let detail = vec![text(&new["challengeId"]), by, text(&new["type"]), text(&new["userId"])];
                Some(Self::new("record", change.join(" -> "), "", detail))
            }
            News::Record { .. } => None,
            News::Event(event) => Some(Self::of_event(event)),
        }
    }

    /// A line of the access log.
    pub(crate) fn of_request(line: &Value) -> Self {
        let path = if line["route"].is_string() { &line["route"] } else { &line["path"] };
        let duration = format!("{} ms", text(&line["duration_ms"]));
        let what = format!("{} {}", text(&line["method"]), text(path));
        Self::new("request", what, text(&line["status"]), vec![duration, text(&line["user"])])
    }

    fn of_problem(metric: &MetricValues, line: &Value) -> Self {
        let values = metric.dimensions.values().cloned().collect::<Vec<_>>().join(" ");
        let what =
            if metric.name == "Logged" { values } else { format!("{} {values}", metric.name).trim().into() };
        Self::new("problem", what, "", vec![text(&line["message"]), cause(line)])
    }

    /// An attempt to deliver a webhook, in the form of `activity::webhook`.
    pub(crate) fn of_webhook(webhook: &Value) -> Self {
        let (body, attempt) = (&webhook["body"], text(&webhook["attempt"]));
        let notification = &body["notification"];
        let status = text(if notification["status"].is_string() {
            &notification["status"]
        } else {
            &notification["state"]
        });
        let kind = text(&body["notificationType"]);
        let kind = if kind.is_empty() { "unreadable".to_owned() } else { kind };
        let result = if webhook["status"].is_null() { &webhook["error"] } else { &webhook["status"] };
        let attempt = if attempt == "0" { String::new() } else { format!("attempt {attempt}") };
        let what = format!("{kind} {status}");
        Self::new("webhook", what.trim(), text(result), vec![attempt, text(&notification["id"])])
    }

    /// An event in EventBridge's form.
    pub(crate) fn of_event(event: &Value) -> Self {
        let detail = &event["detail"];
        let what = format!("{} {}", text(&event["detail-type"]), text(&detail["status"]));
        Self::new("event", what.trim(), "", vec![text(&detail["challengeId"])])
    }

    /// A stage of a record: `at`, and what else its map has.
    pub(crate) fn of_stage(status: &str, stage: &Value) -> Self {
        Self::new("record", status, "", members(stage, &["at", "status"]))
    }

    /// A line of a function. The line that ends a request has a number as its status, and tells who asked.
    pub(crate) fn of_log(line: &Value) -> Self {
        let level = text(&line["level"]);
        let level = if level == "INFO" { String::new() } else { level };
        let mut detail = members(line, &["timestamp", "level", "message", "target", "span", "_aws"]);
        if line["status"].is_number() {
            detail.extend(members(&line["span"], &["name"]));
        }
        Self::new("log", text(&line["message"]), level, detail)
    }

    /// The line, aligned with the others. `time` comes first.
    pub fn line(&self, time: &str, has_colours: bool) -> String {
        let Self { kind, what, result, detail } = self;
        let (dim, colour) =
            if has_colours { (Style::new().dimmed(), self.colour()) } else { Default::default() };
        let mut line = format!("{dim}{time}{dim:#}  {colour}{kind:<7}{colour:#}  {what:<38}");
        let _ = write!(line, "  {colour}{result:<5}{colour:#}  {detail}");
        // Spaces at the end would wrap on a narrow terminal.
        line.trim_end().to_owned()
    }

    fn colour(&self) -> Style {
        let is_error = ["ERROR", "lost", "no response", "timed out"].contains(&self.result.as_str());
        let colour = match (self.kind.as_str(), self.result.as_bytes().first()) {
            ("problem", _) | (_, Some(b'5')) => AnsiColor::Red,
            _ if is_error => AnsiColor::Red,
            (_, Some(b'4' | b'W')) => AnsiColor::Yellow,
            ("record", _) => AnsiColor::Cyan,
            ("event", _) => AnsiColor::Blue,
            ("log", _) => return Style::new(),
            _ => AnsiColor::Green,
        };
        Style::new().fg_color(Some(colour.into()))
    }
}

/// The members of an object that are not `shown_otherwise`.
fn members(object: &Value, shown_otherwise: &[&str]) -> Vec<String> {
    let members = object.as_object().into_iter().flatten();
    let members = members.filter(|(name, _)| !shown_otherwise.contains(&name.as_str()));
    members.map(|(name, value)| format!("{name}={}", text(value))).collect()
}

/// Why something failed, by its log line.
fn cause(line: &Value) -> String {
    text(if line["source"].is_string() { &line["source"] } else { &line["error"] })
}

/// A text as it is, a missing value as nothing, and anything else as JSON.
fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embedded_metrics::metric_values;
    use serde_json::json;

    fn line(news: &News) -> Option<String> {
        Row::of_news(news).map(|row| row.line("12:00:00", false))
    }

    #[test]
    fn news_are_aligned_lines() {
        let counted = json!({
            "message": "Circle failed.", "metric": "circle_unavailable", "source": "503", "Logged": 1,
            "_aws": { "Timestamp": 1, "CloudWatchMetrics": [{
                "Namespace": "n", "Dimensions": [["metric"]], "Metrics": [{ "Name": "Logged" }],
            }] },
        });
        let metric = metric_values(&counted).remove(0);
        let request = json!({
            "method": "GET", "path": "/pin", "route": "/pin", "status": 200, "duration_ms": 9, "user": "alice",
        });
        let notification = json!({ "id": "1-2", "status": "COMPLETE" });
        let body = json!({ "notificationType": "challenges.changePin", "notification": notification });
        let webhook =
            |attempt, status| json!({ "attempt": attempt, "status": status, "error": "lost", "body": body });
        let record = |status| json!({ "challengeId": "1-2", "status": status, "type": "CHANGE_PIN" });
        let event = json!({ "detail-type": "PIN Change Requested", "detail": { "challengeId": "1-2" } });
        for (news, expected) in [
            (
                News::Request(request),
                "12:00:00  request  GET /pin                                200    9 ms  alice",
            ),
            (
                News::Webhook(webhook(2, json!(503))),
                "12:00:00  webhook  challenges.changePin COMPLETE           503    attempt 2  1-2",
            ),
            (
                News::Webhook(webhook(0, Value::Null)),
                "12:00:00  webhook  challenges.changePin COMPLETE           lost   1-2",
            ),
            (
                News::Record { old: record("PENDING"), new: record("COMPLETE") },
                "12:00:00  record   PENDING -> COMPLETE                            1-2  CHANGE_PIN",
            ),
            (News::Event(event), "12:00:00  event    PIN Change Requested                           1-2"),
            (
                News::Problem { metric, line: counted },
                "12:00:00  problem  circle_unavailable                             Circle failed.  503",
            ),
        ] {
            assert_eq!(line(&news).as_deref(), Some(expected));
        }
    }

    #[test]
    fn what_another_line_tells_has_no_line() {
        let record = json!({ "challengeId": "1-2", "status": "PENDING", "checkedAt": "now" });
        assert_eq!(line(&News::Record { old: record.clone(), new: record.clone() }), None);
        assert_eq!(line(&News::Record { old: record, new: Value::Null }), None);
        let webhook = |status| News::Request(json!({ "route": "/webhooks/circle", "status": status }));
        assert_eq!(line(&webhook(200)), None);
        assert!(line(&webhook(401)).is_some());
    }

    #[test]
    fn colours_are_only_added() {
        let row =
            Row::of_request(&json!({ "method": "GET", "path": "/pin", "status": 503, "duration_ms": 1 }));
        let (plain, coloured) = (row.line("12:00:00", false), row.line("12:00:00", true));
        assert!(coloured.contains("\u{1b}[31m503"), "{coloured:?}");
        let mut rest = coloured;
        while let Some((before, after)) = rest.split_once('\u{1b}') {
            rest = format!("{before}{}", after.split_once('m').unwrap().1);
        }
        assert_eq!(rest, plain);
    }
}
