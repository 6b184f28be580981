//! The server of the demo app, without the app.

use std::fs;

use serde_json::{Value, json};
use shared::random::Random;
use tokio::net::TcpListener;

use super::{Web, bundle, router};
use crate::server::Server;
use crate::sources::Sources;
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
async fn only_files_of_the_app_are_served() {
    let stack = Stack::start(StackOptions::default()).await.unwrap();
    let sources = bundle::tests::sources("served");
    fs::create_dir_all(sources.join("dist")).unwrap();
    for file in ["index.html", "app.js", "sdk-A1.js.map", "secret.txt"] {
        fs::write(sources.join("dist").join(file), file).unwrap();
    }
    let web = Web {
        sources: Sources {
            api_url: "http://api".to_owned(),
            issuer_url: "http://issuer".to_owned(),
            pin_page_url: "http://pin-page".to_owned(),
            ..stack.sources.clone()
        },
        bundler: bundle::tests::bundler(sources),
        incident: std::sync::Arc::default(),
    };
    let mut server = Server::start(TcpListener::bind("127.0.0.1:0").await.unwrap(), router(web)).unwrap();
    for (path, file) in [("/", "index.html"), ("/app.js", "app.js"), ("/sdk-A1.js.map", "sdk-A1.js.map")] {
        let response = get(format!("{}{path}", server.url())).await;
        assert_eq!(response.status(), 200, "{path}");
        let policy = response.headers()["content-security-policy"].to_str().unwrap();
        assert!(policy.contains("connect-src 'self' http://api http://issuer; frame-src http://pin-page "));
        assert_eq!(response.text().await.unwrap(), file);
    }
    // `build.js` is beside the app's folder.
    for path in
        ["/..%2fbuild.js", "/%2e%2e%2fbuild.js", "/..%5cbuild.js", "/secret.txt", "/no-such.js", "/app"]
    {
        assert_eq!(get(format!("{}{path}", server.url())).await.status(), 404, "{path}");
    }
    server.stop().await;
    stack.stop().await;
    fs::remove_dir_all(sources).unwrap();
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
