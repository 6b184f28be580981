use std::collections::{BTreeMap, HashMap};

use dynoxide::types::AttributeValue;
use dynoxide::{Database, ImportOptions};
use futures_util::{StreamExt, stream};
use local::circle_simulator::{CircleSimulator, Expiry, Fault, PinEntry};
use local::dynamodb::{self, CHALLENGES_TABLE};
use local::stack::StackOptions;
use reconcile_challenges::Summary;
use serde_json::json;
use shared::clock::{AdjustableClock, Clock};
use tokio::net::TcpListener;
use uuid::Uuid;

use crate::dynamodb_proxy::DynamoDbProxy;
use crate::observed::while_time_passes;
use crate::reconcile::{FIRST_CHECK, challenge_of, function, run, without_webhooks};
use crate::support::{App, DataFile, HOUR, MINUTE, NOON, challenge_id, send, text};

#[tokio::test]
async fn with_no_webhook_at_all_a_thousand_challenges_are_settled() {
    let app = without_webhooks([("CIRCLE_CALLS_PER_RUN", "500")]).await;
    let function = function(&app);
    let circle = &app.stack.circle;
    let ids: Vec<Uuid> = stream::iter(0..1000)
        .map(async |user| challenge_of(&app, &format!("user-{user}")).await)
        .buffered(16)
        .collect()
        .await;
    let (late, ended): (Vec<_>, Vec<_>) = ids.iter().enumerate().partition(|(number, _)| number % 10 == 9);
    ended.into_iter().for_each(|(number, id)| end(circle, number, *id));
    circle.reset_call_counts();
    app.advance(FIRST_CHECK);
    let mut runs = vec![run_until_done(&app, &function).await];
    late.into_iter().for_each(|(number, id)| end(circle, number / 10, *id));
    app.advance(HOUR);
    runs.push(run_until_done(&app, &function).await);

    let calls: u64 = circle.call_counts().values().sum();
    println!("1000 challenges settled in {runs:?} runs with {calls} calls to Circle");
    assert_eq!(calls, 1000 * 2 + 100 * 2, "two for each, two more for those that had a second look");
    assert_eq!(runs, [4, 1], "as many as the calls of a run allow for");
    assert_says_what_circle_says(&app).await;
}

#[tokio::test]
async fn after_an_hour_without_circle_everything_is_settled_without_a_hand() {
    let clock = AdjustableClock::frozen(NOON);
    let app = App::with_options(StackOptions { clock: clock.clone(), ..StackOptions::default() }).await;
    let circle = &app.stack.circle;
    // Circle's first token takes a while of its own.
    app.user_token().await;
    let mut users = BTreeMap::new();
    for user in 0..40 {
        let name = format!("user-{user}");
        app.stack.add_user(&name, "112233");
        let key = app.stack.platform.random.uuid().to_string();
        users.insert(name.clone(), (app.stack.sign_in(&name), key));
    }
    let create = async |name: &str| {
        let (bearer, key) = &users[name];
        let request = app.anonymous("POST /challenges").bearer_auth(bearer).header("idempotency-key", key);
        let before = clock.now();
        let answer = while_time_passes(&clock, send(request)).await;
        assert!(clock.now() - before <= 8 * time::Duration::SECOND, "no request hangs");
        answer
    };
    let names: Vec<&String> = users.keys().collect();
    let (before, during) = names.split_at(20);
    let (mut ids, mut tokens) = (HashMap::new(), HashMap::new());
    for name in before {
        let created = create(name).await;
        ids.insert(*name, challenge_id(created.is(201)));
        tokens.insert(*name, text(&created.body["session"], "userToken").to_owned());
    }

    // The outage: nothing is answered, one way or another, and no webhook leaves.
    circle.set_knobs(|knobs| knobs.lose_webhooks = u32::MAX);
    for (number, id) in ids.values().enumerate() {
        if number % 2 == 0 {
            end(circle, number / 2, *id);
        }
    }
    circle.add_fault(Fault { status: Some(503), times: 40, ..Fault::default() });
    circle.add_fault(Fault { drop: true, times: 40, ..Fault::default() });
    circle.add_fault(Fault { delay_ms: 3_600_000, times: 1_000_000, ..Fault::default() });
    for (round, names) in during.chunks(4).enumerate() {
        for name in names {
            let answer = create(name).await;
            assert!([503, 504].contains(&answer.status), "round {round}: {answer:?}");
            assert!(answer.headers.contains_key("retry-after"), "{answer:?}");
        }
        for (number, (name, id)) in ids.iter().enumerate() {
            let mut status = app.anonymous(&format!("GET /challenges/{id}")).bearer_auth(&users[*name].0);
            // Some ask for more than the record, and get the record all the same.
            if number % 4 == round % 4 {
                status = status.header("x-user-token", &tokens[name]);
            }
            while_time_passes(&clock, send(status)).await.is(200);
        }
        app.advance(12 * MINUTE);
    }
    circle.clear_faults();

    // Afterwards the callers repeat what was not answered; the schedule does the rest.
    for name in during {
        let answer = create(name).await;
        assert!([200, 201].contains(&answer.status), "{answer:?}");
        ids.insert(*name, challenge_id(&answer.body));
    }
    for (number, challenge) in circle.challenges().into_iter().enumerate() {
        if ["PENDING", "IN_PROGRESS"].contains(&challenge.status) {
            end(circle, number, challenge.id);
        }
    }
    assert_eq!(circle.challenges().len(), 40, "a repeat made no second challenge");
    let mut minutes = 0;
    while app.unsettled().await > 0 {
        assert!(minutes < 12 * 60, "nothing is settled any more");
        app.advance(5 * MINUTE);
        minutes += 5;
        while_time_passes(&clock, quiet()).await;
    }
    println!("all 40 settled {minutes} minutes after the outage");
    assert_says_what_circle_says(&app).await;
}

#[tokio::test]
async fn a_run_reads_what_is_unsettled_and_not_the_table() {
    let clock = AdjustableClock::frozen(NOON);
    let file = DataFile::new("a-large-table");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    dynamodb::start(listener, Some(&file.0), clock.clone()).await.unwrap().stop().await;
    let records = (0..100_000).map(|number| record(number, true));
    let records = records.chain((100_000..101_000).map(|number| record(number, false))).collect();
    let database = Database::new(file.0.to_str().unwrap()).unwrap();
    database.import_items(CHALLENGES_TABLE, records, ImportOptions::default()).unwrap();
    drop(database);

    let settings = [("CIRCLE_CALLS_PER_RUN".to_owned(), "10000".to_owned())].into();
    let data = Some(file.0.clone());
    let options = StackOptions { clock, settings, data, scheduled: false, ..StackOptions::default() };
    let (app, table) = DynamoDbProxy::start_with(options).await;
    // Circle's first token takes a while of its own.
    app.user_token().await;
    for number in 100_000..101_000 {
        app.stack.add_user(&user(number), "112233");
    }
    let summary = run(&app, &function(&app)).await;
    let read = table.items_read();
    println!("of 101,000 records, 1,000 of them unsettled, a run read {read}");
    assert_eq!((summary.due, summary.checks), (1000, 1000));
    assert_eq!(read, 1000);
    app.stack.stop().await;
}

/// Ends a challenge in one of the ways that there are.
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

/// Runs until nothing is due, and says how often that was.
async fn run_until_done(app: &App, function: &reconcile_challenges::ReconcileChallenges) -> usize {
    for runs in 0..20 {
        match run(app, function).await {
            Summary { due: 0, .. } => return runs,
            summary => assert_eq!((summary.failed, summary.deferred), (0, 0), "{summary:?}"),
        }
    }
    panic!("there is no end to it");
}

/// Every challenge of Circle's is on record, as Circle has it.
async fn assert_says_what_circle_says(app: &App) {
    let challenges = app.stack.circle.challenges();
    for challenge in &challenges {
        let item = app.item(challenge.id).await;
        assert_eq!(item["status"], challenge.status, "{item}");
        assert_eq!(item["errorCode"].as_i64(), challenge.error_code.map(i64::from), "{item}");
        assert!(item.get("nextCheckAt").is_none(), "{item}");
    }
    assert!(challenges.iter().all(|one| !["PENDING", "IN_PROGRESS"].contains(&one.status)));
}

/// Lets whatever is ready run.
async fn quiet() {
    for _ in 0..2000 {
        tokio::task::yield_now().await;
    }
}

fn user(number: u32) -> String {
    format!("user-{number}")
}

/// A record as the service writes it: settled, or open with its first look due.
fn record(number: u32, is_settled: bool) -> HashMap<String, AttributeValue> {
    let mut item = json!({
        "challengeId": { "S": Uuid::from_u128(number.into()) },
        "userId": { "S": user(number) },
        "type": { "S": "CHANGE_PIN" },
        "status": { "S": if is_settled { "COMPLETE" } else { "PENDING" } },
        "rank": { "N": if is_settled { "2" } else { "0" } },
        "createdAt": { "S": "2026-01-01T11:00:00Z" },
        "requestedAt": { "S": "2026-01-01T11:00:00Z" },
        "updatedAt": { "S": "2026-01-01T11:00:00Z" },
        "retentionSeconds": { "N": "7776000" },
    });
    if !is_settled {
        item["openShard"] = json!({ "N": (number % 8).to_string() });
        item["nextCheckAt"] = json!({ "N": (NOON.unix_timestamp() - 60).to_string() });
    }
    serde_json::from_value(item).unwrap()
}

impl App {
    /// How many records are still on the index.
    async fn unsettled(&self) -> i32 {
        let table = aws_sdk_dynamodb::Client::new(&self.stack.platform.aws);
        let scan = table.scan().table_name(CHALLENGES_TABLE).filter_expression("attribute_exists(openShard)");
        scan.send().await.unwrap().count
    }
}
