//! The state of the model: Circle's side, the record, and everything that is under way.

use std::time::Duration;

use announce_challenges::events;
use reconcile_challenges::ErrorKind;
use shared::challenge::{Challenge, ChallengeType, Status};
use shared::challenge_store::AbandonReason;
use time::OffsetDateTime;
use uuid::Uuid;

pub(crate) const DAY: Duration = Duration::from_secs(24 * 3600);

/// The most days that the model distinguishes. A rule that looks further back would need more.
const MOST_DAYS: u8 = 3;

/// One challenge, and what is under way about it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct State {
    /// Circle's statuses of the challenge in their order; empty before Circle has made it.
    pub(crate) circle: Vec<Status>,
    /// The webhooks under way, and how many deliveries of each are left.
    pub(crate) webhooks: Vec<(Status, u8)>,
    /// How many requests the caller may still make with the same key.
    pub(crate) requests_left: u8,
    /// Whether a caller has requested the challenge through this service.
    pub(crate) is_asked_for: bool,
    /// Requests that know the challenge's id and have not recorded it.
    pub(crate) creating: u8,
    /// Requests whose first write has found a settled record of nobody.
    pub(crate) creating_settled: u8,
    /// Whether a caller has received the challenge in a response.
    pub(crate) is_answered: bool,
    pub(crate) record: Option<Record>,
    pub(crate) poll: Option<Poll>,
    pub(crate) polls_left: u8,
    pub(crate) checks: Vec<Check>,
    /// The events of each change of the record that the announcement has not finished.
    pub(crate) stream: Vec<Vec<Event>>,
    /// The events that the bus has, each with how often (twice stands for more), in the order of their first time.
    pub(crate) sent: Vec<(Event, u8)>,
    /// The event that was sent last.
    pub(crate) last_sent: Option<Event>,
    /// How many crashes and failed calls are left.
    pub(crate) faults_left: u8,
    pub(crate) resumes_left: u8,
    pub(crate) deferrals_left: u8,
    /// Days since Circle has said something about the challenge to a check, or in a report that was stored.
    pub(crate) since_heard: u8,
    /// Whether this service has learned that the challenge is complete.
    pub(crate) has_heard_complete: bool,
    /// What must never happen and has happened.
    pub(crate) broken: Vec<Broken>,
    /// What the last step has shown.
    pub(crate) seen: Option<Seen>,
}

/// The attributes of a record that decide something.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Record {
    pub(crate) status: Status,
    pub(crate) is_requested: bool,
    /// Present while the record is on the index of open challenges: whether its check is due.
    pub(crate) is_due: Option<bool>,
    /// Stands for `nextCheckAt`, which identifies a claim.
    pub(crate) claim: u8,
    pub(crate) abandoned: Option<Abandoned>,
    /// Days since the record was created.
    pub(crate) age: u8,
    /// Days since `checkedAt`.
    pub(crate) since_checked: u8,
    /// Days since each time in `notFoundAt`.
    pub(crate) not_found: Vec<u8>,
}

/// [`AbandonReason`], which cannot be hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Abandoned {
    StillOpen,
    ChecksFailed,
    NotFound,
}

impl From<AbandonReason> for Abandoned {
    fn from(reason: AbandonReason) -> Self {
        match reason {
            AbandonReason::StillOpen => Self::StillOpen,
            AbandonReason::ChecksFailed => Self::ChecksFailed,
            AbandonReason::NotFound => Self::NotFound,
        }
    }
}

/// A caller's poll: it has read the record, and then Circle has responded.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Poll {
    Read(Status),
    Responded { read: Status, said: Status },
}

/// A claimed check.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Check {
    pub(crate) claim: u8,
    /// The status and the days since `checkedAt` that the claim has read.
    pub(crate) read: Status,
    pub(crate) since_checked: u8,
    /// Whether a day has passed since the claim.
    pub(crate) is_old: bool,
    pub(crate) stage: Stage,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Stage {
    Claimed,
    Responded(Status),
    /// The response is stored, and the challenge is open.
    StoredOpen,
    Failed(Failure),
    NotFound,
}

/// How a check can fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Failure {
    Outage,
    TokenRejected,
    Other,
}

impl Failure {
    pub(crate) const ALL: [Self; 3] = [Self::Outage, Self::TokenRejected, Self::Other];

    pub(crate) fn kind(self) -> ErrorKind {
        match self {
            Self::Outage => ErrorKind::Outage,
            Self::TokenRejected => ErrorKind::TokenRejected,
            Self::Other => ErrorKind::Other,
        }
    }
}

/// A change of the record, as the stream has it: the status, and whether the challenge is requested.
struct Change {
    old: Option<(Status, bool)>,
    new: (Status, bool),
}

/// An event on the bus.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Event {
    Requested,
    Settled(Status),
}

impl Change {
    /// The events of the change, as `announce-challenges` decides.
    fn events(&self) -> Vec<Event> {
        let image = |(status, is_requested): &(Status, bool)| Challenge {
            id: Uuid::nil(),
            user_id: Some("user-1".parse().expect("the user id is valid")),
            challenge_type: ChallengeType::ChangePin,
            status: status.clone(),
            created_at: OffsetDateTime::UNIX_EPOCH,
            requested_at: is_requested.then_some(OffsetDateTime::UNIX_EPOCH),
            updated_at: OffsetDateTime::UNIX_EPOCH,
            checked_at: OffsetDateTime::UNIX_EPOCH,
            previous_status: None,
            error_code: None,
            notification_id: None,
        };
        let found = events(self.old.as_ref().map(image).as_ref(), &image(&self.new));
        let event = |event: announce_challenges::Event| {
            let detail: serde_json::Value = serde_json::from_str(&event.detail).expect("the detail is JSON");
            match detail["status"].as_str() {
                Some(status) => Event::Settled(status.to_owned().into()),
                None => Event::Requested,
            }
        };
        found.expect("the record names a user").into_iter().map(event).collect()
    }
}

/// What must never happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Broken {
    /// A status changed to one that must not follow it.
    Rank,
    /// A challenge was abandoned without word from Circle within a day.
    AbandonedUnchecked,
    /// A settled challenge was abandoned.
    AbandonedSettled,
}

/// What a run can show. A model in which one of these never happens would prove little.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Seen {
    WebhookBeforeRecord,
    StaleWebhook,
    SettledByPoll,
    SettledByCheck,
    SettledAfterAbandonment,
    Resume,
    LateWriteOfOldCheck,
    CreationOfSettledChallenge,
}

impl State {
    pub(crate) fn status(&self) -> Option<&Status> {
        self.record.as_ref().map(|record| &record.status)
    }

    /// Writes the record. Its change goes to the stream if it causes an event.
    pub(crate) fn write(&mut self, new: Record) {
        let image = |record: &Record| (record.status.clone(), record.is_requested);
        let change = Change { old: self.record.as_ref().map(image), new: image(&new) };
        if let Some((old, _)) = &change.old
            && *old != new.status
        {
            let is_allowed = match old {
                Status::Pending => true,
                Status::InProgress | Status::Unknown(_) => new.status.is_final(),
                Status::Failed | Status::Expired => new.status == Status::Complete,
                Status::Complete => false,
            };
            if !is_allowed {
                self.broken.push(Broken::Rank);
            }
        }
        if change.old.as_ref() != Some(&change.new) {
            let events = change.events();
            self.stream.extend((!events.is_empty()).then_some(events));
        }
        self.record = Some(new);
    }

    /// A value of `nextCheckAt` that neither the record nor a check has.
    pub(crate) fn new_claim(&self) -> u8 {
        let is_used = |claim: u8| {
            self.record.as_ref().is_some_and(|record| record.claim == claim)
                || self.checks.iter().any(|check| check.claim == claim)
        };
        (0..).find(|&claim| !is_used(claim)).expect("few checks are under way")
    }

    pub(crate) fn see(&mut self, seen: Seen) {
        self.seen = Some(seen);
    }

    /// Circle reaches this status and sends webhooks.
    pub(crate) fn move_circle(&mut self, status: Status, copies: u8) {
        self.webhooks.push((status.clone(), copies));
        self.circle.push(status);
    }

    /// A day passes.
    pub(crate) fn tick(&mut self) {
        let age = |days: &mut u8| *days = (*days + 1).min(MOST_DAYS);
        if let Some(record) = &mut self.record {
            record.is_due = record.is_due.map(|_| true);
            age(&mut record.age);
            age(&mut record.since_checked);
            record.not_found.iter_mut().for_each(age);
        }
        for check in &mut self.checks {
            check.is_old = true;
            age(&mut check.since_checked);
        }
        age(&mut self.since_heard);
    }

    /// Whether nothing is under way and reconciliation has nothing to check.
    pub(crate) fn is_at_rest(&self) -> bool {
        let is_indexed = self.record.as_ref().is_some_and(|record| record.is_due.is_some());
        self.webhooks.is_empty()
            && self.creating + self.creating_settled == 0
            && self.poll.is_none()
            && self.checks.is_empty()
            && self.stream.is_empty()
            && !is_indexed
    }
}
