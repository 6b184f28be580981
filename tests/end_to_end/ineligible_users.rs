use local::circle_simulator::{FactorStatus, UserChange, UserStatus};
use serde_json::{Value, json};

use crate::support::{App, CREATE_CHANGE_PIN, CREATE_RESTORE_PIN, MINUTE, error_of};

const LOCKED: UserChange = UserChange {
    pin: None,
    pin_status: Some(FactorStatus::Locked),
    security_answers: None,
    security_question_status: Some(FactorStatus::Locked),
    status: None,
    auth_mode: None,
};

/// For each type of challenge, the states of a user that rule it out, and the problem that callers receive.
fn states() -> [(&'static str, UserChange, u16, &'static str, Value); 5] {
    let pin = |status| UserChange { pin_status: Some(status), ..UserChange::default() };
    let questions = |status| UserChange { security_question_status: Some(status), ..UserChange::default() };
    let disabled = UserChange { status: Some(UserStatus::Disabled), ..UserChange::default() };
    let lock = json!({ "lockedUntil": "2026-01-01T12:30:00Z", "retryAfterSeconds": 1800 });
    // Circle has already rejected the session, or the caller's token.
    let circle_code = json!({ "circleCode": 155_109 });
    [
        ("CHANGE_PIN", pin(FactorStatus::Unset), 409, "pin_not_set", json!({})),
        ("CHANGE_PIN", pin(FactorStatus::Locked), 423, "pin_locked", lock.clone()),
        ("CHANGE_PIN", disabled, 403, "user_disabled", circle_code),
        ("RESTORE_PIN", questions(FactorStatus::Unset), 409, "security_questions_not_set", json!({})),
        ("RESTORE_PIN", questions(FactorStatus::Locked), 423, "security_answers_locked", lock),
    ]
}

#[tokio::test]
async fn state_that_rules_a_challenge_out_is_reported_before_one_is_created() {
    let app = App::at_noon().await;
    let token = app.user_token().await;
    for (challenge_type, change, status, code, numbers) in states() {
        app.change_user(change);
        let request = || app.post_challenge().challenge_type(challenge_type);
        for request in [request(), request().token(&token)] {
            let response = request.send().await;
            response.is_problem_with(status, code, numbers.clone());
            if status == 423 {
                response.mentions("userMessage", "12:30 UTC");
            }
        }
        app.change_user(UserChange { status: Some(UserStatus::Enabled), ..UserChange::ready() });
    }
    assert!(app.circle.challenges().is_empty());
    assert_eq!(app.record_count().await, 0);
}

#[tokio::test]
async fn locked_pin_opens_after_half_an_hour_and_can_be_restored_before() {
    let app = App::at_noon().await;
    app.change_user(UserChange { security_question_status: None, ..LOCKED });
    app.advance(20 * MINUTE);
    let lock = json!({ "lockedUntil": "2026-01-01T12:30:00Z", "retryAfterSeconds": 600 });
    app.post_challenge().send().await.is_problem_with(423, "pin_locked", lock);
    assert_eq!(app.post_challenge().restore().send().await.is(201)["type"], "RESTORE_PIN");
    app.advance(10 * MINUTE);
    assert_eq!(app.post_challenge().send().await.is(201)["type"], "CHANGE_PIN");
}

#[tokio::test]
async fn lock_until_tomorrow_is_reported_with_its_date() {
    let app = App::at_noon().await;
    app.advance((11 * 60 + 45) * MINUTE);
    app.change_user(LOCKED);
    let lock = json!({ "lockedUntil": "2026-01-02T00:15:00Z", "retryAfterSeconds": 1800 });
    for (request, code) in
        [(app.post_challenge(), "pin_locked"), (app.post_challenge().restore(), "security_answers_locked")]
    {
        let response = request.send().await;
        response.is_problem_with(423, code, lock.clone());
        response.mentions("userMessage", "00:15 UTC");
        response.mentions("userMessage", "2 January 2026");
    }
}

#[tokio::test]
async fn locked_security_answers_allow_a_change_and_open_after_half_an_hour() {
    let app = App::at_noon().await;
    app.change_user(UserChange { pin_status: None, ..LOCKED });
    app.post_challenge().send().await.is(201);
    app.advance(30 * MINUTE);
    app.post_challenge().restore().send().await.is(201);
}

#[tokio::test]
async fn user_whom_circle_does_not_know_is_not_found() {
    let app = App::at_noon().await;
    let unknown = app.stack.sign_in("nobody-yet");
    for request in [app.post_session_token(), app.post_challenge()] {
        let response = request.bearer(&unknown).send().await;
        response.is_problem_with(404, "user_not_found", json!({ "circleCode": 155_102 }));
    }
}

/// The state can change after it was read, so Circle decides.
#[tokio::test]
async fn state_that_circle_reports_on_creation_is_the_same_problem() {
    let app = App::at_noon().await;
    let circle_codes = [155_110, 155_119, 155_109, 155_111, 155_120];
    for (circle_code, (challenge_type, _, status, code, _)) in circle_codes.into_iter().zip(states()) {
        let call = if challenge_type == "CHANGE_PIN" { CREATE_CHANGE_PIN } else { CREATE_RESTORE_PIN };
        app.circle.add_fault(error_of(call, 403, circle_code));
        let response = app.post_challenge().challenge_type(challenge_type).send().await;
        response.is_problem_with(status, code, json!({ "circleCode": circle_code }));
    }
    assert_eq!(app.record_count().await, 0);
}
