//! The server of the demo app, without the app.

use serde_json::{Value, json};
use shared::random::Random;

use crate::stack::{Stack, StackOptions};

async fn get(url: String) -> reqwest::Response {
    reqwest::Client::builder().no_proxy().build().unwrap().get(url).send().await.unwrap()
}

#[tokio::test]
async fn page_learns_where_the_other_parts_are() {
    let stack = Stack::start(StackOptions::default()).await.unwrap();
    let config: Value =
        serde_json::from_str(&get(format!("{}/config.json", stack.app_url())).await.text().await.unwrap())
            .unwrap();
    let expected = json!({
        "apiUrl": stack.api.url(),
        "issuerUrl": stack.issuer.url(),
        "pinPageUrl": stack.pin_page_url(),
    });
    assert_eq!(config, expected);
    let knobs = get(format!("{}/control/knobs", stack.app_url())).await.text().await.unwrap();
    assert_eq!(serde_json::from_str::<Value>(&knobs).unwrap(), json!(stack.circle.knobs()));
    stack.stop().await;
}

#[tokio::test]
async fn files_outside_the_app_are_not_served() {
    let stack = Stack::start(StackOptions::default()).await.unwrap();
    for path in ["..%2f..%2fCargo.toml", "%2e%2e%2fbuild.js", "no-such-file.txt"] {
        let response = get(format!("{}/{path}", stack.app_url())).await;
        // 503 while there is no app.
        assert!([404, 503].contains(&response.status().as_u16()), "{path}");
        assert!(!response.text().await.unwrap().contains("esbuild"), "{path}");
    }
    stack.stop().await;
}

#[tokio::test]
async fn feed_has_the_webhooks_the_record_and_the_events_of_a_challenge() {
    let stack = Stack::start(StackOptions::default()).await.unwrap();
    stack.add_user("somebody", "112233");
    let mut feed = get(format!("{}/feed", stack.app_url())).await;
    assert_eq!(feed.headers()["content-type"], "text/event-stream");
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let created = http
        .post(format!("{}/challenges", stack.api.url()))
        .bearer_auth(stack.sign_in("somebody"))
        .header("Idempotency-Key", Random::from_system().uuid().to_string())
        .send()
        .await
        .unwrap();
    assert_eq!(created.status(), 201);

    let mut received = String::new();
    let wanted = ["event: webhook", "event: record", "event: event", "PIN Change Requested", r#""rank":0"#];
    while !wanted.iter().all(|text| received.contains(text)) {
        let chunk = feed.chunk().await.unwrap().expect("the feed goes on");
        received.push_str(std::str::from_utf8(&chunk).unwrap());
    }
    assert!(!received.contains("112233"));
    drop(feed);
    stack.stop().await;
}
