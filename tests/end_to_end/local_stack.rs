use std::time::Duration;

use local::stack::{Stack, StackError, StackOptions};
use serde_json::json;
use shared::clock::{Clock, SystemClock};
use tokio::net::TcpListener;
use uuid::Uuid;

use crate::support::{App, DataFile, in_time, send};

#[tokio::test]
async fn a_taken_port_is_said_plainly() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = taken.local_addr().unwrap().port();
    let error = Stack::start(StackOptions { port, ..StackOptions::default() }).await.err().unwrap();
    assert!(matches!(error, StackError::PortTaken { .. }), "{error:?}");
    assert_eq!(
        error.to_string(),
        format!(
            "port {port} for the HTTP API is in use; choose another with --port PORT (0 lets the system choose)"
        )
    );
}

#[tokio::test]
async fn a_stopped_stack_frees_its_ports() {
    let app = App::start().await;
    let urls = [
        app.stack.api.url().to_owned(),
        app.stack.circle.url(),
        app.stack.dynamodb.url().to_owned(),
        app.stack.secrets_manager.url().to_owned(),
        app.stack.issuer.url().to_owned(),
    ];
    app.stack.stop().await;
    for url in urls {
        let address = url.trim_start_matches("http://");
        assert!(TcpListener::bind(address).await.is_ok(), "{url}");
    }
}

#[tokio::test]
async fn a_data_file_keeps_the_records_across_a_restart() {
    let file = DataFile::new("restart");
    let with_data =
        || App::with_options(StackOptions { data: Some(file.0.clone()), ..StackOptions::default() });
    let app = with_data().await;
    let id = app.challenge().await;
    let record = app.status(id).await;
    app.stack.stop().await;

    let app = with_data().await;
    assert_eq!(app.status(id).await, record);
    app.stack.stop().await;
}

#[tokio::test]
async fn what_has_expired_is_removed() {
    let app = App::at_noon().await;
    let id = Uuid::from_u128(1);
    app.post(&app.message(id, "COMPLETE")).await.is(200);
    in_time(async {
        app.advance(Duration::from_secs(7 * 24 * 3600));
        while !app.item(id).await.is_null() {
            app.advance(Duration::from_secs(60));
        }
    })
    .await;
}

#[tokio::test]
async fn a_page_of_another_origin_may_call_the_api() {
    let app = App::start().await;
    let preflight = app
        .anonymous("OPTIONS /challenges")
        .header("origin", "https://app.example.com")
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "authorization,idempotency-key,x-user-token");
    let answer = send(preflight).await;
    assert_eq!(answer.status, 204);
    assert_eq!(answer.headers["access-control-allow-origin"], "*");
    let allowed = answer.headers["access-control-allow-headers"].to_str().unwrap();
    for header in ["authorization", "content-type", "x-user-token", "idempotency-key"] {
        assert!(allowed.contains(header), "{allowed}");
    }
    let answer = send(app.request("GET /pin").header("origin", "https://app.example.com")).await;
    answer.is(200);
    assert_eq!(answer.headers["access-control-expose-headers"], "apigw-requestid,retry-after");
}

/// Prints how long a webhook takes, seen from outside. There is a limit for optimised code only: tests that run at
/// the same time, without optimisation, say little about it.
#[tokio::test]
async fn a_webhook_is_answered_in_a_few_milliseconds() {
    let app = App::start().await;
    app.post(&app.message(Uuid::from_u128(1), "COMPLETE")).await.is(200);
    let mut times = Vec::new();
    for number in 0..200 {
        let message = app.message(Uuid::from_u128(1000 + number), "COMPLETE");
        let before = SystemClock.now();
        assert_eq!(app.post(&message).await.is(200), &json!({ "outcome": "applied" }));
        times.push((SystemClock.now() - before).as_seconds_f64() * 1000.0);
    }
    times.sort_by(f64::total_cmp);
    println!("200 webhooks: min {:.2} ms, median {:.2} ms, max {:.2} ms", times[0], times[100], times[199]);
    assert!(cfg!(debug_assertions) || times[100] < 10.0, "the median is {} ms", times[100]);
}
