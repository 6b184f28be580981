//! Challenge records, as `shared/src/challenge_store` writes them.

use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

/// How many records a user has.
pub(crate) const RECORDS_OF_A_USER: u64 = 5;

/// One record in so many is open.
const OPEN_ONE_IN: u64 = 100;

const RETENTION_SECONDS: i64 = 90 * 86400;

/// A record that many others are like.
pub(crate) fn record(number: u64, now: OffsetDateTime) -> Value {
    let user = format!("user-{:08}", number / RECORDS_OF_A_USER);
    // Spread over the time for which a record is kept.
    let age = mix(number) % (RETENTION_SECONDS.unsigned_abs() - 86400);
    let requested = now - std::time::Duration::from_secs(age);
    let id = challenge_id(number);
    if number.is_multiple_of(OPEN_ONE_IN) {
        open(&id, &user, requested)
    } else {
        settled(&id, &user, requested)
    }
}

/// The id of the record with this number: random, but the same in each run.
pub(crate) fn challenge_id(number: u64) -> String {
    let random = u128::from(mix(number)) << 64 | u128::from(mix(!number));
    uuid::Builder::from_random_bytes(random.to_be_bytes()).into_uuid().to_string()
}

/// A record of a challenge that has just been requested, whose first check is due in a day.
pub(crate) fn open(id: &str, user: &str, requested: OffsetDateTime) -> Value {
    let mut record = requested_record(id, user, requested);
    let shard = Uuid::parse_str(id).map_or(0, |id| id.as_bytes()[15] % 8);
    let tomorrow = OffsetDateTime::now_utc().unix_timestamp() + 86400;
    record["status"] = json!({ "S": "PENDING" });
    record["rank"] = number(0);
    record["openShard"] = number(shard.into());
    record["nextCheckAt"] = number(tomorrow);
    record
}

/// A record of a challenge that a webhook has settled. One in sixteen has failed.
pub(crate) fn settled(id: &str, user: &str, requested: OffsetDateTime) -> Value {
    let mut record = requested_record(id, user, requested);
    let has_failed = id.as_bytes()[0] == b'0';
    record["status"] = json!({ "S": if has_failed { "FAILED" } else { "COMPLETE" } });
    record["rank"] = number(if has_failed { 2 } else { 3 });
    if has_failed {
        record["circleCode"] = number(155_112);
        record["circleMessage"] = json!({ "S": "the incorrect PIN was entered too many times" });
        record["reason"] = json!({ "S": "incorrect_pin" });
    }
    record["previousStatus"] = json!({ "S": "IN_PROGRESS" });
    record["namedUserId"] = json!({ "S": user });
    record["notificationId"] = json!({ "S": id.chars().rev().collect::<String>() });
    record["settledBy"] = json!({ "S": "webhook" });
    record["polledAt"] = number(requested.unix_timestamp() * 1000 + 20_000);
    record["claimedBy"] = json!({ "S": id.chars().rev().collect::<String>() });
    record
}

fn requested_record(id: &str, user: &str, requested: OffsetDateTime) -> Value {
    let second = requested.unix_timestamp();
    let text = requested.truncate_to_millisecond().format(&Rfc3339).expect("a date of this century");
    json!({
        "challengeId": { "S": id },
        "checkedAt": { "S": text },
        "createdAt": { "S": text },
        "expiresAt": number(second + RETENTION_SECONDS),
        "requestedAt": { "S": text },
        "requestedAtMs": number(second * 1000),
        "retentionSeconds": number(RETENTION_SECONDS),
        "type": { "S": "CHANGE_PIN" },
        "updatedAt": { "S": text },
        "userId": { "S": user },
    })
}

fn number(number: i64) -> Value {
    json!({ "N": number.to_string() })
}

/// SplitMix64: a number that looks random.
fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
