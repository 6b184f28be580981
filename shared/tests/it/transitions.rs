//! The rules of a record's status are pure functions, and the conditions of the writes in DynamoDB are text. Here they are
//! compared over all pairs of states. The model in `tests/model` uses the functions.

use std::time::Duration;

use shared::challenge::{ChallengeType, Creation, Report, ReportSource, Status};
use shared::challenge_store::{
    AbandonReason, ApplyOutcome, ChallengeStore, Check, DueChallenge, OPEN_SHARDS, Origin, PollClaim,
    ResumeOutcome,
};
use shared::clock::AdjustableClock;
use shared::random::Random;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::support::{NOON, challenges_table};

const HOUR: Duration = Duration::from_secs(3600);

/// What a record can be like.
#[derive(Debug, Clone)]
struct Recorded {
    /// `None` if there is no record.
    status: Option<Status>,
    is_requested: bool,
}

struct Table {
    store: ChallengeStore,
    clock: AdjustableClock,
    random: Random,
}

fn statuses() -> [Status; 6] {
    let unknown = Status::Unknown("PAUSED".into());
    [Status::Pending, Status::InProgress, unknown, Status::Failed, Status::Expired, Status::Complete]
}

fn states() -> Vec<Recorded> {
    let recorded = statuses().into_iter().flat_map(|status| {
        [true, false].map(|is_requested| Recorded { status: Some(status.clone()), is_requested })
    });
    let none = Recorded { status: None, is_requested: false };
    recorded.chain([none]).collect()
}

fn report(id: Uuid, status: Status) -> Report {
    Report {
        challenge_id: id,
        user_id: None,
        challenge_type: ChallengeType::ChangePin,
        status,
        error_code: None,
        error_message: None,
        correlation_ids: Vec::new(),
        source: ReportSource::Webhook { notification_id: None },
    }
}

impl Table {
    async fn start() -> Self {
        let clock = AdjustableClock::frozen(NOON);
        let platform = challenges_table(&clock).await;
        Self {
            store: ChallengeStore::new(&platform, "challenges".into()),
            clock,
            random: Random::from_seed(1),
        }
    }

    async fn create(&self, id: Uuid) {
        let origin = Origin { request_id: "request-1", source_ip: None };
        let user = "user-1".parse().unwrap();
        self.store.create(id, &user, ChallengeType::ChangePin, 24 * HOUR, origin).await.unwrap();
    }

    async fn apply(&self, id: Uuid, status: &Status) -> bool {
        let applied = self.store.apply(&report(id, status.clone())).await.unwrap();
        applied.outcome == ApplyOutcome::Applied
    }

    /// A new record in this state.
    async fn record(&self, recorded: &Recorded) -> Uuid {
        let id = self.random.uuid();
        if recorded.is_requested {
            self.create(id).await;
        }
        if let Some(status) = &recorded.status {
            self.apply(id, status).await;
        }
        id
    }

    async fn status(&self, id: Uuid) -> Option<Status> {
        self.store.get(id).await.unwrap().map(|record| record.status)
    }

    /// The challenge on the index, if it is there.
    async fn due(&self, id: Uuid) -> Option<DueChallenge> {
        for shard in 0..OPEN_SHARDS {
            let by = OffsetDateTime::from_unix_timestamp(4_000_000_000).unwrap();
            let page = self.store.due(shard, by, None).await.unwrap();
            let mut found = page.challenges.into_iter().filter_map(|(_, due)| due.ok());
            if let Some(due) = found.find(|due| due.id == id) {
                return Some(due);
            }
        }
        None
    }

    /// A requested challenge with a claimed check, which then gets this status.
    async fn claimed(&self, status: &Status) -> (Uuid, Check) {
        let id = self.random.uuid();
        self.create(id).await;
        let due = self.due(id).await.unwrap();
        let check = self.store.claim_check(&due, NOON + HOUR).await.unwrap().unwrap();
        self.apply(id, status).await;
        (id, check)
    }
}

#[tokio::test]
async fn report_is_applied_as_the_rule_says() {
    let table = Table::start().await;
    for recorded in states() {
        for status in statuses() {
            let id = table.record(&recorded).await;
            let is_applied = table.apply(id, &status).await;
            assert_eq!(is_applied, status.replaces(recorded.status.as_ref()), "{status:?} on {recorded:?}");
            let expected = if is_applied { Some(status) } else { recorded.status.clone() };
            assert_eq!(table.status(id).await, expected, "{recorded:?}");
        }
    }
}

#[tokio::test]
async fn creation_does_what_the_rule_says() {
    let table = Table::start().await;
    for recorded in states() {
        let id = table.record(&recorded).await;
        table.clock.advance(Duration::from_secs(1));
        let before = table.store.get(id).await.unwrap();
        table.create(id).await;
        let after = table.store.get(id).await.unwrap().unwrap();
        let is_listed = table.due(id).await.is_some();
        let is_new = before.as_ref().is_none_or(|before| before.requested_at.is_none());
        assert!(after.requested_at.is_some(), "{recorded:?}");
        assert_eq!(after.status, recorded.status.clone().unwrap_or(Status::Pending), "{recorded:?}");
        match Creation::on(recorded.status.as_ref(), recorded.is_requested) {
            Creation::Open => assert!(is_listed, "{recorded:?}"),
            Creation::Settled => assert!(!is_listed && is_new, "{recorded:?}"),
            Creation::Unchanged => assert_eq!((before, is_listed), (Some(after), false), "{recorded:?}"),
        }
    }
}

#[tokio::test]
async fn polls_are_claimed_and_confirmed_only_while_the_challenge_is_open() {
    let table = Table::start().await;
    for recorded in states().into_iter().filter(|recorded| recorded.status.is_some()) {
        let id = table.record(&recorded).await;
        let is_open = !recorded.status.as_ref().unwrap().is_final();
        let claim = table.store.claim_poll(id).await.unwrap();
        assert_eq!(claim == PollClaim::Granted, is_open, "{recorded:?}");
        table.clock.advance(Duration::from_secs(1));
        let before = table.store.get(id).await.unwrap().unwrap();
        let after = table.store.confirm(id).await.unwrap();
        assert_eq!(after.checked_at > before.checked_at, is_open, "{recorded:?}");
    }
    let missing = table.random.uuid();
    assert_eq!(table.store.claim_poll(missing).await.unwrap(), PollClaim::Denied(None));
    assert!(table.store.confirm(missing).await.is_err(), "there is no record");
    assert_eq!(table.status(missing).await, None);
}

#[tokio::test]
async fn checks_write_only_while_the_challenge_is_open() {
    let table = Table::start().await;
    for status in statuses() {
        let is_open = !status.is_final();
        let id = table.random.uuid();
        table.create(id).await;
        let due = table.due(id).await.unwrap();
        table.apply(id, &status).await;
        assert_eq!(table.due(id).await.is_some(), is_open, "{status:?}");
        assert_eq!(table.store.defer(&due, NOON + HOUR).await.unwrap(), is_open, "{status:?}");
        let (id, check) = table.claimed(&status).await;
        table.store.reschedule(&check, NOON + 2 * HOUR).await.unwrap();
        let next = table.due(id).await.map(|due| due.due_at);
        assert_eq!(next.is_some(), is_open, "{status:?}");
        let (_, check) = table.claimed(&status).await;
        let times = table.store.record_not_found(&check).await.unwrap();
        assert_eq!(times.len(), usize::from(is_open), "{status:?}");
        let (id, check) = table.claimed(&status).await;
        let reason = AbandonReason::StillOpen;
        assert_eq!(table.store.abandon(&check, reason).await.unwrap(), is_open, "{status:?}");
        assert!(table.due(id).await.is_none());
        let expected = if is_open { ResumeOutcome::Resumed } else { ResumeOutcome::Settled };
        assert_eq!(table.store.resume(id).await.unwrap(), expected, "{status:?}");
        assert_eq!(table.due(id).await.is_some(), is_open, "{status:?}");
        assert_eq!(table.status(id).await, Some(status));
    }
}

#[tokio::test]
async fn abandoned_challenge_that_is_settled_is_not_resumed() {
    let table = Table::start().await;
    for status in statuses() {
        let (id, check) = table.claimed(&Status::Pending).await;
        assert!(table.store.abandon(&check, AbandonReason::ChecksFailed).await.unwrap());
        assert_eq!(table.apply(id, &status).await, status.replaces(Some(&Status::Pending)));
        let expected = if status.is_final() { ResumeOutcome::Settled } else { ResumeOutcome::Resumed };
        assert_eq!(table.store.resume(id).await.unwrap(), expected, "{status:?}");
    }
}

#[tokio::test]
async fn repeated_request_ends_an_abandonment() {
    let table = Table::start().await;
    let (id, check) = table.claimed(&Status::Pending).await;
    assert!(table.store.abandon(&check, AbandonReason::StillOpen).await.unwrap());
    assert!(table.due(id).await.is_none());
    table.create(id).await;
    assert!(table.due(id).await.is_some());
    assert_eq!(table.store.resume(id).await.unwrap(), ResumeOutcome::NotAbandoned);
}

#[tokio::test]
async fn older_claim_writes_nothing() {
    let table = Table::start().await;
    let (id, older) = table.claimed(&Status::InProgress).await;
    let due = table.due(id).await.unwrap();
    assert!(table.store.claim_check(&due, NOON + 3 * HOUR).await.unwrap().is_some());
    assert!(table.store.claim_check(&due, NOON + 4 * HOUR).await.unwrap().is_none(), "it is claimed");
    assert!(!table.store.abandon(&older, AbandonReason::StillOpen).await.unwrap());
    assert!(table.store.record_not_found(&older).await.unwrap().is_empty());
    assert!(table.due(id).await.is_some());
}
