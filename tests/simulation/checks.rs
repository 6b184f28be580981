//! What has to hold: after each change of a record, after each response, and in the end.

use std::time::Duration;

use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use crate::invocations::{Invocation, Purpose};
use crate::records::plain;
use crate::sandbox::Outcome;
use crate::world::World;

/// How many requests of one user may reach Circle at once, and how long it takes until one more may.
const CALL_BURST: usize = 20;
const CALL_INTERVAL: Duration = Duration::from_secs(5);

/// The least age at which a challenge is abandoned: a day, by clocks that may differ by hours.
const ABANDONED_AFTER: time::Duration = time::Duration::hours(20);

/// The least age at which a challenge is abandoned because its checks fail: a day later.
const CHECKS_FAILED_AFTER: time::Duration = time::Duration::hours(44);

/// Within this time before an abandonment, Circle has said something about the challenge: a day, by clocks that may differ.
const WORD_LIFETIME: Duration = Duration::from_secs(28 * 3600);

/// The longest wait for the next check: 6 hours with jitter, a deferral of 65 minutes, and clocks that may be wrong.
const LONGEST_WAIT: time::Duration = time::Duration::hours(9);

/// How many keys of webhooks a process fetches at once, and twice the time in which it may fetch as many again: the budget
/// loses fractions of its interval.
const FETCH_BURST: usize = 20;
const FETCH_PERIOD: Duration = Duration::from_secs(8);

/// The codes of rejections that need no fault.
const REJECTIONS: [&str; 8] = [
    "challenge_not_found",
    "invalid_user_token",
    "pin_locked",
    "security_answers_locked",
    "sign_in_required",
    "too_many_challenges",
    "too_many_requests",
    "user_token_expired",
];

/// The members of every event's detail, and of an ending's.
const MEMBERS: [&str; 4] = ["version", "challengeId", "userId", "type"];
const SETTLED_MEMBERS: [&str; 4] = ["status", "reason", "circleCode", "updatedAt"];

/// The rank of a status.
fn rank(status: &str) -> u8 {
    match status {
        "PENDING" => 0,
        "FAILED" | "EXPIRED" => 2,
        "COMPLETE" => 3,
        _ => 1,
    }
}

fn text<'a>(record: &'a Value, name: &str) -> &'a str {
    record[name].as_str().unwrap_or_default()
}

/// What went wrong in an invocation.
fn error_of(purpose: &Purpose, outcome: &Outcome) -> Option<String> {
    match (purpose, outcome) {
        (Purpose::Forgery, Outcome::Response(401, _)) => None,
        (_, Outcome::Response(status, body)) if *status >= 400 => {
            let code = text(body, "code");
            let is_rejection = *status < 500 && REJECTIONS.contains(&code);
            (!is_rejection).then(|| format!("{status} {code}"))
        }
        (_, Outcome::Response(_, body)) => {
            let code = text(&body["checkError"], "code");
            (!code.is_empty() && !REJECTIONS.contains(&code)).then(|| format!("checkError {code}"))
        }
        (_, Outcome::Output(Err(error))) => Some(error.clone()),
        (Purpose::Announce(_), Outcome::Output(Ok(output))) => {
            (output["batchItemFailures"] != json!([])).then(|| output.to_string())
        }
        (Purpose::Reconcile, Outcome::Output(Ok(output))) => {
            let is_failed = output["failed"] != 0 || !matches!(text(output, "stopped"), "" | "time");
            is_failed.then(|| output.to_string())
        }
        (_, Outcome::Output(Ok(output))) => {
            let resumed = output["challenges"].as_array().into_iter().flatten();
            resumed.into_iter().find(|resumed| resumed["error"].is_string()).map(Value::to_string)
        }
    }
}

impl World {
    /// Checks that an invocation has not failed without a cause.
    pub(crate) fn check_outcome(&mut self, invocation: &Invocation, outcome: &Outcome) {
        let number = invocation.number;
        // A process fetches only so many keys in a second, and here a second can have many webhooks.
        let fetches = self.key_fetches.get(&invocation.sandbox).into_iter().flatten();
        let latest = fetches.filter(|at| self.time.elapsed() - **at <= FETCH_PERIOD).count();
        let is_out_of_fetches =
            |failure: &String| latest >= FETCH_BURST && failure.ends_with("public_key_unavailable");
        let is_without_key = |failure: &String| {
            let is_about_key =
                failure.ends_with("misconfigured") || failure.contains(r#""stopped":"api_key""#);
            is_about_key && invocation.began_at < self.key_missing_until
        };
        let failure = error_of(&invocation.purpose, outcome).filter(|failure| {
            !invocation.is_disturbed && !is_out_of_fetches(failure) && !is_without_key(failure)
        });
        if let Some(failure) = failure {
            self.violation(format!("invocation {number} failed without a cause: {failure}"));
        }
        let Outcome::Response(status, body) = outcome else { return };
        if matches!(invocation.purpose, Purpose::Forgery) && *status != 401 && *status < 500 {
            self.violation(format!("a forged webhook got {status}"));
        }
        if matches!(text(body, "code"), "too_many_requests" | "too_many_challenges")
            && invocation.called_circle
        {
            self.violation(format!("invocation {number} was rejected after it had called Circle"));
        }
    }

    /// Checks the changes of the records since the last call.
    pub(crate) fn check_changes(&mut self) {
        loop {
            let batch = self.changes.read(100).expect("the stream can be read");
            if batch.records.is_empty() {
                return;
            }
            for record in &batch.records {
                let image = |name: &str| plain(&json!({ "M": record["dynamodb"][name] }));
                self.check_change(&image("OldImage"), &image("NewImage"));
            }
            let done = json!({ "batchItemFailures": [] });
            self.changes.respond(batch, &done).expect("the stream goes on");
        }
    }

    fn check_change(&mut self, old: &Value, new: &Value) {
        let (from, to) = (text(old, "status"), text(new, "status"));
        let id: Uuid = text(new, "challengeId").parse().expect("the key is a UUID");
        if old.is_null() {
            self.last_word.insert(id, self.time.elapsed());
        }
        if old["status"].is_string() {
            if from != to {
                self.log(format!("record {id}: {from} becomes {to}"));
            }
            let is_allowed = rank(to) > rank(from) || from == to || (rank(from) == 1 && rank(to) == 1);
            if !is_allowed {
                self.violation(format!("record {id} went from {from} to {to}"));
            }
            let is_changed = |name: &str| new[name] != old[name];
            if old["requestedAt"].is_string() && ["requestedAt", "userId", "type"].into_iter().any(is_changed)
            {
                self.violation(format!("record {id} changed its request"));
            }
        }
        if !self.circle_said(id, &new["status"]) {
            self.violation(format!("record {id} says {to}, which Circle never said"));
        }
        if rank(to) != 2 && ["reason", "circleCode", "circleMessage"].iter().any(|name| !new[*name].is_null())
        {
            self.violation(format!("record {id} is {to} and has the reason of a failure"));
        }
        let is_requested = new["requestedAt"].is_string();
        if is_requested && rank(to) >= 2 {
            self.endings.insert((id, to.to_owned()));
        }
        let truth = self.circle.challenge(id).ok();
        let is_same = truth.is_some_and(|truth| {
            truth.user_id == text(new, "userId") && json!(truth.challenge_type) == new["type"]
        });
        if is_requested && !is_same {
            self.violation(format!("record {id} is of {} and {}", new["userId"], new["type"]));
        }
        let is_on_index = !new["openShard"].is_null();
        let may_be_on_index = is_requested && rank(to) < 2 && new["abandonedAt"].is_null();
        if is_on_index != may_be_on_index {
            self.violation(format!("record {id} is {to} and on the index of open challenges: {is_on_index}"));
        }
        let next =
            new["nextCheckAt"].as_i64().and_then(|next| OffsetDateTime::from_unix_timestamp(next).ok());
        if next.is_some_and(|next| next - self.time.now() > LONGEST_WAIT) {
            self.violation(format!("record {id} is checked only at {next:?}"));
        }
        if !new["abandonedAt"].is_null() && old["abandonedAt"].is_null() {
            self.check_abandonment(id, from, new);
        }
    }

    fn check_abandonment(&mut self, id: Uuid, from: &str, record: &Value) {
        self.has_abandoned = true;
        if rank(from) >= 2 {
            self.violation(format!("record {id} was abandoned although it was settled"));
        }
        let created = OffsetDateTime::parse(text(record, "createdAt"), &Rfc3339).expect("it is a time");
        if self.time.now() - created < ABANDONED_AFTER {
            self.violation(format!("record {id} of {created} was abandoned too early"));
        }
        match text(record, "abandonedReason") {
            "still_open" if self.was_last_open(id) => {}
            "checks_failed" if self.time.now() - created >= CHECKS_FAILED_AFTER => {}
            reason => self.violation(format!("record {id} was abandoned because of {reason}")),
        }
        let last_word = self.last_word.get(&id).copied().unwrap_or_default();
        if self.time.elapsed() - last_word > WORD_LIFETIME {
            self.violation(format!("record {id} was abandoned long after Circle said something about it"));
        }
    }

    /// Whether Circle called a challenge open when it last responded to a check or a poll.
    fn was_last_open(&self, id: Uuid) -> bool {
        self.last_response.get(&id).is_some_and(|status| rank(status) < 2)
    }

    /// Checks that the effect of a webhook that got this status is stored.
    pub(crate) fn check_webhook(&mut self, body: &[u8], status: u16) {
        let body: Value = serde_json::from_slice(body).expect("Circle sends JSON");
        let notification = &body["notification"];
        let said = notification["status"].as_str().or(notification["state"].as_str());
        let id = notification["id"].as_str().and_then(|id| id.parse::<Uuid>().ok());
        let (Some(id), Some(said)) = (id, said) else { return };
        if status != 200 {
            if status < 500 {
                self.violation(format!("Circle's webhook got {status}"));
            }
            return;
        }
        self.delivered.insert((id, rank(said)));
        self.last_word.insert(id, self.time.elapsed());
        let records = self.records();
        let stored = records.get(&id).map(|record| text(record, "status"));
        if stored.is_none_or(|stored| rank(stored) < rank(said)) {
            self.violation(format!("the webhook {said} of {id} got 200, and the record says {stored:?}"));
        }
    }

    /// Checks what has to hold in the end.
    pub(crate) fn check_end(&mut self) {
        let records = self.records();
        for (id, person) in self.known.clone() {
            let user = &self.people[person].id;
            let record = records.get(&id);
            if record
                .is_none_or(|record| record["requestedAt"].is_null() || record["userId"] != user.as_str())
            {
                self.violation(format!("{user} was told of {id}, and its record is {record:?}"));
            }
        }
        let events: Vec<Value> = self.events.after(0).into_iter().map(|(_, event)| event).collect();
        for event in &events {
            self.check_event(event);
        }
        for (id, record) in records.iter().filter(|(_, record)| !record["requestedAt"].is_null()) {
            self.check_record(*id, record, &events);
        }
        self.check_limits();
    }

    fn check_event(&mut self, event: &Value) {
        let detail = &event["detail"];
        let id = text(detail, "challengeId").parse::<Uuid>().unwrap_or_default();
        let record = self.records().remove(&id).filter(|record| !record["requestedAt"].is_null());
        let Some(record) = record else {
            return self.violation(format!("an event is about {id}, which nobody requested"));
        };
        if ["userId", "type"].iter().any(|name| detail[*name] != record[*name]) {
            self.violation(format!("an event about {id} says {detail}, and the record is {record}"));
        }
        let is_settled = event["detail-type"] == "PIN Challenge Settled";
        let more: &[&str] = if is_settled { &SETTLED_MEMBERS } else { &["requestedAt"] };
        if let Some(missing) = MEMBERS.iter().chain(more).find(|name| detail.get(**name).is_none()) {
            self.violation(format!("an event about {id} has no {missing}"));
        }
        if is_settled && !self.circle_said(id, &detail["status"]) {
            self.violation(format!("an event says {} of {id}, which Circle never said", detail["status"]));
        }
    }

    fn check_record(&mut self, id: Uuid, record: &Value, events: &[Value]) {
        let Ok(truth) = self.circle.challenge(id) else {
            return self.violation(format!("{id} was requested, and Circle does not know it"));
        };
        let stored = text(record, "status");
        // The response to the webhook may have been lost.
        let is_contradicted =
            self.contradicted.contains(&id) && (self.delivered.contains(&(id, 3)) || stored == "COMPLETE");
        let truth = if is_contradicted { "COMPLETE" } else { truth.status };
        if rank(truth) >= 2 && rank(stored) != rank(truth) && !self.is_excused(id, record, truth) {
            self.violation(format!("Circle says {truth} of {id}, and the record says {stored}"));
        }
        let id_text = id.to_string();
        let about = events.iter().filter(|event| event["detail"]["challengeId"] == id_text.as_str());
        let (settled, requested): (Vec<&Value>, Vec<&Value>) =
            about.partition(|event| event["detail-type"] == "PIN Challenge Settled");
        if requested.is_empty() {
            self.violation(format!("the request of {id} was not published"));
        }
        let last = settled.last().and_then(|event| event["detail"]["status"].as_str());
        let expected = (rank(stored) >= 2).then_some(stored);
        if last != expected {
            self.violation(format!("the last event about {id} says {last:?}, and the record says {stored}"));
        }
        for (_, ending) in self.endings.clone().into_iter().filter(|(of, _)| *of == id) {
            if !settled.iter().any(|event| event["detail"]["status"] == ending.as_str()) {
                self.violation(format!("the ending {ending} of {id} was not published"));
            }
        }
        let last = settled.last().map_or(&Value::Null, |event| &event["detail"]);
        for member in ["reason", "circleCode"].into_iter().filter(|_| !last.is_null()) {
            if last[member] != record[member] {
                self.violation(format!("the last event about {id} is {last}, and the record is {record}"));
            }
        }
    }

    /// Whether a record need not say what Circle says: the challenge was abandoned while Circle called it open, or because
    /// its checks failed, and no webhook about its ending has arrived.
    fn is_excused(&self, id: Uuid, record: &Value, truth: &str) -> bool {
        let is_abandoned = !record["abandonedAt"].is_null();
        let is_failed = record["abandonedReason"] != "still_open";
        is_abandoned && (is_failed || self.was_last_open(id)) && !self.delivered.contains(&(id, rank(truth)))
    }

    /// Checks that no user had more requests at Circle than the limit allows. A wrong clock counts wrongly.
    fn check_limits(&mut self) {
        if self.count_of("wall clock jumped") > 0 {
            return;
        }
        for (person, mut times) in std::mem::take(&mut self.reached) {
            times.sort();
            for (first, from) in times.iter().enumerate() {
                for (count, to) in (1..).zip(&times[first..]) {
                    let lasted = *to - *from;
                    let more =
                        usize::try_from(lasted.as_secs() / CALL_INTERVAL.as_secs()).expect("it is short");
                    if count > CALL_BURST + more + 1 {
                        let user = &self.people[person].id;
                        return self.violation(format!(
                            "{user} reached Circle {count} times in {} s",
                            lasted.as_secs()
                        ));
                    }
                }
            }
        }
    }
}
