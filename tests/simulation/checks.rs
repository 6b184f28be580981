//! What has to hold: after each change, and in the end.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use crate::world::{World, plain};

/// How many requests of one user may reach Circle at once, and how long it takes until one more may.
const CALL_BURST: usize = 20;
const CALL_INTERVAL: Duration = Duration::from_secs(5);

/// The least age at which a challenge is abandoned: a day, by clocks that may differ by hours.
const ABANDONED_AFTER: time::Duration = time::Duration::hours(20);

/// The rank of a status.
fn rank(status: &str) -> u8 {
    match status {
        "PENDING" => 0,
        "FAILED" | "EXPIRED" => 2,
        "COMPLETE" => 3,
        _ => 1,
    }
}

impl World {
    /// Checks the changes of the records since the last call.
    pub(crate) fn check_changes(&mut self) {
        loop {
            let batch = self.changes.read(100).expect("the stream can be read");
            if batch.records.is_empty() {
                return;
            }
            for record in &batch.records {
                let image = |name: &str| {
                    plain(
                        &serde_json::json!({ "M": record["dynamodb"].get(name).cloned().unwrap_or_default() }),
                    )
                };
                let (old, new) = (image("OldImage"), image("NewImage"));
                self.check_change(&old, &new);
            }
            let done = serde_json::json!({ "batchItemFailures": [] });
            self.changes.respond(batch, &done).expect("the stream goes on");
        }
    }

    fn check_change(&mut self, old: &Value, new: &Value) {
        let text = |record: &Value, name: &str| record[name].as_str().unwrap_or_default().to_owned();
        let (id, from, to) = (text(new, "challengeId"), text(old, "status"), text(new, "status"));
        if !old.is_null() && from != to {
            self.log(format!("record {id}: {from} becomes {to}"));
        }
        if old["status"].is_string() {
            let is_allowed = rank(&to) > rank(&from) || from == to || (rank(&from) == 1 && rank(&to) == 1);
            if !is_allowed {
                self.violation(format!("record {id} went from {from} to {to}"));
            }
            let is_requested = old["requestedAt"].is_string();
            if is_requested && (new["requestedAt"] != old["requestedAt"] || new["userId"] != old["userId"]) {
                self.violation(format!("record {id} changed its request"));
            }
        }
        let known = id.parse().ok().and_then(|id: Uuid| self.history.get(&id).cloned());
        let Some(known) = known else {
            return self.violation(format!("record {id} is about no challenge of Circle's"));
        };
        if !known.contains(to.as_str()) && !self.has_now(&id, &to) {
            self.violation(format!("record {id} says {to}, which Circle never said"));
        }
        if new["requestedAt"].is_string() {
            let owner = id
                .parse()
                .ok()
                .and_then(|id| self.circle.challenge(id).ok())
                .map(|challenge| challenge.user_id);
            if owner.as_deref() != new["userId"].as_str() {
                self.violation(format!("record {id} is of {}", new["userId"]));
            }
        }
        let is_abandoned = new.get("abandonedAt").is_some();
        self.has_abandoned |= is_abandoned;
        if is_abandoned && old.get("abandonedAt").is_none() {
            if rank(&from) >= 2 {
                self.violation(format!("record {id} was abandoned although it was settled"));
            }
            let created = OffsetDateTime::parse(&text(new, "createdAt"), &Rfc3339).expect("it is a time");
            if self.time.now() - created < ABANDONED_AFTER {
                self.violation(format!("record {id} of {created} was abandoned too early"));
            }
        }
        if rank(&to) >= 2 && new.get("openShard").is_some() {
            self.violation(format!("record {id} is settled and on the index of open challenges"));
        }
    }

    fn has_now(&self, id: &str, status: &str) -> bool {
        id.parse()
            .ok()
            .and_then(|id| self.circle.challenge(id).ok())
            .is_some_and(|challenge| challenge.status == status)
    }

    /// Checks that the effect of a webhook that got this status is stored.
    pub(crate) fn check_webhook(&mut self, body: &[u8], status: u16) {
        let body: Value = serde_json::from_slice(body).expect("Circle sends JSON");
        let notification = &body["notification"];
        let (id, said) = (notification["id"].as_str(), notification["status"].as_str());
        let (Some(id), Some(said)) = (id.and_then(|id| id.parse::<Uuid>().ok()), said) else { return };
        if status != 200 {
            if status < 500 {
                self.violation(format!("Circle's webhook got {status}"));
            }
            return;
        }
        self.delivered.insert((id, rank(said)));
        let records = self.records();
        let stored = records.get(&id).and_then(|record| record["status"].as_str());
        if stored.is_none_or(|stored| rank(stored) < rank(said)) {
            self.violation(format!("the webhook {said} of {id} got 200, and the record says {stored:?}"));
        }
    }

    /// Checks what has to hold in the end.
    pub(crate) fn check_end(&mut self) {
        let records = self.records();
        let known = self.known.clone();
        for (id, person) in known {
            let user = &self.people[person].id;
            let record = records.get(&id);
            if record
                .is_none_or(|record| record["requestedAt"].is_null() || record["userId"] != user.as_str())
            {
                self.violation(format!("{user} was told of {id}, and its record is {record:?}"));
            }
        }
        let events: Vec<Value> = self.events.after(0).into_iter().map(|(_, event)| event).collect();
        for (id, record) in &records {
            self.check_record(*id, record, &events);
        }
        self.check_limits();
    }

    fn check_record(&mut self, id: Uuid, record: &Value, events: &[Value]) {
        let stored = record["status"].as_str().unwrap_or_default();
        let about: Vec<&Value> =
            events.iter().filter(|event| event["detail"]["challengeId"] == id.to_string()).collect();
        if record["requestedAt"].is_null() {
            if !about.is_empty() {
                self.violation(format!("{} events are about {id}, which nobody requested", about.len()));
            }
            return;
        }
        let Ok(truth) = self.circle.challenge(id) else {
            return self.violation(format!("{id} was requested, and Circle does not know it"));
        };
        if rank(truth.status) >= 2 {
            // Nothing asks again about a challenge that was abandoned. A webhook that arrives still settles it.
            let is_given_up =
                record.get("abandonedAt").is_some() && !self.delivered.contains(&(id, rank(truth.status)));
            let is_same_ending = rank(stored) == rank(truth.status);
            if !is_same_ending && !is_given_up {
                self.violation(format!("Circle says {} of {id}, and the record says {stored}", truth.status));
            }
        } else if record.get("openShard").is_none() && record.get("abandonedAt").is_none() {
            self.violation(format!("nothing will ask again about {id}, which is open"));
        }
        let (requested, settled): (Vec<&Value>, Vec<&Value>) =
            about.into_iter().partition(|event| event["detail-type"] != "PIN Challenge Settled");
        if requested.is_empty() {
            self.violation(format!("the request of {id} was not published"));
        }
        let last = settled.last().and_then(|event| event["detail"]["status"].as_str());
        let expected = (rank(stored) >= 2).then_some(stored);
        if last != expected {
            self.violation(format!("the last event about {id} says {last:?}, and the record says {stored}"));
        }
    }

    /// Checks that no user had more requests at Circle than the limit allows.
    fn check_limits(&mut self) {
        if self.counts.contains_key("wall clock jumped") || self.counts.contains_key("process frozen") {
            return;
        }
        let sessions: BTreeMap<String, Vec<Duration>> = std::mem::take(&mut self.sessions);
        // Each lets a client try again.
        let is_cause = |what: &str| {
            what.starts_with("Circle: ") || ["API key replaced", "call at its time limit"].contains(&what)
        };
        let causes = self.counts.iter().filter(|(what, _)| is_cause(what)).map(|(_, times)| *times);
        // A session that a newer one has ended may be replaced.
        let retries = 3 * (1 + causes.sum::<u64>() as usize);
        for (user, times) in sessions {
            for (first, from) in times.iter().enumerate() {
                for (count, to) in (1..).zip(&times[first..]) {
                    let allowed = CALL_BURST
                        + usize::try_from((*to - *from).as_secs() / CALL_INTERVAL.as_secs())
                            .expect("a run is short")
                        + 1;
                    if count > allowed + retries {
                        return self.violation(format!(
                            "{user} reached Circle {count} times in {} s",
                            (*to - *from).as_secs()
                        ));
                    }
                }
            }
        }
    }
}
