use local::stack::AUDIENCE;
use serde_json::{Value, json};

use crate::support::{App, DAY, KEY, MINUTE, NOON, Request, Response, SECOND, USER, challenge_id};

/// A stack on which a user who restores a PIN has to have signed in within a quarter of an hour.
async fn app() -> App {
    App::at_noon_with([("RESTORE_MAX_SIGN_IN_AGE_MINUTES", "15")]).await.without_webhooks().await
}

/// A token of alice with this claim `auth_time`; without one if it is null.
fn token(app: &App, auth_time: Value) -> String {
    let mut claims = app.stack.issuer.claims(USER, AUDIENCE, DAY);
    claims["auth_time"] = auth_time;
    if claims["auth_time"].is_null() {
        claims.as_object_mut().unwrap().remove("auth_time");
    }
    app.stack.issuer.sign(&claims)
}

fn restore(app: &App, auth_time: Value) -> Request {
    app.post_challenge().restore().bearer(&token(app, auth_time))
}

#[track_caller]
fn asks_for_a_sign_in(response: &Response) {
    response.is_problem(401, "sign_in_required");
    let challenge = r#"Bearer error="insufficient_user_authentication", max_age="900""#;
    assert_eq!(response.headers["www-authenticate"], challenge);
}

#[tokio::test]
async fn sign_in_may_be_as_old_as_the_setting_says_and_clocks_may_differ_by_half_a_minute() {
    let app = app().await;
    let now = NOON.unix_timestamp();
    for seconds in [0, 900, 930, -30] {
        restore(&app, json!(now - seconds)).send().await.is(201);
    }
    for seconds in [931, 86_400, now, -31, -86_400] {
        asks_for_a_sign_in(&restore(&app, json!(now - seconds)).send().await);
    }
}

#[tokio::test]
async fn time_of_the_sign_in_is_a_number_or_a_text_that_is_one() {
    let app = app().await;
    let now = NOON.unix_timestamp();
    for auth_time in [json!(now.to_string()), json!(now as f64 - 0.5), json!(format!("{:e}", now as f64))] {
        restore(&app, auth_time).send().await.is(201);
    }
    for auth_time in [
        Value::Null,
        json!(""),
        json!("2026-01-01T12:00:00Z"),
        json!("NaN"),
        json!("inf"),
        json!("-inf"),
        json!(now * 1000),
        json!(true),
        json!([now]),
        json!({ "seconds": now }),
    ] {
        asks_for_a_sign_in(&restore(&app, auth_time).send().await);
    }
}

#[tokio::test]
async fn request_without_a_recent_sign_in_reaches_neither_circle_nor_a_table() {
    let app = app().await;
    let session = app.user_token().await;
    let recent = || app.post_challenge().restore().key(KEY);
    let id = challenge_id(recent().send().await.is(201));
    let before = (app.caller_calls(), app.rate_limit_items().await);
    app.advance(15 * MINUTE + 31 * SECOND);
    for request in [app.post_challenge().restore(), app.post_challenge().restore().token(&session), recent()]
    {
        asks_for_a_sign_in(&request.send().await);
    }
    assert_eq!((app.caller_calls(), app.rate_limit_items().await), before);

    let signed_in_again = app.stack.sign_in(USER);
    assert_eq!(challenge_id(recent().bearer(&signed_in_again).send().await.is(200)), id);
}

#[tokio::test]
async fn only_a_recovery_needs_a_recent_sign_in_and_only_if_the_setting_says_so() {
    let app = app().await;
    let old = token(&app, json!(0));
    app.post_challenge().bearer(&old).send().await.is(201);
    app.post_session_token().bearer(&old).send().await.is(201);
    app.get_pin().bearer(&old).send().await.is(200);

    let app = App::at_noon().await;
    restore(&app, Value::Null).send().await.is(201);
    restore(&app, json!(0)).send().await.is(201);
}
