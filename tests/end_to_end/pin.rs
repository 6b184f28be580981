use local::circle_simulator::{FactorStatus, PinEntry, UserChange, UserStatus};
use serde_json::{Value, json};

use crate::support::{App, MINUTE, challenge_id, with};

#[tokio::test]
async fn pin_is_shown_as_circle_has_it() {
    let app = App::at_noon().await;
    let pin = async || -> Value { app.get_pin().send().await.is(200).clone() };
    let usable = json!({ "pinStatus": "ENABLED", "failedAttempts": 0, "securityQuestionStatus": "ENABLED",
                          "securityQuestionsFailedAttempts": 0 });
    assert_eq!(pin().await, usable);

    let id = app.create_challenge().await;
    for _ in 0..3 {
        app.circle.enter_pin(id, PinEntry::wrong()).unwrap();
    }
    let lock = json!({ "pinStatus": "LOCKED", "lockedUntil": "2026-01-01T12:30:00Z", "failedAttempts": 3 });
    assert_eq!(pin().await, with(usable.clone(), lock));
    app.advance(30 * MINUTE);
    assert_eq!(pin().await, usable);

    app.change_user(UserChange {
        pin_status: Some(FactorStatus::Unset),
        security_question_status: Some(FactorStatus::Unset),
        ..UserChange::default()
    });
    let unset = json!({ "pinStatus": "UNSET", "securityQuestionStatus": "UNSET" });
    assert_eq!(pin().await, with(usable, unset));
}

#[tokio::test]
async fn locked_security_questions_show_when_their_lock_opens() {
    let app = App::at_noon().await.without_webhooks().await;
    let id = challenge_id(app.post_challenge().restore().send().await.is(201));
    for _ in 0..3 {
        app.circle.answer_security_questions(id, false, None).unwrap();
    }
    let locked = json!({
        "pinStatus": "ENABLED",
        "failedAttempts": 0,
        "securityQuestionStatus": "LOCKED",
        "securityQuestionsLockedUntil": "2026-01-01T12:30:00Z",
        "securityQuestionsFailedAttempts": 3,
    });
    assert_eq!(app.get_pin().send().await.is(200), &locked);
    app.advance(30 * MINUTE);
    let usable = json!({
        "securityQuestionStatus": "ENABLED",
        "securityQuestionsLockedUntil": null,
        "securityQuestionsFailedAttempts": 0,
    });
    assert_eq!(app.get_pin().send().await.is(200), &with(locked, usable));
}

#[tokio::test]
async fn disabled_and_unknown_users_have_no_pin_to_show() {
    let app = App::at_noon().await;
    app.change_user(UserChange { status: Some(UserStatus::Disabled), ..UserChange::default() });
    app.get_pin().send().await.is_problem(403, "user_disabled");
    let unknown = app.stack.sign_in("nobody-at-circle");
    let response = app.get_pin().bearer(&unknown).send().await;
    response.is_problem_with(404, "user_not_found", json!({ "circleCode": 155_102 }));
}
