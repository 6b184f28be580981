//! DynamoDB, called by the real AWS SDK.

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_dynamodb::types::{
    AttributeValue, BillingMode, KeySchemaElement, KeyType, ProjectionType, ReturnValue, ScalarAttributeType,
    StreamViewType, TimeToLiveStatus,
};
use shared::clock::{SystemClock, timeout};
use shared::config::Environment;
use shared::http_client::HttpClient;
use time::macros::datetime;

use super::*;

fn clock() -> AdjustableClock {
    AdjustableClock::frozen(datetime!(2026-01-01 12:00 UTC))
}

async fn database(data: Option<&Path>, clock: AdjustableClock) -> (DynamoDb, Client) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let database = start(listener, data, clock).await.unwrap();
    let config = aws_sdk_dynamodb::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .http_client(HttpClient::new(&Environment::default()).unwrap())
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new("local", "local", None, None, "test"))
        .endpoint_url(database.url())
        .build();
    (database, Client::from_conf(config))
}

fn text(value: &str) -> AttributeValue {
    AttributeValue::S(value.to_owned())
}

fn number(value: i64) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

async fn put(client: &Client, id: &str, attributes: &[(&str, AttributeValue)]) {
    let mut put = client.put_item().table_name(CHALLENGES_TABLE).item("challengeId", text(id));
    for (name, value) in attributes {
        put = put.item(*name, value.clone());
    }
    put.send().await.unwrap();
}

async fn exists(client: &Client, id: &str) -> bool {
    let get = client.get_item().table_name(CHALLENGES_TABLE).key("challengeId", text(id));
    get.consistent_read(true).send().await.unwrap().item.is_some()
}

#[tokio::test]
async fn challenges_table_is_as_in_the_cloud() {
    let (database, client) = database(None, clock()).await;
    let table = client.describe_table().table_name(CHALLENGES_TABLE).send().await.unwrap().table.unwrap();
    let key = |name: &str, kind: KeyType| {
        KeySchemaElement::builder().attribute_name(name).key_type(kind).build().unwrap()
    };
    assert_eq!(table.key_schema(), [key("challengeId", KeyType::Hash)]);
    let mut attributes: Vec<_> = table
        .attribute_definitions()
        .iter()
        .map(|attribute| (attribute.attribute_name(), attribute.attribute_type().clone()))
        .collect();
    attributes.sort_by_key(|(name, _)| *name);
    assert_eq!(
        attributes,
        [
            ("challengeId", ScalarAttributeType::S),
            ("nextCheckAt", ScalarAttributeType::N),
            ("openShard", ScalarAttributeType::N),
            ("requestedAtMs", ScalarAttributeType::N),
            ("userId", ScalarAttributeType::S),
        ]
    );
    let billing = table.billing_mode_summary().unwrap().billing_mode();
    assert_eq!(billing, Some(&BillingMode::PayPerRequest));
    let stream = table.stream_specification().unwrap();
    assert!(stream.stream_enabled());
    assert_eq!(stream.stream_view_type(), Some(&StreamViewType::NewAndOldImages));
    let [index, by_user] = table.global_secondary_indexes() else { panic!("there are two indexes") };
    assert_eq!(index.index_name(), Some("open-challenges"));
    assert_eq!(index.key_schema(), [key("openShard", KeyType::Hash), key("nextCheckAt", KeyType::Range)]);
    let projection = index.projection().unwrap();
    assert_eq!(projection.projection_type(), Some(&ProjectionType::Include));
    assert_eq!(projection.non_key_attributes(), ["userId", "createdAt", "dueAt"]);
    assert_eq!(by_user.index_name(), Some("challenges-by-user"));
    assert_eq!(by_user.key_schema(), [key("userId", KeyType::Hash), key("requestedAtMs", KeyType::Range)]);
    assert_eq!(
        by_user.projection().unwrap().non_key_attributes(),
        ["type", "status", "createdAt", "requestedAt", "updatedAt", "checkedAt", "circleCode"]
    );
    let expiry = client.describe_time_to_live().table_name(CHALLENGES_TABLE).send().await.unwrap();
    let expiry = expiry.time_to_live_description.unwrap();
    assert_eq!(expiry.attribute_name(), Some("expiresAt"));
    assert_eq!(expiry.time_to_live_status(), Some(&TimeToLiveStatus::Enabled));
    database.stop().await;
}

#[tokio::test]
async fn rate_limits_table_is_as_in_the_cloud() {
    let (database, client) = database(None, clock()).await;
    let table = client.describe_table().table_name(RATE_LIMITS_TABLE).send().await.unwrap();
    let table = table.table.unwrap();
    let key = KeySchemaElement::builder().attribute_name("limitKey").key_type(KeyType::Hash);
    assert_eq!(table.key_schema(), [key.build().unwrap()]);
    let [attribute] = table.attribute_definitions() else { panic!("there is one attribute") };
    assert_eq!(attribute.attribute_type(), &ScalarAttributeType::S);
    assert_eq!(table.billing_mode_summary().unwrap().billing_mode(), Some(&BillingMode::PayPerRequest));
    assert!(table.stream_specification().is_none_or(|stream| !stream.stream_enabled()));
    assert!(table.global_secondary_indexes().is_empty());
    let expiry = client.describe_time_to_live().table_name(RATE_LIMITS_TABLE).send().await.unwrap();
    let expiry = expiry.time_to_live_description.unwrap();
    assert_eq!(expiry.attribute_name(), Some("expiresAt"));
    assert_eq!(expiry.time_to_live_status(), Some(&TimeToLiveStatus::Enabled));
    database.stop().await;
}

#[tokio::test]
async fn index_contains_only_items_with_its_keys() {
    let (_database, client) = database(None, clock()).await;
    put(&client, "final", &[("userId", text("user-1"))]).await;
    for (id, at) in [("later", 200), ("sooner", 100)] {
        let keys = [("openShard", number(3)), ("nextCheckAt", number(at)), ("userId", text("user-2"))];
        put(&client, id, &keys).await;
        put(&client, &format!("{id}-elsewhere"), &[("openShard", number(4)), keys[1].clone()]).await;
    }
    let found = client
        .query()
        .table_name(CHALLENGES_TABLE)
        .index_name(OPEN_CHALLENGES_INDEX)
        .key_condition_expression("openShard = :shard AND nextCheckAt <= :now")
        .expression_attribute_values(":shard", number(3))
        .expression_attribute_values(":now", number(150))
        .send()
        .await
        .unwrap();
    let expected = [
        ("challengeId".to_owned(), text("sooner")),
        ("openShard".to_owned(), number(3)),
        ("nextCheckAt".to_owned(), number(100)),
        ("userId".to_owned(), text("user-2")),
    ];
    assert_eq!(found.items(), [expected.into()]);
}

#[tokio::test]
async fn failed_condition_returns_the_old_item() {
    let (_database, client) = database(None, clock()).await;
    put(&client, "one", &[("rank", number(2))]).await;
    let update = client
        .update_item()
        .table_name(CHALLENGES_TABLE)
        .key("challengeId", text("one"))
        .update_expression("SET #rank = :rank")
        .condition_expression("attribute_not_exists(#rank) OR #rank < :rank")
        .expression_attribute_names("#rank", "rank")
        .expression_attribute_values(":rank", number(1))
        .return_values(ReturnValue::AllNew)
        .return_values_on_condition_check_failure("ALL_OLD".into());
    let error = update.send().await.unwrap_err().into_service_error();
    let aws_sdk_dynamodb::operation::update_item::UpdateItemError::ConditionalCheckFailedException(failed) =
        error
    else {
        panic!("{error:?}")
    };
    let old = failed.item.unwrap();
    assert_eq!(old, [("challengeId".to_owned(), text("one")), ("rank".to_owned(), number(2))].into());
}

#[tokio::test]
async fn expired_items_are_removed_once_a_minute() {
    let clock = clock();
    let (_database, client) = database(None, clock.clone()).await;
    let now = clock.now().unix_timestamp();
    put(&client, "short", &[("expiresAt", number(now + 30))]).await;
    put(&client, "long", &[("expiresAt", number(now + 3600))]).await;
    put(&client, "for-ever", &[]).await;
    clock.advance(Duration::from_secs(59));
    assert!(exists(&client, "short").await, "expired, but the removal is not due yet");
    clock.advance(Duration::from_secs(1));
    removed(&client, "short").await;
    assert!(exists(&client, "long").await);
    clock.advance(Duration::from_secs(3600));
    removed(&client, "long").await;
    assert!(exists(&client, "for-ever").await);
}

/// Waits until the item is gone. Nothing announces a removal, so this asks again and again.
async fn removed(client: &Client, id: &str) {
    let waiting = async {
        while exists(client, id).await {
            SystemClock.sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(&SystemClock, Duration::from_secs(10), waiting).await.expect("the item is removed in time");
}

#[tokio::test]
async fn file_keeps_its_tables_and_items_and_indexes_the_stream() {
    let path = std::env::temp_dir().join(format!("{}.db", uuid::Uuid::from_u128(fresh())));
    let (first, client) = database(Some(&path), clock()).await;
    put(&client, "kept", &[]).await;
    // What `dynoxide` asks at each write.
    let latest =
        "SELECT MAX(CAST(sequence_number AS INTEGER)) FROM _stream_records WHERE table_name = 'challenges'";
    let connection = Connection::open(&path).unwrap();
    let plan = format!("EXPLAIN QUERY PLAN {latest}");
    let plan: String = connection.query_row(&plan, [], |row| row.get("detail")).unwrap();
    assert!(plan.contains("INDEX stream_records_by_number"), "{plan}");
    drop(connection);
    first.stop().await;
    let (second, client) = database(Some(&path), clock()).await;
    assert!(exists(&client, "kept").await);
    second.stop().await;
    for suffix in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{suffix}", path.display()));
    }
}

fn fresh() -> u128 {
    shared::random::Random::from_system().uuid().as_u128()
}

#[tokio::test]
async fn unusable_file_is_named_in_the_error() {
    let path = std::env::temp_dir().join(format!("{}.txt", uuid::Uuid::from_u128(fresh())));
    std::fs::write(&path, "not a database, but long enough to be mistaken for one at first".repeat(20))
        .unwrap();
    for path in [path.as_path(), Path::new("/no/such/folder/challenges.db")] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let error = start(listener, Some(path), clock()).await.err().unwrap();
        assert_eq!(error.to_string(), format!("cannot open the data file {}", path.display()));
        assert!(std::error::Error::source(&error).is_some());
    }
    std::fs::remove_file(path).unwrap();
}
