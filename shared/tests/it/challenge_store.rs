use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::AttributeValue;
use shared::challenge::{Challenge, ChallengeType, Report, ReportSource, Status};
use shared::challenge_store::{ApplyOutcome, ChallengeStore, Origin, PollClaim};
use shared::circle_code::CircleCode;
use shared::clock::AdjustableClock;
use shared::dynamodb::StoreError;
use shared::random::Random;
use shared::user_id::UserId;
use uuid::Uuid;

use crate::support::{NOON, platform, table};

const TABLE: &str = "challenges";
const DAY: i64 = 24 * 3600;
const RETENTION: Duration = Duration::from_secs(90 * 24 * 3600);

const ORIGIN: Origin<'_> =
    Origin { request_id: "request-1", source_ip: Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1))) };

struct Table {
    store: ChallengeStore,
    client: Client,
    clock: AdjustableClock,
}

impl Table {
    async fn start() -> Self {
        let clock = AdjustableClock::frozen(NOON);
        let (platform, client) = table(TABLE, "challengeId", &clock).await;
        Self { store: ChallengeStore::new(&platform, TABLE.into()), client, clock }
    }

    /// The stored item, its values as text. The members of a map have names like `creation.at`.
    async fn item(&self, id: Uuid) -> HashMap<String, String> {
        let output = self
            .client
            .get_item()
            .table_name(TABLE)
            .key("challengeId", AttributeValue::S(id.to_string()))
            .send()
            .await
            .unwrap();
        let attributes = output.item.unwrap_or_default().into_iter();
        let flat = attributes.flat_map(|(name, value)| match value {
            AttributeValue::M(members) => {
                let members = members.into_iter();
                members.map(|(member, value)| (format!("{name}.{member}"), value)).collect()
            }
            value => vec![(name, value)],
        });
        let text = |value: AttributeValue| match value {
            AttributeValue::S(text) | AttributeValue::N(text) => text,
            other => format!("{other:?}"),
        };
        flat.map(|(name, value)| (name, text(value))).collect()
    }

    /// Applies a report that changes the record.
    async fn applied(&self, report: &Report) -> Challenge {
        let applied = self.store.apply(report).await.unwrap();
        assert_eq!(applied.outcome, ApplyOutcome::Applied);
        applied.record
    }

    async fn create(&self, id: Uuid) -> Challenge {
        self.store.create(id, &user(), ChallengeType::ChangePin, RETENTION, ORIGIN).await.unwrap()
    }
}

fn user() -> UserId {
    "user-1".parse().unwrap()
}

/// A notification with an id of its own.
fn webhook(id: Uuid, status: Status) -> Report {
    Report {
        challenge_id: id,
        user_id: Some(user()),
        challenge_type: ChallengeType::ChangePin,
        source: ReportSource::Webhook { notification_id: Some(format!("n-{}", status.as_str())) },
        status,
        error_code: None,
        error_message: None,
        correlation_ids: Vec::new(),
    }
}

fn item<const N: usize>(attributes: [(&str, &str); N]) -> HashMap<String, String> {
    attributes.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn id() -> Uuid {
    Uuid::from_u128(0x0b)
}

#[tokio::test]
async fn a_requested_challenge_is_stored_with_every_attribute() {
    let table = Table::start().await;
    let record = table.create(id()).await;
    let expected = Challenge {
        id: id(),
        user_id: Some(user()),
        challenge_type: ChallengeType::ChangePin,
        status: Status::Pending,
        created_at: NOON,
        requested_at: Some(NOON),
        updated_at: NOON,
        checked_at: NOON,
        previous_status: None,
        error_code: None,
        notification_id: None,
    };
    assert_eq!(record, expected);
    assert_eq!(table.store.get(id()).await.unwrap(), Some(expected));
    let noon = NOON.unix_timestamp();
    assert_eq!(
        table.item(id()).await,
        item([
            ("challengeId", "00000000-0000-0000-0000-00000000000b"),
            ("userId", "user-1"),
            ("type", "CHANGE_PIN"),
            ("status", "PENDING"),
            ("rank", "0"),
            ("createdAt", "2026-01-01T12:00:00Z"),
            ("requestedAt", "2026-01-01T12:00:00Z"),
            ("requestedAtMs", "1767268800000"),
            ("updatedAt", "2026-01-01T12:00:00Z"),
            ("checkedAt", "2026-01-01T12:00:00Z"),
            ("retentionSeconds", &(90 * DAY).to_string()),
            ("expiresAt", &(noon + 90 * DAY).to_string()),
            ("openShard", "3"),
            ("nextCheckAt", &(noon + 600).to_string()),
            ("creation.at", "2026-01-01T12:00:00Z"),
            ("creation.requestId", "request-1"),
            ("creation.sourceIp", "192.0.2.1"),
        ])
    );
}

#[tokio::test]
async fn a_settled_challenge_leaves_the_index_and_lives_on() {
    let table = Table::start().await;
    table.create(id()).await;
    table.clock.advance(Duration::from_secs(60));
    let mut failed = webhook(id(), Status::Failed);
    failed.error_code = Some(CircleCode::INCORRECT_PIN);
    failed.error_message = Some("it failed".into());
    failed.correlation_ids = vec!["a".into()];
    let record = table.applied(&failed).await;
    assert_eq!((record.status, record.error_code), (Status::Failed, Some(CircleCode::INCORRECT_PIN)));
    let noon = NOON.unix_timestamp();
    assert_eq!(
        table.item(id()).await,
        item([
            ("challengeId", "00000000-0000-0000-0000-00000000000b"),
            ("userId", "user-1"),
            ("type", "CHANGE_PIN"),
            ("status", "FAILED"),
            ("reason", "incorrect_pin"),
            ("rank", "2"),
            ("createdAt", "2026-01-01T12:00:00Z"),
            ("requestedAt", "2026-01-01T12:00:00Z"),
            ("requestedAtMs", "1767268800000"),
            ("updatedAt", "2026-01-01T12:01:00Z"),
            ("checkedAt", "2026-01-01T12:01:00Z"),
            ("previousStatus", "PENDING"),
            ("namedUserId", "user-1"),
            ("retentionSeconds", &(90 * DAY).to_string()),
            ("expiresAt", &(noon + 60 + 90 * DAY).to_string()),
            ("settledBy", "webhook"),
            ("notificationId", "n-FAILED"),
            ("circleCode", "155112"),
            ("circleMessage", "it failed"),
            ("correlationIds", "L([S(\"a\")])"),
            ("creation.at", "2026-01-01T12:00:00Z"),
            ("creation.requestId", "request-1"),
            ("creation.sourceIp", "192.0.2.1"),
            ("ending.at", "2026-01-01T12:01:00Z"),
            ("ending.status", "FAILED"),
            ("ending.by", "webhook"),
            ("ending.id", "n-FAILED"),
        ])
    );
}

#[tokio::test]
async fn a_webhook_before_its_record_creates_an_invisible_one() {
    let table = Table::start().await;
    let record = table.applied(&webhook(id(), Status::InProgress)).await;
    assert!(!record.is_visible_to(&user()));
    let noon = NOON.unix_timestamp();
    assert_eq!(
        table.item(id()).await,
        item([
            ("challengeId", "00000000-0000-0000-0000-00000000000b"),
            ("userId", "user-1"),
            ("type", "CHANGE_PIN"),
            ("status", "IN_PROGRESS"),
            ("previousStatus", "PENDING"),
            ("namedUserId", "user-1"),
            ("rank", "1"),
            ("createdAt", "2026-01-01T12:00:00Z"),
            ("updatedAt", "2026-01-01T12:00:00Z"),
            ("checkedAt", "2026-01-01T12:00:00Z"),
            ("expiresAt", &(noon + 7 * DAY).to_string()),
            ("notificationId", "n-IN_PROGRESS"),
            ("progress.at", "2026-01-01T12:00:00Z"),
            ("progress.status", "IN_PROGRESS"),
            ("progress.by", "webhook"),
            ("progress.id", "n-IN_PROGRESS"),
        ])
    );
    let created = table.create(id()).await;
    assert_eq!(created.status, Status::InProgress);
    assert!(created.is_visible_to(&user()));
    let stored = table.item(id()).await;
    assert_eq!(stored["expiresAt"], (noon + 90 * DAY).to_string());
    assert_eq!(stored["openShard"], "3");
}

#[tokio::test]
async fn a_creation_after_the_final_webhook_returns_the_settled_record() {
    let table = Table::start().await;
    table.store.apply(&webhook(id(), Status::Complete)).await.unwrap();
    let created = table.create(id()).await;
    assert_eq!(created.status, Status::Complete);
    assert!(created.is_visible_to(&user()));
    let stored = table.item(id()).await;
    assert_eq!(stored["expiresAt"], (NOON.unix_timestamp() + 90 * DAY).to_string());
    assert!(!stored.contains_key("openShard") && !stored.contains_key("nextCheckAt"));
    table.clock.advance(Duration::from_secs(5));
    assert_eq!(table.create(id()).await, created, "a repeat changes nothing");
    assert_eq!(table.item(id()).await, stored);
}

#[tokio::test]
async fn a_repeated_creation_changes_nothing() {
    let table = Table::start().await;
    let first = table.create(id()).await;
    table.clock.advance(Duration::from_secs(5));
    assert_eq!(table.create(id()).await, first);
    table.store.apply(&webhook(id(), Status::Expired)).await.unwrap();
    let settled = table.item(id()).await;
    assert_eq!(table.create(id()).await.status, Status::Expired);
    assert_eq!(table.item(id()).await, settled);
}

#[tokio::test]
async fn the_audit_trail_has_one_map_for_each_rank_and_the_first_of_repeats() {
    let table = Table::start().await;
    let report = |status, source| Report { source, ..webhook(id(), status) };
    let poll = || ReportSource::Poll { request_id: "request-2".into() };
    let run = || ReportSource::Reconcile { request_id: "run-3".into() };
    table.applied(&webhook(id(), Status::Pending)).await;
    table.clock.advance(Duration::from_secs(1));
    table.create(id()).await;
    table.clock.advance(Duration::from_secs(1));
    table.applied(&report(Status::InProgress, poll())).await;
    table.clock.advance(Duration::from_secs(1));
    table.applied(&report(Status::Failed, run())).await;
    table.clock.advance(Duration::from_secs(1));
    table.applied(&webhook(id(), Status::Complete)).await;
    let trail = |stored: HashMap<String, String>| -> Vec<(String, String)> {
        let mut trail: Vec<_> = stored.into_iter().filter(|(name, _)| name.contains('.')).collect();
        trail.sort();
        trail
    };
    let stored = trail(table.item(id()).await);
    let expected = [
        ("arrival.at", "2026-01-01T12:00:00Z"),
        ("arrival.by", "webhook"),
        ("arrival.id", "n-PENDING"),
        ("arrival.status", "PENDING"),
        ("completion.at", "2026-01-01T12:00:04Z"),
        ("completion.by", "webhook"),
        ("completion.id", "n-COMPLETE"),
        ("completion.status", "COMPLETE"),
        ("creation.at", "2026-01-01T12:00:01Z"),
        ("creation.requestId", "request-1"),
        ("creation.sourceIp", "192.0.2.1"),
        ("ending.at", "2026-01-01T12:00:03Z"),
        ("ending.by", "reconcile"),
        ("ending.id", "run-3"),
        ("ending.status", "FAILED"),
        ("progress.at", "2026-01-01T12:00:02Z"),
        ("progress.by", "poll"),
        ("progress.id", "request-2"),
        ("progress.status", "IN_PROGRESS"),
    ];
    assert_eq!(stored, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));

    table.clock.advance(Duration::from_secs(1));
    table.create(id()).await;
    for status in [Status::Pending, Status::InProgress, Status::Failed, Status::Complete] {
        table.store.apply(&report(status, poll())).await.unwrap();
    }
    assert_eq!(trail(table.item(id()).await), stored, "repeats change nothing");
}

#[tokio::test]
async fn every_order_of_reports_and_creation_ends_complete() {
    let table = Table::start().await;
    let (pending, in_progress, complete) = (Status::Pending, Status::InProgress, Status::Complete);
    let orders = [
        [&pending, &in_progress, &complete],
        [&pending, &complete, &in_progress],
        [&in_progress, &pending, &complete],
        [&in_progress, &complete, &pending],
        [&complete, &pending, &in_progress],
        [&complete, &in_progress, &pending],
    ];
    for (row, order) in orders.iter().enumerate() {
        for creation_at in 0..=3 {
            let id = Uuid::from_u128(100 + row as u128 * 10 + creation_at as u128);
            for step in 0..=3 {
                if step == creation_at {
                    table.create(id).await;
                }
                if let Some(status) = order.get(step) {
                    table.store.apply(&webhook(id, (*status).clone())).await.unwrap();
                }
            }
            let record = table.store.get(id).await.unwrap().unwrap();
            assert_eq!(record.status, Status::Complete, "{order:?} with the creation at {creation_at}");
            assert!(record.is_visible_to(&user()));
            let stored = table.item(id).await;
            assert!(!stored.contains_key("openShard") && !stored.contains_key("nextCheckAt"), "{stored:?}");
        }
    }
}

#[tokio::test]
async fn nothing_replaces_complete() {
    let table = Table::start().await;
    table.create(id()).await;
    table.store.apply(&webhook(id(), Status::Complete)).await.unwrap();
    let settled = table.item(id()).await;
    for status in [Status::Failed, Status::Expired, Status::InProgress, Status::Unknown("NEW".into())] {
        let applied = table.store.apply(&webhook(id(), status)).await.unwrap();
        assert_eq!((applied.outcome, applied.record.status), (ApplyOutcome::Stale, Status::Complete));
    }
    let repeated = table.store.apply(&webhook(id(), Status::Complete)).await.unwrap();
    assert_eq!(repeated.outcome, ApplyOutcome::Duplicate);
    assert_eq!(table.item(id()).await, settled);
}

#[tokio::test]
async fn complete_replaces_an_earlier_ending_and_its_failure() {
    let table = Table::start().await;
    for (number, status) in [Status::Failed, Status::Expired].into_iter().enumerate() {
        let id = Uuid::from_u128(200 + number as u128);
        table.create(id).await;
        let mut ended = webhook(id, status.clone());
        ended.error_code = Some(CircleCode::INCORRECT_PIN);
        ended.error_message = Some("incorrect".into());
        table.applied(&ended).await;
        assert!(table.item(id).await.contains_key("reason"));
        let record = table.applied(&webhook(id, Status::Complete)).await;
        assert_eq!((record.status, record.error_code), (Status::Complete, None));
        assert_eq!(record.previous_status, Some(status));
        let stored = table.item(id).await;
        for attribute in ["reason", "circleCode", "circleMessage"] {
            assert!(!stored.contains_key(attribute), "{attribute} belongs to the status before");
        }
        let late = table.store.apply(&ended).await.unwrap();
        assert_eq!((late.outcome, late.record.status), (ApplyOutcome::Stale, Status::Complete));
    }
}

#[tokio::test]
async fn complete_found_by_the_creation_counts_over_an_earlier_ending() {
    let table = Table::start().await;
    table.applied(&webhook(id(), Status::Failed)).await;
    table.applied(&webhook(id(), Status::Complete)).await;
    let created = table.create(id()).await;
    assert_eq!((created.status.clone(), created.is_visible_to(&user())), (Status::Complete, true));
}

#[tokio::test]
async fn failed_and_expired_do_not_replace_each_other() {
    let table = Table::start().await;
    for (number, (first, second)) in
        [(Status::Failed, Status::Expired), (Status::Expired, Status::Failed)].into_iter().enumerate()
    {
        let id = Uuid::from_u128(300 + number as u128);
        table.create(id).await;
        table.applied(&webhook(id, first.clone())).await;
        let late = table.store.apply(&webhook(id, second)).await.unwrap();
        assert_eq!((late.outcome, late.record.status), (ApplyOutcome::Stale, first));
    }
}

#[tokio::test]
async fn an_error_code_goes_with_its_status() {
    let table = Table::start().await;
    table.create(id()).await;
    let mut wrong_pin = webhook(id(), Status::InProgress);
    wrong_pin.error_code = Some(CircleCode::INCORRECT_PIN);
    assert_eq!(table.applied(&wrong_pin).await.error_code, Some(CircleCode::INCORRECT_PIN));
    assert_eq!(table.applied(&webhook(id(), Status::Complete)).await.error_code, None);
}

#[tokio::test]
async fn a_confirmed_status_moves_only_the_time_of_the_check() {
    let table = Table::start().await;
    let created = table.create(id()).await;
    table.clock.advance(Duration::from_secs(5));
    let confirmed = table.store.confirm(id()).await.unwrap();
    assert_eq!(confirmed.checked_at, NOON + Duration::from_secs(5));
    assert_eq!(Challenge { checked_at: NOON, ..confirmed }, created);
    table.applied(&webhook(id(), Status::Failed)).await;
    table.clock.advance(Duration::from_secs(5));
    assert_eq!(table.store.confirm(id()).await.unwrap().checked_at, NOON + Duration::from_secs(5));
}

#[tokio::test]
async fn twenty_concurrent_copies_of_a_notification_apply_once() {
    let table = Table::start().await;
    table.create(id()).await;
    let copies: Vec<_> = (0..20)
        .map(|_| {
            let store = table.store.clone();
            tokio::spawn(async move { store.apply(&webhook(id(), Status::Complete)).await.unwrap() })
        })
        .collect();
    let mut applied = 0;
    for copy in copies {
        match copy.await.unwrap().outcome {
            ApplyOutcome::Applied => applied += 1,
            ApplyOutcome::Duplicate => {}
            ApplyOutcome::Stale => panic!("stale"),
        }
    }
    assert_eq!(applied, 1);
}

#[tokio::test]
async fn the_user_of_the_creation_wins() {
    let table = Table::start().await;
    let mut misattributed = webhook(id(), Status::InProgress);
    misattributed.user_id = Some("somebody-else".parse().unwrap());
    table.store.apply(&misattributed).await.unwrap();
    assert_eq!(table.create(id()).await.user_id, Some(user()));
    misattributed.status = Status::Complete;
    let record = table.applied(&misattributed).await;
    assert_eq!(record.user_id, Some(user()));
    assert!(!record.is_visible_to(&"somebody-else".parse().unwrap()));
}

#[tokio::test]
async fn an_unknown_status_is_kept_until_a_final_one() {
    let table = Table::start().await;
    table.create(id()).await;
    table.store.apply(&webhook(id(), Status::Unknown("PAUSED".into()))).await.unwrap();
    let stored = table.item(id()).await;
    assert_eq!((stored["status"].as_str(), stored["rank"].as_str()), ("PAUSED", "1"));
    assert!(stored.contains_key("openShard"), "an unknown status is not final");
    table.store.apply(&webhook(id(), Status::Complete)).await.unwrap();
    assert_eq!(table.item(id()).await["status"], "COMPLETE");
}

#[tokio::test]
async fn one_caller_in_three_seconds_may_poll() {
    let table = Table::start().await;
    let pending = table.create(id()).await;
    let claims: Vec<_> = (0..20)
        .map(|_| {
            let store = table.store.clone();
            tokio::spawn(async move { store.claim_poll(id()).await.unwrap() })
        })
        .collect();
    let mut granted = 0;
    for claim in claims {
        granted += u32::from(claim.await.unwrap() == PollClaim::Granted);
    }
    assert_eq!(granted, 1);
    table.clock.advance(Duration::from_millis(2999));
    assert_eq!(table.store.claim_poll(id()).await.unwrap(), PollClaim::Denied(Some(pending)));
    table.clock.advance(Duration::from_millis(1));
    assert_eq!(table.store.claim_poll(id()).await.unwrap(), PollClaim::Granted);
    table.clock.jump_wall_clock(time::Duration::minutes(-10));
    assert_eq!(table.store.claim_poll(id()).await.unwrap(), PollClaim::Granted, "that clock was ahead");
}

#[tokio::test]
async fn a_denied_poll_returns_the_settled_record() {
    let table = Table::start().await;
    table.create(id()).await;
    let settled = table.applied(&webhook(id(), Status::Complete)).await;
    assert_eq!(table.store.claim_poll(id()).await.unwrap(), PollClaim::Denied(Some(settled)));
    let missing = table.store.claim_poll(Uuid::from_u128(99)).await.unwrap();
    assert_eq!(missing, PollClaim::Denied(None), "there is no record");
}

#[tokio::test]
async fn any_mix_of_writes_keeps_the_invariants() {
    let table = Table::start().await;
    for seed in 0..60 {
        let random = Random::from_seed(seed);
        let id = random.uuid();
        let mut before: Option<Challenge> = None;
        for _ in 0..10 {
            table.clock.advance(Duration::from_secs(1));
            match random.uuid().as_bytes()[0] % 8 {
                0 => _ = table.create(id).await,
                1 => _ = table.store.claim_poll(id).await.unwrap(),
                choice => {
                    let statuses = ["PENDING", "IN_PROGRESS", "COMPLETED", "FAILED", "EXPIRED", "NEW"];
                    let status = statuses[usize::from(choice) - 2].to_owned();
                    let mut report = webhook(id, status.into());
                    report.user_id = (choice % 2 == 0).then(|| "somebody-else".parse().unwrap());
                    table.store.apply(&report).await.unwrap();
                }
            }
            let after = table.store.get(id).await.unwrap();
            if let (Some(before), Some(after)) = (&before, &after) {
                assert!(after.status.rank() >= before.status.rank(), "seed {seed}");
                assert!(
                    after.status == before.status || after.status.rank() > before.status.rank(),
                    "seed {seed}"
                );
                let has_failed = after.status.failure_reason(after.error_code).is_some();
                assert_eq!(table.item(id).await.contains_key("reason"), has_failed, "seed {seed}");
            }
            if let Some(after) = &after
                && after.requested_at.is_some()
            {
                assert_eq!(after.user_id, Some(user()), "seed {seed}");
                let indexed = table.item(id).await.contains_key("nextCheckAt");
                assert_eq!(indexed, !after.status.is_final(), "seed {seed}");
            }
            before = after;
        }
    }
}

#[tokio::test]
async fn an_unreachable_table_is_an_error_with_its_source() {
    let platform = platform("http://127.0.0.1:1", AdjustableClock::running());
    let store = ChallengeStore::new(&platform, TABLE.into());
    let error = store.apply(&webhook(id(), Status::Complete)).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable { operation: "UpdateItem", .. }), "{error}");
    assert!(std::error::Error::source(&error).is_some());
    let error = store.get(id()).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable { operation: "GetItem", .. }), "{error}");
}
