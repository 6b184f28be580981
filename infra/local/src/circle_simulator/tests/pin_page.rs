//! The page for the PIN: what it serves, and what the simulator says to each entry.

use serde_json::{Value, json};
use tokio::net::TcpListener;
use uuid::Uuid;

use super::{Stage, USER, challenge_id};
use crate::circle_simulator::{ChallengeType, UserChange};
use crate::server::Server;

/// A page with a challenge of a user whose PIN is 135790.
struct Page {
    stage: Stage,
    server: Server,
    token: String,
    challenge: Uuid,
}

impl Page {
    async fn new(challenge_type: ChallengeType) -> Self {
        let stage = Stage::with_user().await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = stage.circle.serve_pin_page(listener).unwrap();
        let token = stage.token(USER).await;
        let created = match challenge_type {
            ChallengeType::ChangePin => stage.change_pin(&token).await,
            ChallengeType::RestorePin => stage.restore_pin(&token).await,
        };
        Self { challenge: challenge_id(&created), stage, server, token }
    }

    async fn ask(&self, action: &str, entry: Value) -> Value {
        self.ask_as(&self.token, &self.challenge.to_string(), action, entry).await
    }

    async fn ask_as(&self, token: &str, challenge: &str, action: &str, mut entry: Value) -> Value {
        entry["userToken"] = token.into();
        let url = format!("{}/challenges/{challenge}/{action}", self.server.url());
        let request = self.stage.http.post(url).header("content-type", "application/json");
        let response = request.body(entry.to_string()).send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["cache-control"], "no-store");
        serde_json::from_str(&response.text().await.unwrap()).unwrap()
    }

    fn status(&self) -> (&'static str, Option<i32>) {
        let view = self.stage.circle.challenge(self.challenge).unwrap();
        (view.status, view.error_code)
    }
}

fn code(reply: &Value) -> &Value {
    &reply["error"]["code"]
}

#[tokio::test]
async fn page_loads_nothing_from_elsewhere() {
    let page = Page::new(ChallengeType::ChangePin).await;
    for (path, content_type) in
        [("/", "text/html"), ("/pin-page.js", "text/javascript"), ("/pin-page.css", "text/css")]
    {
        let response = page.stage.http.get(format!("{}{path}", page.server.url())).send().await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
        let headers = response.headers();
        assert!(headers["content-type"].to_str().unwrap().starts_with(content_type), "{path}");
        assert!(headers["content-security-policy"].to_str().unwrap().starts_with("default-src 'none'"));
    }
}

#[tokio::test]
async fn right_pin_and_a_new_one_complete_the_challenge() {
    let page = Page::new(ChallengeType::ChangePin).await;
    let opened = page.ask("open", json!({})).await;
    assert_eq!(opened["type"], "CHANGE_PIN");
    assert_eq!(page.status().0, "IN_PROGRESS");
    assert_eq!(page.ask("check", json!({"pin": "135790"})).await, json!({}));
    assert_eq!(page.status().0, "IN_PROGRESS");
    assert_eq!(page.ask("finish", json!({"pin": "135790", "newPin": "246801"})).await, json!({}));
    assert_eq!(page.status().0, "COMPLETE");

    let next = challenge_id(&page.stage.change_pin(&page.token).await).to_string();
    let old = page.ask_as(&page.token, &next, "check", json!({"pin": "135790"})).await;
    assert_eq!(*code(&old), 155_112);
    assert_eq!(page.ask_as(&page.token, &next, "check", json!({"pin": "246801"})).await, json!({}));
}

#[tokio::test]
async fn third_wrong_pin_locks() {
    let page = Page::new(ChallengeType::ChangePin).await;
    page.ask("open", json!({})).await;
    for left in [2, 1] {
        let reply = page.ask("check", json!({"pin": "000000"})).await;
        let expected = json!({"code": 155_112, "message": "The PIN is wrong", "attemptsLeft": left});
        assert_eq!(reply["error"], expected);
    }
    let reply = page.ask("check", json!({"pin": "000000"})).await;
    assert_eq!(*code(&reply), 155_119);
    assert_eq!(reply["error"]["lockedUntil"], "2026-01-01T12:30:00Z");
    assert_eq!(page.status(), ("FAILED", Some(155_119)));
    assert_eq!(*code(&page.ask("check", json!({"pin": "135790"})).await), 155_119);
}

#[tokio::test]
async fn right_answers_restore_the_pin() {
    let page = Page::new(ChallengeType::RestorePin).await;
    let opened = page.ask("open", json!({})).await;
    assert_eq!(opened["questions"].as_array().unwrap().len(), 2);
    let wrong = page.ask("check", json!({"answers": ["Rex", "Rome"]})).await;
    assert_eq!((code(&wrong), &wrong["error"]["attemptsLeft"]), (&json!(155_115), &json!(2)));
    let answers = json!(["rex ", "OSLO"]);
    assert_eq!(page.ask("check", json!({"answers": answers})).await, json!({}));
    assert_eq!(page.ask("finish", json!({"answers": answers, "newPin": "246801"})).await, json!({}));
    assert_eq!(page.status().0, "COMPLETE");
}

#[tokio::test]
async fn users_can_have_answers_of_their_own() {
    let page = Page::new(ChallengeType::RestorePin).await;
    let answers = ["Fido", "Lima"].map(str::to_owned);
    let change = UserChange { security_answers: Some(answers.clone()), ..UserChange::default() };
    page.stage.circle.put_user(USER, change).unwrap();
    assert_eq!(*code(&page.ask("check", json!({"answers": ["Rex", "Oslo"]})).await), 155_115);
    assert_eq!(page.ask("check", json!({"answers": answers})).await, json!({}));
}

#[tokio::test]
async fn third_wrong_answers_lock() {
    let page = Page::new(ChallengeType::RestorePin).await;
    for expected in [155_115, 155_115, 155_120] {
        assert_eq!(*code(&page.ask("check", json!({"answers": ["no", "no"]})).await), expected);
    }
    assert_eq!(page.status(), ("FAILED", Some(155_120)));
}

#[tokio::test]
async fn weak_new_pins_are_rejected() {
    let page = Page::new(ChallengeType::ChangePin).await;
    for weak in ["000000", "999999", "123456", "987654", "234567"] {
        let reply = page.ask("finish", json!({"pin": "135790", "newPin": weak})).await;
        assert_eq!(*code(&reply), 155_704, "{weak}");
        assert_eq!(*code(&page.ask("check-new", json!({"newPin": weak})).await), 155_704, "{weak}");
    }
    for malformed in ["", "12345", "1234567", "12345a", "１２３５６７"] {
        assert_eq!(*code(&page.ask("check-new", json!({"newPin": malformed})).await), 2, "{malformed}");
    }
    for strong in ["112233", "121212", "123457", "890123"] {
        assert_eq!(page.ask("check-new", json!({"newPin": strong})).await, json!({}), "{strong}");
    }
    assert_eq!(page.status().0, "PENDING");
}

#[tokio::test]
async fn locked_pin_fails_the_challenge_when_the_page_opens() {
    let page = Page::new(ChallengeType::ChangePin).await;
    let locked = serde_json::from_value(json!({"pinStatus": "LOCKED"})).unwrap();
    page.stage.circle.change_user(USER, locked).unwrap();
    let reply = page.ask("open", json!({})).await;
    assert_eq!(
        (code(&reply), &reply["error"]["lockedUntil"]),
        (&json!(155_119), &json!("2026-01-01T12:30:00Z"))
    );
    assert_eq!(page.status(), ("FAILED", Some(155_119)));
}

#[tokio::test]
async fn user_who_cancels_fails_the_challenge_unless_a_knob_says_otherwise() {
    let page = Page::new(ChallengeType::ChangePin).await;
    page.stage.circle.set_knobs(|knobs| knobs.cancel_fails_challenge = false);
    assert_eq!(page.ask("cancel", json!({})).await, json!({}));
    assert_eq!(page.status(), ("PENDING", None));
    page.stage.circle.set_knobs(|knobs| knobs.cancel_fails_challenge = true);
    page.ask("cancel", json!({})).await;
    assert_eq!(page.status(), ("FAILED", Some(155_701)));
    assert_eq!(*code(&page.ask("open", json!({})).await), 155_701);
}

#[tokio::test]
async fn page_serves_only_the_users_own_open_challenge() {
    let page = Page::new(ChallengeType::ChangePin).await;
    let id = page.challenge.to_string();
    page.stage.circle.put_user("stranger", UserChange::with_pin("135790")).unwrap();
    let stranger = page.stage.token("stranger").await;
    assert_eq!(*code(&page.ask_as(&stranger, &id, "open", json!({})).await), 155_116);
    assert_eq!(*code(&page.ask_as("no token", &id, "open", json!({})).await), 155_105);
    assert_eq!(*code(&page.ask_as(&page.token, "no-uuid", "open", json!({})).await), 155_116);
    assert_eq!(*code(&page.ask("unknown", json!({})).await), 2);
    assert_eq!(*code(&page.ask("check", json!({"answers": ["Rex", "Oslo"]})).await), 1);

    page.stage.circle.forget_user_tokens(USER);
    assert_eq!(*code(&page.ask("open", json!({})).await), 155_103);
    let token = page.stage.token(USER).await;
    page.stage.circle.advance_clock(std::time::Duration::from_secs(3600));
    assert_eq!(*code(&page.ask_as(&token, &id, "open", json!({})).await), 155_104);

    let token = page.stage.token(USER).await;
    let finish = json!({"pin": "135790", "newPin": "246801"});
    assert_eq!(page.ask_as(&token, &id, "finish", finish.clone()).await, json!({}));
    assert_eq!(*code(&page.ask_as(&token, &id, "finish", finish).await), 155_116);
}
