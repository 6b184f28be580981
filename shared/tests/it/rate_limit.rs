use std::collections::VecDeque;
use std::future::ready;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::AttributeValue;
use axum::Router;
use axum::http::StatusCode;
use serde_json::json;
use shared::clock::{AdjustableClock, Clock};
use shared::rate_limit::{Bucket, RateLimit, RateLimits};
use shared::user_hash::UserHashKey;
use shared::user_id::UserId;
use tokio::net::TcpListener;

use crate::support::{NOON, platform, table};

const TABLE: &str = "rate-limits";
const SECOND: Duration = Duration::from_secs(1);

struct Table {
    limits: RateLimits,
    client: Client,
    clock: AdjustableClock,
}

impl Table {
    async fn start() -> Self {
        let clock = AdjustableClock::frozen(NOON);
        let (platform, client) = table(TABLE, "limitKey", &clock).await;
        Self { limits: RateLimits::new(&platform, TABLE.into(), hash_key()), client, clock }
    }

    async fn call(&self, user: &str) -> RateLimit {
        self.limits.count_call(&user.parse().unwrap(), calls(), false).await.unwrap()
    }

    /// How many of `count` calls of the user at once are allowed.
    async fn burst(&self, user: &str, count: usize) -> usize {
        let mut allowed = 0;
        for _ in 0..count {
            allowed += usize::from(self.call(user).await == RateLimit::Allowed);
        }
        allowed
    }
}

fn hash_key() -> UserHashKey {
    UserHashKey::new("test key of 32 characters or more").unwrap()
}

fn calls() -> Bucket {
    Bucket::calls(20, SECOND * 5)
}

fn alice() -> UserId {
    "alice".parse().unwrap()
}

#[tokio::test]
async fn a_burst_is_allowed_and_then_one_call_in_each_interval() {
    let table = Table::start().await;
    assert_eq!(table.burst("alice", 30).await, 20);
    assert_eq!(table.call("alice").await, RateLimit::Exceeded { until: NOON + SECOND * 5 });
    table.clock.advance(SECOND * 5 - Duration::from_millis(1));
    assert_eq!(table.burst("alice", 1).await, 0);
    table.clock.advance(Duration::from_millis(1));
    assert_eq!(table.burst("alice", 5).await, 1);
    table.clock.advance(SECOND * 50);
    assert_eq!(table.burst("alice", 30).await, 10);
    table.clock.advance(SECOND * 3600);
    assert_eq!(table.burst("alice", 30).await, 20, "an idle hour earns no more than a burst");
}

#[tokio::test]
async fn users_and_buckets_do_not_share_a_limit() {
    let table = Table::start().await;
    assert_eq!(table.burst("alice", 25).await, 20);
    assert_eq!(table.burst("bobby", 25).await, 20);
    let poll = table.limits.count_call(&alice(), Bucket::POLLS, false).await.unwrap();
    assert_eq!(poll, RateLimit::Allowed);
}

#[tokio::test]
async fn concurrent_calls_share_the_burst() {
    let table = Table::start().await;
    let calls: Vec<_> = (0..50)
        .map(|_| {
            let limits = table.limits.clone();
            tokio::spawn(async move { limits.count_call(&alice(), calls(), false).await.unwrap() })
        })
        .collect();
    let mut allowed = 0;
    for call in calls {
        allowed += u32::from(call.await.unwrap() == RateLimit::Allowed);
    }
    assert_eq!(allowed, 20);
}

#[tokio::test]
async fn an_item_remembers_the_last_session_and_no_user_id() {
    let table = Table::start().await;
    assert_eq!(table.limits.last_session(&alice()).await.unwrap(), None);
    table.limits.count_call(&alice(), calls(), true).await.unwrap();
    table.clock.advance(SECOND);
    table.call("alice").await;
    assert_eq!(table.limits.last_session(&alice()).await.unwrap(), Some(NOON));
    table.limits.count_call(&alice(), calls(), true).await.unwrap();
    assert_eq!(table.limits.last_session(&alice()).await.unwrap(), Some(table.clock.now()));

    let items = table.client.scan().table_name(TABLE).send().await.unwrap().items.unwrap();
    assert_eq!(items.len(), 1);
    assert!(!format!("{items:?}").contains("alice"));
    let expires = (table.clock.now() + SECOND * 4 * 3600).unix_timestamp();
    assert_eq!(items[0]["expiresAt"], AttributeValue::N(expires.to_string()));
}

#[tokio::test]
async fn user_who_is_blocked_between_the_two_writes_of_a_request_is_blocked() {
    let busy = json!({ "callsTat": { "N": ((NOON + SECOND).unix_timestamp() * 1000).to_string() } });
    let blocked = json!({ "blocked": { "S": "reported as stolen" } });
    let items = Arc::new(Mutex::new(VecDeque::from([busy, blocked])));
    let reject_update = move || {
        let item = items.lock().unwrap().pop_front().expect("two writes");
        let code = "com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException";
        ready((StatusCode::BAD_REQUEST, json!({ "__type": code, "Item": item }).to_string()))
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async { axum::serve(listener, Router::new().fallback(reject_update)).await });
    let platform = platform(&url, AdjustableClock::frozen(NOON));
    let limits = RateLimits::new(&platform, TABLE.into(), hash_key());
    assert_eq!(limits.count_call(&alice(), calls(), false).await.unwrap(), RateLimit::Blocked);
}
