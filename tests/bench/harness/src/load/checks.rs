//! What must hold in the end: Circle's challenges, the records, the webhooks and the events agree.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::{Value, json};

use super::sandboxes::Sandboxes;
use super::stack::Stack;
use super::user::{Reset, rank};

/// Circle's code for an expired challenge.
const EXPIRED: i64 = 155_121;

/// A challenge as the simulator has it.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Truth {
    id: String,
    user_id: String,
    r#type: String,
    status: String,
    error_code: Option<i64>,
}

impl Truth {
    /// The status and the code, with one form for both ways in which Circle says that a challenge expired.
    fn ending(&self) -> (&str, Option<i64>) {
        ending(&self.status, self.error_code)
    }
}

fn ending(status: &str, code: Option<i64>) -> (&str, Option<i64>) {
    if code == Some(EXPIRED) || status == "EXPIRED" { ("EXPIRED", None) } else { (status, code) }
}

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) broken: Vec<String>,
    /// How many requirements hold.
    pub(crate) passed: usize,
    pub(crate) lines: Vec<String>,
}

impl Findings {
    fn require(&mut self, holds: bool, otherwise: impl FnOnce() -> String) {
        if holds {
            self.passed += 1;
        } else {
            self.broken.push(otherwise());
        }
    }
}

/// What is compared.
#[derive(Clone)]
pub(crate) struct Evidence {
    resets: Vec<Reset>,
    /// Circle's challenges.
    truth: Vec<Truth>,
    /// By the challenge's id.
    records: HashMap<String, Value>,
    /// The statuses that each webhook got, by the notification's id.
    webhooks: HashMap<String, Vec<u16>>,
    /// How many webhooks Circle has lost.
    lost: usize,
    events: Vec<Value>,
}

impl Evidence {
    /// Reads everything.
    pub(crate) async fn read(
        stack: &Stack,
        sandboxes: &Sandboxes,
        resets: Vec<Reset>,
        lost: usize,
    ) -> Result<Self> {
        Ok(Self {
            resets,
            truth: truth(stack).await?,
            records: records(stack).await?,
            webhooks: sandboxes.webhooks(),
            lost,
            events: stack.events().await?,
        })
    }

    /// Compares everything.
    pub(crate) fn check(&self) -> Findings {
        let mut findings = Findings::default();
        check_challenges(&mut findings, &self.truth, &self.resets);
        check_records(&mut findings, &self.truth, &self.records);
        check_webhooks(&mut findings, &self.truth, &self.webhooks, self.lost);
        check_events(&mut findings, &self.records, &self.events);
        findings
    }

    /// The mistakes that the checks do not find if they are planted.
    pub(crate) fn missed_mistakes(&self) -> Vec<&'static str> {
        let found = self.check().broken.len();
        let is_missed = |&(_, plant): &(&str, Plant)| {
            let mut planted = self.clone();
            plant(&mut planted).is_none() || planted.check().broken.len() <= found
        };
        MISTAKES.iter().filter(|mistake| is_missed(mistake)).map(|(name, _)| *name).collect()
    }
}

/// Makes a mistake. `None` if there is nothing to spoil.
type Plant = fn(&mut Evidence) -> Option<()>;

/// Mistakes to plant.
pub(crate) const MISTAKES: [(&str, Plant); 10] = [
    ("a record is lost", |all| {
        let id = all.truth.first()?.id.clone();
        all.records.remove(&id).map(drop)
    }),
    ("a PIN that was changed is recorded as unchanged", |all| {
        let record = all.records.values_mut().find(|record| text(record, "status") == "COMPLETE")?;
        record["status"]["S"] = "FAILED".into();
        Some(())
    }),
    ("an ending is not recorded", |all| {
        let record = all.records.values_mut().find(|record| rank(text(record, "status")) >= 2)?;
        record["status"]["S"] = "IN_PROGRESS".into();
        Some(())
    }),
    ("a record has the user of another", |all| {
        all.records.values_mut().next()?["userId"]["S"] = "load-another".into();
        Some(())
    }),
    ("a settled challenge is still on the index", |all| {
        let record = all.records.values_mut().find(|record| rank(text(record, "status")) >= 2)?;
        record["nextCheckAt"] = json!({ "N": "0" });
        Some(())
    }),
    ("an app saw an ending that Circle did not report", |all| {
        let reset = all.resets.iter_mut().find(|reset| reset.seen == "COMPLETE")?;
        reset.seen = "FAILED".to_owned();
        Some(())
    }),
    ("a webhook was accepted only when Circle sent it again", |all| {
        all.webhooks.values_mut().next()?.insert(0, 503);
        Some(())
    }),
    ("a webhook did not arrive", |all| {
        let id = all.webhooks.keys().next()?.clone();
        all.webhooks.remove(&id).map(drop)
    }),
    ("an event is missing", |all| all.events.pop().map(drop)),
    ("an event has another user", |all| {
        all.events.first_mut()?["detail"]["userId"] = "load-another".into();
        Some(())
    }),
];

/// How many challenges are recorded as open although Circle has settled them.
pub(crate) async fn unsettled(stack: &Stack) -> Result<usize> {
    let truth = truth(stack).await?;
    let records = records(stack).await?;
    let is_behind = |challenge: &&Truth| {
        rank(&challenge.status) >= 2
            && records.get(&challenge.id).is_none_or(|record| rank(text(record, "status")) < 2)
    };
    Ok(truth.iter().filter(is_behind).count())
}

/// Each reset is one challenge, and no app saw what Circle did not say.
fn check_challenges(findings: &mut Findings, truth: &[Truth], resets: &[Reset]) {
    let by_id: HashMap<&str, &Truth> =
        truth.iter().map(|challenge| (challenge.id.as_str(), challenge)).collect();
    findings.require(truth.len() == resets.len(), || {
        format!("{} resets led to {} challenges at Circle", resets.len(), truth.len())
    });
    for reset in resets {
        let found = by_id.get(reset.challenge.as_str());
        let is_same = found.is_some_and(|challenge| {
            let is_seen = !reset.is_watched
                || ending(&reset.seen, None).0 == challenge.ending().0
                || challenge.ending().0 == "EXPIRED" && reset.seen == "FAILED";
            challenge.user_id == reset.user && is_seen
        });
        findings.require(is_same, || format!("{reset:?} is {found:?} at Circle"));
    }
    let settled = truth.iter().filter(|challenge| rank(&challenge.status) >= 2).count();
    findings.lines.push(format!("{} challenges, {settled} settled by Circle", truth.len()));
}

/// Each challenge has one record, with what Circle says and what belongs to its status.
fn check_records(findings: &mut Findings, truth: &[Truth], records: &HashMap<String, Value>) {
    findings.require(records.len() == truth.len(), || {
        format!("{} challenges have {} records", truth.len(), records.len())
    });
    let mut settled_by = BTreeMap::<&str, usize>::new();
    for challenge in truth {
        let Some(record) = records.get(&challenge.id) else {
            findings.broken.push(format!("{challenge:?} has no record"));
            continue;
        };
        let (status, has) = (text(record, "status"), |name: &str| record.get(name).is_some());
        let code = number(record, "circleCode");
        let is_settled = rank(status) >= 2;
        let is_right = ending(status, code) == challenge.ending()
            && text(record, "userId") == challenge.user_id
            && text(record, "type") == challenge.r#type
            && number(record, "rank") == Some(rank(status).into())
            && has("requestedAt")
            && has("creation")
            // The index lists the open ones, and no other.
            && has("openShard") != is_settled
            && has("nextCheckAt") != is_settled
            && has("settledBy") == is_settled
            && has("ending") == (rank(status) == 2)
            && has("completion") == (rank(status) == 3)
            // A failure belongs to its status.
            && has("reason") == (rank(status) == 2)
            && !has("abandonedAt");
        findings.require(is_right, || format!("{challenge:?} is recorded as {record}"));
        if is_settled {
            *settled_by.entry(text(record, "settledBy")).or_default() += 1;
        }
    }
    let settled_by: Vec<_> = settled_by.iter().map(|(by, count)| format!("{count} by {by}")).collect();
    findings.lines.push(format!("recorded as settled: {}", settled_by.join(", ")));
}

/// Each webhook that Circle did not lose was accepted once.
fn check_webhooks(findings: &mut Findings, truth: &[Truth], seen: &HashMap<String, Vec<u16>>, lost: usize) {
    for (id, statuses) in seen {
        findings.require(statuses == &[200], || format!("webhook {id} got {statuses:?}"));
    }
    // One for the creation, one when the user opens it, one for the ending. And one to the new subscription.
    let sent: usize =
        truth.iter().map(|challenge| 2 + usize::from(rank(&challenge.status) >= 2)).sum::<usize>() + 1;
    findings.require(seen.len() + lost == sent, || {
        format!("Circle sent {sent} webhooks and lost {lost}, and {} arrived", seen.len())
    });
    findings.lines.push(format!("{} webhooks accepted, {lost} lost by Circle", seen.len()));
}

/// Each request and each ending of a record is published, and the last event is about the record's status.
fn check_events(findings: &mut Findings, records: &HashMap<String, Value>, events: &[Value]) {
    let mut by_challenge = HashMap::<&str, Vec<&Value>>::new();
    for event in events {
        by_challenge
            .entry(event["detail"]["challengeId"].as_str().unwrap_or_default())
            .or_default()
            .push(event);
    }
    let unknown = by_challenge.keys().filter(|id| !records.contains_key(**id));
    findings.broken.extend(unknown.map(|id| format!("an event is about {id}, which has no record")));
    let mut repeated = 0;
    for (id, record) in records {
        let events = by_challenge.get(id.as_str()).map(Vec::as_slice).unwrap_or_default();
        let requested = if text(record, "type") == "RESTORE_PIN" {
            "PIN Recovery Requested"
        } else {
            "PIN Change Requested"
        };
        let is_settled = rank(text(record, "status")) >= 2;
        let is_of_record = |event: &&&Value| {
            let detail = &event["detail"];
            let is_requested =
                event["detail-type"] == requested && detail["requestedAt"] == record["requestedAt"]["S"];
            let is_settled = event["detail-type"] == "PIN Challenge Settled"
                && detail["status"] == record["status"]["S"]
                && detail["reason"] == record.get("reason").map_or(Value::Null, |reason| reason["S"].clone())
                && detail["circleCode"].as_i64() == number(record, "circleCode")
                && detail.get("updatedAt").is_some();
            detail["userId"] == record["userId"]["S"]
                && detail["type"] == record["type"]["S"]
                && (is_requested || is_settled)
        };
        let wanted = if is_settled { 2 } else { 1 };
        let last = if is_settled { "PIN Challenge Settled" } else { requested };
        let is_right = events.len() >= wanted
            && events.iter().filter(is_of_record).count() == events.len()
            && events.first().is_some_and(|event| event["detail-type"] == requested)
            && events.last().is_some_and(|event| event["detail-type"] == last);
        findings.require(is_right, || format!("{record} has the events {events:?}"));
        repeated += events.len().saturating_sub(wanted);
    }
    findings.lines.push(format!("{} events, {repeated} of them repeated", events.len()));
}

async fn truth(stack: &Stack) -> Result<Vec<Truth>> {
    let challenges = stack.control("GET", "/challenges", Value::Null).await?;
    serde_json::from_value(challenges).context("the simulator's challenges")
}

/// The records by id.
async fn records(stack: &Stack) -> Result<HashMap<String, Value>> {
    let records = stack.records().await?.into_iter();
    Ok(records.map(|record| (text(&record, "challengeId").to_owned(), record)).collect())
}

/// Makes the open challenges as old as they would be after 70 minutes in which nobody polled them: their checks have been
/// due for so long that they cannot be deferred any more. The functions run on the machine's time, which nobody can move.
pub(crate) async fn age_open_challenges(stack: &Stack, now: i64) -> Result<usize> {
    let due = json!({ ":due": { "N": (now - 70 * 60).to_string() } });
    let records = stack.records().await?;
    let open: Vec<_> = records.iter().filter(|record| record.get("nextCheckAt").is_some()).collect();
    for record in &open {
        let update = json!({
            "TableName": "challenges",
            "Key": { "challengeId": record["challengeId"] },
            "UpdateExpression": "SET nextCheckAt = :due, dueAt = :due",
            "ConditionExpression": "attribute_exists(nextCheckAt)",
            "ExpressionAttributeValues": due,
        });
        stack.dynamodb("UpdateItem", &update).await?;
    }
    Ok(open.len())
}

fn text<'a>(record: &'a Value, name: &str) -> &'a str {
    record[name]["S"].as_str().unwrap_or_default()
}

fn number(record: &Value, name: &str) -> Option<i64> {
    record[name]["N"].as_str()?.parse().ok()
}
