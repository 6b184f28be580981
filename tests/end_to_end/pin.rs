use local::circle_simulator::{FactorStatus, PinEntry, UserChange, UserStatus};
use serde_json::json;

use crate::support::{App, MINUTE, USER, send};

#[tokio::test]
async fn the_pin_is_shown_as_circle_has_it() {
    let app = App::at_noon().await;
    let open = json!({ "pinStatus": "ENABLED", "failedAttempts": 0, "securityQuestionStatus": "ENABLED" });
    assert_eq!(send(app.request("GET /pin")).await.is(200), &open);

    let id = app.challenge().await;
    for _ in 0..3 {
        app.stack.circle.enter_pin(id, PinEntry::wrong()).unwrap();
    }
    let locked = json!({
        "pinStatus": "LOCKED",
        "lockedUntil": "2026-01-01T12:30:00Z",
        "failedAttempts": 3,
        "securityQuestionStatus": "ENABLED",
    });
    assert_eq!(send(app.request("GET /pin")).await.is(200), &locked);
    app.advance(30 * MINUTE);
    assert_eq!(send(app.request("GET /pin")).await.is(200), &open);

    let change = UserChange {
        pin_status: Some(FactorStatus::Unset),
        security_question_status: Some(FactorStatus::Unset),
        ..UserChange::default()
    };
    app.stack.circle.put_user(USER, change).unwrap();
    let body = send(app.request("GET /pin")).await;
    let body = body.is(200);
    assert_eq!((&body["pinStatus"], &body["securityQuestionStatus"]), (&json!("UNSET"), &json!("UNSET")));
}

#[tokio::test]
async fn users_who_have_no_pin_to_show_are_told_so() {
    let app = App::at_noon().await;
    let change = UserChange { status: Some(UserStatus::Disabled), ..UserChange::default() };
    app.stack.circle.put_user(USER, change).unwrap();
    send(app.request("GET /pin")).await.is_problem(json!({
        "title": "User disabled",
        "status": 403,
        "detail": "Circle has disabled the user. Only the app's operator can help.",
        "code": "user_disabled",
    }));
    let nobody = app.stack.sign_in("nobody-at-circle");
    send(app.anonymous("GET /pin").bearer_auth(nobody)).await.is_problem(json!({
        "title": "User not found",
        "status": 404,
        "detail": "Circle does not know the user. Create the user and a PIN with Circle's SDK first.",
        "code": "user_not_found",
        "circleCode": 155_102,
    }));
}
