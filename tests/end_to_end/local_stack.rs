use local::stack::{Stack, StackError, StackOptions};
use shared::clock::{Clock, SystemClock};
use tokio::net::TcpListener;
use uuid::Uuid;

use crate::support::{App, DAY, DataFile, MINUTE, in_time};

#[tokio::test]
async fn port_in_use_is_named() {
    let used = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = used.local_addr().unwrap().port();
    let started = in_time(Stack::start(StackOptions { port, ..StackOptions::default() })).await;
    let error = started.err().unwrap();
    assert!(matches!(error, StackError::PortTaken { port: taken, .. } if taken == port), "{error:?}");
    let message = error.to_string();
    assert!(message.contains(&port.to_string()) && message.contains("--port"), "{message}");
}

#[tokio::test]
async fn stopped_stack_frees_its_ports() {
    let app = App::start().await;
    let urls = [
        app.stack.api.url().to_owned(),
        app.circle.url(),
        app.stack.dynamodb.url().to_owned(),
        app.stack.secrets_manager.url().to_owned(),
        app.stack.issuer.url().to_owned(),
    ];
    app.stop().await;
    for url in urls {
        let address = url.trim_start_matches("http://");
        assert!(TcpListener::bind(address).await.is_ok(), "{url}");
    }
}

#[tokio::test]
async fn data_file_keeps_records_across_a_restart() {
    let file = DataFile::new("restart");
    let start = || App::with_options(StackOptions { data: Some(file.0.clone()), ..StackOptions::default() });
    let app = start().await;
    let id = app.create_challenge().await;
    let challenge = app.challenge(id).await;
    app.stop().await;

    let app = start().await;
    assert_eq!(app.challenge(id).await, challenge);
    app.stop().await;
}

#[tokio::test]
async fn expired_record_is_removed() {
    let app = App::at_noon().await;
    let id = Uuid::from_u128(1);
    app.post_webhook(&app.message(id, "COMPLETE")).await.is(200);
    app.advance(7 * DAY);
    in_time(async {
        while !app.record(id).await.is_null() {
            app.advance(MINUTE);
        }
    })
    .await;
}

#[tokio::test]
async fn page_of_another_origin_can_call_the_api() {
    let app = App::start().await;
    let preflight = app
        .request("OPTIONS /challenges")
        .anonymous()
        .header("origin", "https://app.example.com")
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "authorization,idempotency-key,x-user-token");
    let response = preflight.send().await;
    assert_eq!(response.status, 204);
    assert_eq!(response.headers["access-control-allow-origin"], "*");
    let allowed = response.headers["access-control-allow-headers"].to_str().unwrap();
    for header in ["authorization", "content-type", "x-user-token", "idempotency-key"] {
        assert!(allowed.contains(header), "{allowed}");
    }
    let response = app.get_pin().header("origin", "https://app.example.com").send().await;
    response.is(200);
    assert_eq!(
        response.headers["access-control-expose-headers"],
        "apigw-requestid,location,retry-after,www-authenticate"
    );
}

/// Prints how long a webhook takes, seen from outside. Only optimised code has a limit: without optimisation, and
/// with other tests at the same time, the time says little.
#[tokio::test]
async fn webhook_takes_a_few_milliseconds() {
    let app = App::start().await;
    app.post_webhook(&app.message(Uuid::from_u128(1), "COMPLETE")).await.is(200);
    let mut times = Vec::new();
    for number in 0..200 {
        let message = app.message(Uuid::from_u128(1000 + number), "COMPLETE");
        let before = SystemClock.now();
        assert_eq!(app.post_webhook(&message).await.outcome(), "applied");
        times.push((SystemClock.now() - before).as_seconds_f64() * 1000.0);
    }
    times.sort_by(f64::total_cmp);
    println!("200 webhooks: min {:.2} ms, median {:.2} ms, max {:.2} ms", times[0], times[100], times[199]);
    assert!(cfg!(debug_assertions) || times[100] < 10.0, "the median is {} ms", times[100]);
}
