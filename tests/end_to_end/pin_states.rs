use local::circle_simulator::{FactorStatus, Fault, UserChange, UserStatus};
use serde_json::{Value, json};

use crate::support::{App, MINUTE, USER, send};

/// What keeps a challenge from being made, and what says so.
fn refusals() -> [(&'static str, UserChange, Value); 5] {
    let pin = |status| UserChange { pin_status: Some(status), ..UserChange::default() };
    let questions = |status| UserChange { security_question_status: Some(status), ..UserChange::default() };
    [
        (
            "CHANGE_PIN",
            pin(FactorStatus::Unset),
            json!({
                "title": "PIN not set",
                "status": 409,
                "detail": "The user has no PIN yet. Have the user set one with Circle's SDK first.",
                "code": "pin_not_set",
            }),
        ),
        (
            "CHANGE_PIN",
            pin(FactorStatus::Locked),
            json!({
                "title": "PIN locked",
                "status": 423,
                "detail": "PIN entry is locked after too many wrong PINs. Wait until it opens, or restore the PIN with a RESTORE_PIN challenge.",
                "userMessage": "PIN entry is locked after too many wrong PINs. It opens at 12:30 UTC. Wait until then, or recover your PIN now if you have set security questions.",
                "code": "pin_locked",
                "lockedUntil": "2026-01-01T12:30:00Z",
                "retryAfterSeconds": 1800,
            }),
        ),
        (
            "CHANGE_PIN",
            UserChange { status: Some(UserStatus::Disabled), ..UserChange::default() },
            json!({
                "title": "User disabled",
                "status": 403,
                "detail": "Circle has disabled the user. Only the app's operator can help.",
                "code": "user_disabled",
                // Circle refuses already the session, or the caller's token.
                "circleCode": 155_109,
            }),
        ),
        (
            "RESTORE_PIN",
            questions(FactorStatus::Unset),
            json!({
                "title": "Security questions not set",
                "status": 409,
                "detail": "The user has set no security questions, so the PIN can be changed but not restored.",
                "code": "security_questions_not_set",
            }),
        ),
        (
            "RESTORE_PIN",
            questions(FactorStatus::Locked),
            json!({
                "title": "Security answers locked",
                "status": 423,
                "detail": "Answering the security questions is locked after too many wrong answers. Wait until it opens.",
                "userMessage": "Recovery is locked after too many wrong answers to your security questions. Try again at 12:30 UTC.",
                "code": "security_answers_locked",
                "lockedUntil": "2026-01-01T12:30:00Z",
                "retryAfterSeconds": 1800,
            }),
        ),
    ]
}

#[tokio::test]
async fn a_state_that_rules_a_challenge_out_is_said_before_one_is_made() {
    let app = App::at_noon().await;
    let token = app.user_token().await;
    for (challenge_type, change, expected) in refusals() {
        app.stack.circle.change_user(USER, change).unwrap();
        create(&app, challenge_type, Some(&token)).await.is_problem(expected.clone());
        create(&app, challenge_type, None).await.is_problem(expected);
        let enabled = UserChange { status: Some(UserStatus::Enabled), ..UserChange::ready() };
        app.stack.circle.change_user(USER, enabled).unwrap();
    }
    assert!(app.stack.circle.challenges().is_empty());
    assert_eq!(app.items().await, 0);
}

#[tokio::test]
async fn a_locked_pin_opens_after_half_an_hour_and_can_be_restored_before() {
    let app = App::at_noon().await;
    let locked = UserChange { pin_status: Some(FactorStatus::Locked), ..UserChange::default() };
    app.stack.circle.change_user(USER, locked).unwrap();
    app.advance(20 * MINUTE);
    let answer = create(&app, "CHANGE_PIN", None).await;
    assert_eq!((answer.status, answer.headers["retry-after"].to_str().unwrap()), (423, "600"));
    assert_eq!(answer.body["lockedUntil"], "2026-01-01T12:30:00Z");
    assert_eq!(answer.body["retryAfterSeconds"], 600);
    assert_eq!(create(&app, "RESTORE_PIN", None).await.is(201)["type"], "RESTORE_PIN");
    app.advance(10 * MINUTE);
    assert_eq!(create(&app, "CHANGE_PIN", None).await.is(201)["type"], "CHANGE_PIN");
}

#[tokio::test]
async fn a_lock_that_opens_tomorrow_says_so() {
    let app = App::at_noon().await;
    app.advance(11 * 60 * MINUTE + 45 * MINUTE);
    let locked = UserChange {
        pin_status: Some(FactorStatus::Locked),
        security_question_status: Some(FactorStatus::Locked),
        ..UserChange::default()
    };
    app.stack.circle.change_user(USER, locked).unwrap();
    for (challenge_type, message) in [
        (
            "CHANGE_PIN",
            "PIN entry is locked after too many wrong PINs. It opens on 2 January 2026 at 00:15 UTC. Wait until then, or recover your PIN now if you have set security questions.",
        ),
        (
            "RESTORE_PIN",
            "Recovery is locked after too many wrong answers to your security questions. Try again on 2 January 2026 at 00:15 UTC.",
        ),
    ] {
        let answer = create(&app, challenge_type, None).await;
        assert_eq!(answer.status, 423);
        assert_eq!(answer.body["userMessage"], message);
    }
}

#[tokio::test]
async fn locked_security_answers_do_not_stop_a_change_and_open_after_half_an_hour() {
    let app = App::at_noon().await;
    let locked = UserChange { security_question_status: Some(FactorStatus::Locked), ..UserChange::default() };
    app.stack.circle.change_user(USER, locked).unwrap();
    create(&app, "CHANGE_PIN", None).await.is(201);
    app.advance(30 * MINUTE);
    create(&app, "RESTORE_PIN", None).await.is(201);
}

#[tokio::test]
async fn a_user_whom_circle_does_not_know_is_told_so() {
    let app = App::at_noon().await;
    let stranger = app.stack.sign_in("nobody-yet");
    for call in ["POST /session-tokens", "POST /challenges"] {
        send(app.anonymous(call).bearer_auth(&stranger)).await.is_problem(json!({
            "title": "User not found",
            "status": 404,
            "detail": "Circle does not know the user. Create the user and a PIN with Circle's SDK first.",
            "code": "user_not_found",
            "circleCode": 155_102,
        }));
    }
}

/// Circle has the last word: a state may have changed since it was asked for.
#[tokio::test]
async fn what_circle_refuses_after_all_is_said_the_same_way() {
    let app = App::at_noon().await;
    let expected = refusals();
    for (circle_code, index) in [(155_110, 0), (155_119, 1), (155_109, 2), (155_111, 3), (155_120, 4)] {
        let (challenge_type, _, mut problem) = expected[index].clone();
        problem["circleCode"] = json!(circle_code);
        let members = problem.as_object_mut().unwrap();
        members
            .retain(|name, _| !["lockedUntil", "retryAfterSeconds", "userMessage"].contains(&name.as_str()));
        app.stack.circle.add_fault(Fault {
            path: Some("/v1/w3s/user/pin".into()),
            status: Some(403),
            code: Some(circle_code),
            ..Fault::default()
        });
        create(&app, challenge_type, None).await.is_problem(problem);
    }
    assert_eq!(app.items().await, 0);
}

async fn create(app: &App, challenge_type: &str, token: Option<&str>) -> crate::support::Answer {
    let mut request = app.request("POST /challenges").header("content-type", "application/json");
    if let Some(token) = token {
        request = request.header("x-user-token", token);
    }
    send(request.body(json!({ "type": challenge_type }).to_string())).await
}
