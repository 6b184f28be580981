use std::collections::{BTreeMap, HashMap};

use dynoxide::types::AttributeValue;
use dynoxide::{Database, ImportOptions};
use futures_util::{StreamExt, stream};
use local::circle_simulator::{CircleSimulator, Expiry, Fault, PinEntry, RateLimits};
use local::dynamodb::{self, CHALLENGES_TABLE};
use local::stack::StackOptions;
use serde_json::json;
use shared::clock::Clock;
use tokio::net::TcpListener;
use uuid::Uuid;

use crate::support::{
    App, DataFile, DynamoDbProxy, FIRST_CHECK, HOUR, MINUTE, NOON, Reconciler, SECOND, TURN, challenge_id,
    in_time, noon, owned, text,
};

#[tokio::test]
async fn thousand_challenges_are_settled_within_circles_rate_limits() {
    let (app, reconciler) = Reconciler::start([]).await;
    let circle = &app.circle;
    let mut ids = Vec::new();
    for second in 0..20 {
        let users = stream::iter(50 * second..50 * (second + 1));
        let created = users.map(async |number| app.create_challenge_of(&user(number)).await).buffered(16);
        ids.extend(created.collect::<Vec<Uuid>>().await);
        // The routes' throttle allows fifty requests a second.
        app.advance(SECOND);
    }
    let (late, early): (Vec<_>, Vec<_>) = ids.iter().enumerate().partition(|(number, _)| number % 10 == 9);
    early.into_iter().for_each(|(number, id)| end(circle, number, *id));
    let live: Vec<_> = (0..50).map(|number| app.add_user(&format!("live-{number}"))).collect();
    let mut live = LiveUsers { app: &app, access_tokens: live.iter().cycle(), requests: 0 };
    app.advance(FIRST_CHECK);
    // All calls of a kind share their limit, which is the stricter reading of Circle's page.
    circle.set_knobs(|knobs| knobs.rate_limits = RateLimits::Shared);
    let first = run_until_idle(&reconciler, &mut live).await;
    late.into_iter().for_each(|(number, id)| end(circle, number / 10, *id));
    app.advance(2 * HOUR);
    let second = run_until_idle(&reconciler, &mut live).await;

    println!(
        "900 of 1,000 due challenges were settled in {} minutes with {} calls to Circle, the rest later in {} \
         minutes with {} calls, beside {} requests of live users",
        first.minutes, first.calls, second.minutes, second.calls, live.requests,
    );
    // Two calls for each check, and a few for checks that the end of a run cut short.
    assert!((2000..2030).contains(&first.calls) && (200..220).contains(&second.calls));
    assert!(first.minutes <= 60, "a run makes about a hundred checks");
    let limited = circle.rate_limited_counts();
    assert!(limited.is_empty(), "{limited:?}");
    assert_records_match_circle(&app).await;
}

/// Users who ask for a session, one after another.
struct LiveUsers<'a, T> {
    app: &'a App,
    access_tokens: T,
    requests: u32,
}

impl<'a, T: Iterator<Item = &'a String>> LiveUsers<'a, T> {
    /// The next user gets a session.
    async fn request(&mut self) {
        let access_token = self.access_tokens.next().unwrap();
        self.app.post_session_token().bearer(access_token).send().await.is(201);
        self.requests += 1;
    }
}

#[tokio::test]
async fn everything_is_settled_by_itself_after_an_hour_without_circle() {
    let app = App::at_noon().await;
    let circle = &app.circle;
    // The simulator takes some time to prepare its first token.
    app.user_token().await;
    let mut users = BTreeMap::new();
    for number in 0..40 {
        users.insert(user(number), (app.add_user(&user(number)), app.stack.platform.random.uuid()));
    }
    let create = async |name: &str| {
        let (access_token, key) = &users[name];
        let (response, took) = app.timed(app.post_challenge().bearer(access_token).key(key).send()).await;
        assert!(took <= 8 * SECOND, "{took:?}");
        response
    };
    let names: Vec<&String> = users.keys().collect();
    let (before, during) = names.split_at(20);
    let (mut ids, mut tokens) = (HashMap::new(), HashMap::new());
    for name in before {
        let created = create(name).await;
        ids.insert(*name, challenge_id(created.is(201)));
        tokens.insert(*name, text(&created.body["session"], "userToken").to_owned());
    }

    // During the outage Circle fails in one way or another, and sends no webhook.
    app.lose_webhooks();
    for (number, id) in ids.values().enumerate().step_by(2) {
        end(circle, number / 2, *id);
    }
    circle.add_fault(Fault { status: Some(503), times: 40, ..Fault::default() });
    circle.add_fault(Fault { drop: true, times: 40, ..Fault::default() });
    circle.add_fault(Fault { delay_ms: 3_600_000, times: 1_000_000, ..Fault::default() });
    for (round, names) in during.chunks(4).enumerate() {
        for name in names {
            let response = create(name).await;
            assert!([503, 504].contains(&response.status), "round {round}: {response:?}");
            assert!(response.headers.contains_key("retry-after"), "{response:?}");
        }
        for (number, (name, id)) in ids.iter().enumerate() {
            let mut request = app.get_challenge(id).bearer(&users[*name].0);
            // Some callers poll, and receive the record.
            if number % 4 == round % 4 {
                request = request.token(&tokens[name]);
            }
            app.let_time_pass(request.send()).await.is(200);
        }
        app.advance(12 * MINUTE);
    }
    circle.clear_faults();

    // Afterwards the callers retry their failed requests, and the schedule does the rest.
    for name in during {
        let response = create(name).await;
        assert!([200, 201].contains(&response.status), "{response:?}");
        ids.insert(*name, challenge_id(&response.body));
    }
    for (number, challenge) in circle.challenges().into_iter().enumerate() {
        if ["PENDING", "IN_PROGRESS"].contains(&challenge.status) {
            end(circle, number, challenge.id);
        }
    }
    assert_eq!(circle.challenges().len(), 40, "no retry created a second challenge");
    let mut minutes = 0;
    while open_records(&app).await > 0 {
        assert!(minutes < 12 * 60, "reconciliation has stopped");
        app.advance(5 * MINUTE - 30 * SECOND);
        app.let_run_work(30 * SECOND).await;
        minutes += 5;
    }
    println!("all 40 challenges settled {minutes} minutes after the outage");
    assert_records_match_circle(&app).await;
}

#[tokio::test]
async fn run_reads_only_open_records() {
    let clock = noon().clock;
    let file = DataFile::new("a-large-table");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dynamodb = dynamodb::start(listener, Some(&file.0), clock.clone()).await.unwrap();
    in_time(dynamodb.stop()).await;
    let settled = (0..100_000).map(|number| record(number, true));
    let records = settled.chain((100_000..100_100).map(|number| record(number, false))).collect();
    let database = Database::new(file.0.to_str().unwrap()).unwrap();
    database.import_items(CHALLENGES_TABLE, records, ImportOptions::default()).unwrap();
    drop(database);

    let settings = owned([("CIRCLE_CALLS_PER_SECOND", "50")]);
    let data = Some(file.0.clone());
    let options = StackOptions { clock, settings, data, scheduled: false, ..StackOptions::default() };
    let (app, proxy) = DynamoDbProxy::start(options).await;
    // The simulator takes some time to prepare its first token.
    app.user_token().await;
    for number in 100_000..100_100 {
        app.add_user(&user(number));
    }
    let summary = Reconciler::of(&app).run().await;
    let read = proxy.items_read();
    println!("a run read {read} of 100,100 records, of which 100 are open");
    assert_eq!((summary.due, summary.checks), (100, 100));
    assert_eq!(read, 100);
    app.stop().await;
}

/// Ends a challenge. The number chooses one of the ways in which it can end.
fn end(circle: &CircleSimulator, number: usize, id: Uuid) {
    let ended = match number % 5 {
        0 => circle.enter_pin(id, PinEntry::right()),
        1 => circle.cancel_challenge(id),
        2 => {
            circle.enter_pin(id, PinEntry::wrong()).unwrap();
            circle.enter_pin(id, PinEntry::wrong()).unwrap();
            circle.enter_pin(id, PinEntry::wrong())
        }
        3 => circle.expire_challenge(id, Expiry::Expired),
        _ => circle.expire_challenge(id, Expiry::Failed),
    };
    ended.unwrap();
}

/// How long it took until nothing was due, and how many calls to Circle.
struct Idle {
    minutes: u64,
    calls: u32,
}

/// Runs every five minutes until nothing is due, while the live users make four requests a second.
async fn run_until_idle<'a>(
    reconciler: &Reconciler,
    live: &mut LiveUsers<'a, impl Iterator<Item = &'a String>>,
) -> Idle {
    let app = live.app;
    let (started, mut calls) = (app.clock.now(), 0);
    for run in 1..20 {
        let summary = reconciler.run_beside(MINUTE, TURN, async || live.request().await).await;
        assert_eq!((summary.failed, summary.deferred), (0, 0), "{summary:?}");
        calls += summary.circle_calls;
        if summary.due == 0 {
            return Idle { minutes: (app.clock.now() - started).whole_minutes().unsigned_abs(), calls };
        }
        let next = started + run * 5 * MINUTE;
        app.advance((next - app.clock.now()).unsigned_abs());
    }
    panic!("challenges are still due after 20 runs");
}

/// Checks that every challenge at Circle is settled, and has a record that says the same.
async fn assert_records_match_circle(app: &App) {
    for challenge in app.circle.challenges() {
        assert!(!["PENDING", "IN_PROGRESS"].contains(&challenge.status), "{challenge:?}");
        let record = app.record(challenge.id).await;
        assert_eq!(record["status"], challenge.status, "{record}");
        assert_eq!(record["circleCode"].as_i64(), challenge.error_code.map(i64::from), "{record}");
        assert!(record.get("nextCheckAt").is_none(), "{record}");
    }
}

/// How many records are on the index of open challenges.
async fn open_records(app: &App) -> usize {
    let records = app.table_items(CHALLENGES_TABLE).await;
    records.iter().filter(|record| record.get("openShard").is_some()).count()
}

fn user(number: u32) -> String {
    format!("user-{number}")
}

/// A record as the service writes it: settled, or open with a check that is due.
fn record(number: u32, is_settled: bool) -> HashMap<String, AttributeValue> {
    let mut item = json!({
        "challengeId": { "S": Uuid::from_u128(number.into()) },
        "userId": { "S": user(number) },
        "type": { "S": "CHANGE_PIN" },
        "status": { "S": if is_settled { "COMPLETE" } else { "PENDING" } },
        "rank": { "N": if is_settled { "3" } else { "0" } },
        "createdAt": { "S": "2026-01-01T11:00:00Z" },
        "requestedAt": { "S": "2026-01-01T11:00:00Z" },
        "updatedAt": { "S": "2026-01-01T11:00:00Z" },
        "checkedAt": { "S": "2026-01-01T11:00:00Z" },
        "retentionSeconds": { "N": "7776000" },
    });
    if !is_settled {
        item["openShard"] = json!({ "N": (number % 8).to_string() });
        item["nextCheckAt"] = json!({ "N": (NOON.unix_timestamp() - 60).to_string() });
    }
    serde_json::from_value(item).unwrap()
}
