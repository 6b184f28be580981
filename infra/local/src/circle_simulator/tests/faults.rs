use std::io::ErrorKind;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::circle_simulator::{ConnectionEnd, Fault, RateLimits};

fn status(status: u16) -> Fault {
    Fault { status: Some(status), ..Fault::default() }
}

#[tokio::test]
async fn fault_replaces_the_next_responses_with_any_error() {
    let stage = Stage::with_user().await;
    stage.circle.add_fault(Fault {
        times: 2,
        code: Some(3),
        message: Some("not for you".to_owned()),
        ..status(403)
    });
    let path = format!("/v1/w3s/users/{USER}");
    for _ in 0..2 {
        let reply = stage.get(&path, None).await;
        assert_eq!((reply.status, reply.body), (403, json!({"code": 3, "message": "not for you"})));
    }
    assert_eq!(stage.get(&path, None).await.status, 200);
    assert_eq!(stage.circle.call_count("GET /v1/w3s/users/{userId}"), 3);
}

#[tokio::test]
async fn fault_can_set_retry_after() {
    let stage = Stage::with_user().await;
    stage.circle.add_fault(Fault { retry_after: Some("7".to_owned()), ..status(429) });
    let reply = stage.get(&format!("/v1/w3s/users/{USER}"), None).await;
    assert_eq!(reply.error(), (429, 429));
    assert_eq!(reply.headers["Retry-After"], "7");
}

#[tokio::test]
async fn fault_applies_to_its_method_and_path_only() {
    let stage = Stage::with_user().await;
    stage.circle.add_fault(Fault {
        method: Some("put".to_owned()),
        path: Some("/v1/w3s/user/pin".to_owned()),
        ..status(500)
    });
    let token = stage.token(USER).await;
    assert_eq!(stage.restore_pin(&token).await.status, 201);
    assert_eq!(stage.change_pin(&token).await.error(), (500, -1));
    assert_eq!(stage.change_pin(&token).await.status, 201);
    stage.circle.add_fault(status(500));
    assert_eq!(stage.circle.faults(), [status(500)]);
    stage.circle.clear_faults();
    assert_eq!(stage.change_pin(&token).await.status, 201);
}

#[tokio::test]
async fn fault_can_send_a_body_that_is_not_circles() {
    let stage = Stage::with_user().await;
    stage.circle.add_fault(Fault { body: Some("<h1>Bad gateway</h1>".to_owned()), ..status(502) });
    let reply = stage.get(&format!("/v1/w3s/users/{USER}"), None).await;
    assert_eq!((reply.status, reply.body), (502, json!("<h1>Bad gateway</h1>")));
    assert_eq!(reply.headers["Content-Type"], "text/html");
    assert!(!reply.headers.contains_key("X-Request-Id"), "a gateway does not know Circle's request id");
    let headers = [("server", "cloudflare"), ("cf-ray", "1"), ("content-type", "text/plain")];
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    stage.circle.add_fault(Fault { body: Some("error code: 520".to_owned()), headers, ..status(520) });
    let reply = stage.get(&format!("/v1/w3s/users/{USER}"), None).await;
    assert_eq!((reply.status, reply.body), (520, json!("error code: 520")));
    assert_eq!(reply.headers["Content-Type"], "text/plain");
    assert_eq!(
        (&reply.headers["server"], &reply.headers["cf-ray"]),
        (&"cloudflare".parse().unwrap(), &"1".parse().unwrap())
    );
}

#[tokio::test]
async fn error_can_come_instead_of_the_effect_or_after_it() {
    let stage = Stage::with_user().await;
    let token = stage.token(USER).await;
    stage.circle.add_fault(status(500));
    assert_eq!(stage.change_pin(&token).await.status, 500);
    assert_eq!(stage.circle.challenges().len(), 0);
    stage.circle.add_fault(Fault { after_effect: true, ..status(500) });
    assert_eq!(stage.change_pin(&token).await.status, 500);
    assert_eq!(stage.circle.challenges().len(), 1);
}

#[tokio::test]
async fn connection_can_break_before_or_after_the_effect() {
    let stage = Stage::with_user().await;
    let token = stage.token(USER).await;
    let body = json!({"idempotencyKey": new_id()});
    for (after_effect, challenges) in [(false, 0), (true, 1)] {
        stage.circle.add_fault(Fault { drop: true, after_effect, ..Fault::default() });
        let broken = stage.request("PUT /v1/w3s/user/pin", Some(&token), Some(&body)).send().await;
        assert!(broken.unwrap_err().is_request());
        assert_eq!(stage.circle.challenges().len(), challenges);
    }
    let again = stage.call("PUT /v1/w3s/user/pin", Some(&token), Some(&body)).await;
    assert_eq!(again.status, 200, "a repeated call gets the lost response");
    assert_eq!(challenge_id(&again), stage.circle.challenges()[0].id);
}

#[tokio::test]
async fn delay_uses_the_simulators_clock_and_comes_before_or_after_the_effect() {
    let stage = Stage::with_user().await;
    let token = stage.token(USER).await;
    for (calls, after_effect, challenges) in [(1, false, 0), (2, true, 2)] {
        stage.circle.add_fault(Fault { delay_ms: 3000, after_effect, ..Fault::default() });
        let call = stage.change_pin(&token);
        tokio::pin!(call);
        tokio::select! {
            _ = &mut call => panic!("too early"),
            () = eventually(async || stage.circle.call_count("PUT /v1/w3s/user/pin") == calls) => {}
        }
        assert_eq!(stage.circle.challenges().len(), challenges);
        stage.circle.advance_clock(Duration::from_secs(3));
        assert_eq!(call.await.status, 201);
    }
}

#[tokio::test]
async fn call_takes_effect_even_if_the_caller_hangs_up() {
    let stage = Stage::with_user().await;
    let token = stage.token(USER).await;
    stage.circle.add_fault(Fault { delay_ms: 3000, ..Fault::default() });
    tokio::select! {
        _ = stage.change_pin(&token) => panic!("too early"),
        () = eventually(async || stage.circle.call_count("PUT /v1/w3s/user/pin") == 1) => {}
    }
    wait_briefly().await;
    assert_eq!(stage.circle.challenges().len(), 0);
    stage.circle.advance_clock(Duration::from_secs(3));
    eventually(async || stage.circle.challenges().len() == 1).await;
}

#[tokio::test]
async fn webhook_can_arrive_before_the_call_returns() {
    let stage = Stage::with_user().await;
    let receiver = stage.subscribed().await;
    let token = stage.token(USER).await;
    stage.circle.add_fault(Fault { delay_ms: 1000, after_effect: true, ..Fault::default() });
    let call = stage.change_pin(&token);
    tokio::pin!(call);
    let message = tokio::select! {
        _ = &mut call => panic!("too early"),
        messages = receiver.wait_for(2) => messages[1].clone(),
    };
    stage.circle.advance_clock(Duration::from_secs(1));
    assert_eq!(message["notification"]["id"], challenge_id(&call.await).to_string());
}

#[test]
#[should_panic(expected = "give a status, a delayMs, cutAfterBytes, drop: true or reset: true")]
fn empty_fault_is_rejected() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { Stage::new().await.circle.add_fault(Fault::default()) });
}

#[tokio::test]
async fn shared_rate_limits_apply_to_tokens_reads_and_the_rest() {
    let stage = Stage::with_user().await;
    let token = stage.token(USER).await;
    stage.circle.set_knobs(|knobs| knobs.rate_limits = RateLimits::Shared);
    for (call, limit) in [("token", 10), ("read", 20), ("write", 5)] {
        for _ in 0..2 {
            for number in 0..limit + 2 {
                let reply = match (call, number % 2) {
                    ("token", _) => stage.post("/v1/w3s/users/token", &json!({"userId": USER})).await,
                    ("read", 0) => stage.get("/v1/w3s/user", Some(&token)).await,
                    ("read", _) => stage.get(&format!("/v1/w3s/users/{USER}"), None).await,
                    (_, 0) => stage.change_pin(&token).await,
                    _ => stage.restore_pin(&token).await,
                };
                if number < limit {
                    assert!(reply.status < 300, "{call} {number}: {reply:?}");
                } else {
                    assert_eq!(reply.error(), (429, 429), "{call} {number}");
                    assert!(!reply.headers.contains_key("Retry-After"));
                }
            }
            stage.circle.advance_clock(Duration::from_secs(1));
        }
    }
    let rejected = stage.circle.rate_limited_counts();
    assert_eq!(rejected.values().sum::<u64>(), 12);
    assert_eq!(rejected["POST /v1/w3s/users/token"], 4);
    assert_eq!(rejected["PUT /v1/w3s/user/pin"], 2);
}

#[tokio::test]
async fn rate_limits_per_call_can_have_a_retry_after() {
    let stage = Stage::with_user().await;
    let token = stage.token(USER).await;
    stage.circle.set_knobs(|knobs| {
        knobs.rate_limits = RateLimits::PerCall;
        knobs.rate_limits_retry_after = true;
    });
    for _ in 0..5 {
        assert_eq!(stage.change_pin(&token).await.status, 201);
        assert_eq!(stage.restore_pin(&token).await.status, 201);
    }
    let rejected = stage.change_pin(&token).await;
    assert_eq!(rejected.error(), (429, 429));
    assert_eq!(rejected.headers["Retry-After"], "1");
    stage.circle.advance_clock(Duration::from_millis(200));
    assert_eq!(stage.change_pin(&token).await.status, 201, "a fifth of a second makes room for one call");
    assert_eq!(stage.change_pin(&token).await.status, 429);
}

/// A connection that is used without an HTTP client, so that the test sees how it ends.
struct Raw(TcpStream);

impl Raw {
    async fn connect(stage: &Stage) -> Self {
        Self(TcpStream::connect(stage.circle.url().trim_start_matches("http://")).await.unwrap())
    }

    async fn send(&mut self, stage: &Stage) {
        let key = stage.circle.api_key();
        let head = format!(
            "GET /v1/w3s/users/{USER} HTTP/1.1\r\nHost: circle\r\nAuthorization: Bearer {key}\r\n\r\n"
        );
        self.0.write_all(head.as_bytes()).await.unwrap();
    }

    /// The status of a response that ends with the user's `authMode` or another last member.
    async fn status(&mut self) -> String {
        let mut text = String::new();
        while !text.ends_with("}}}") {
            let mut bytes = [0; 4096];
            let count = self.0.read(&mut bytes).await.unwrap();
            assert_ne!(count, 0, "{text}");
            text += std::str::from_utf8(&bytes[..count]).unwrap();
        }
        text[9..12].to_owned()
    }

    /// What arrives until the connection ends, and how it ends.
    async fn end(&mut self) -> (usize, Result<(), ErrorKind>) {
        let mut bytes = Vec::new();
        let reading = self.0.read_to_end(&mut bytes);
        let end =
            shared::clock::timeout(&SystemClock, Duration::from_secs(10), reading).await.expect("in time");
        (bytes.len(), end.map(drop).map_err(|error| error.kind()))
    }
}

#[tokio::test]
async fn connection_can_be_closed_reset_or_cut_in_the_response() {
    let stage = Stage::with_user().await;
    for (fault, bytes, end) in [
        (Fault { drop: true, ..Fault::default() }, 0, Ok(())),
        (Fault { reset: true, ..Fault::default() }, 0, Err(ErrorKind::ConnectionReset)),
        (Fault { cut_after_bytes: Some(20), ..Fault::default() }, 20, Ok(())),
        (Fault { cut_after_bytes: Some(300), ..Fault::default() }, 300, Ok(())),
        (Fault { cut_after_bytes: Some(30), ..status(503) }, 30, Ok(())),
    ] {
        stage.circle.add_fault(fault.clone());
        let mut connection = Raw::connect(&stage).await;
        connection.send(&stage).await;
        assert_eq!(connection.end().await, (bytes, end), "{fault:?}");
    }
    assert_eq!(stage.get(&format!("/v1/w3s/users/{USER}"), None).await.status, 200);
}

#[tokio::test]
async fn reset_can_come_before_or_after_the_effect() {
    let stage = Stage::with_user().await;
    let token = stage.token(USER).await;
    for (after_effect, challenges) in [(false, 0), (true, 1)] {
        stage.circle.add_fault(Fault { reset: true, after_effect, ..Fault::default() });
        let body = json!({"idempotencyKey": new_id()});
        stage.request("PUT /v1/w3s/user/pin", Some(&token), Some(&body)).send().await.unwrap_err();
        assert_eq!(stage.circle.challenges().len(), challenges);
    }
}

#[tokio::test]
async fn connection_is_closed_after_its_last_response() {
    let stage = Stage::with_user().await;
    stage.circle.set_knobs(|knobs| knobs.requests_per_connection = 2);
    let mut connection = Raw::connect(&stage).await;
    for _ in 0..2 {
        connection.send(&stage).await;
        assert_eq!(connection.status().await, "200");
    }
    assert_eq!(connection.end().await, (0, Ok(())));
}

#[tokio::test]
async fn connection_is_reset_at_the_request_after_the_last() {
    let stage = Stage::with_user().await;
    stage.circle.set_knobs(|knobs| {
        knobs.requests_per_connection = 1;
        knobs.connection_end = ConnectionEnd::Reset;
    });
    let mut connection = Raw::connect(&stage).await;
    connection.send(&stage).await;
    assert_eq!(connection.status().await, "200");
    wait_briefly().await;
    connection.send(&stage).await;
    assert_eq!(connection.end().await, (0, Err(ErrorKind::ConnectionReset)));
    assert_eq!(stage.circle.call_count("GET /v1/w3s/users/{userId}"), 1);
}

#[tokio::test]
async fn idle_connection_is_closed_on_the_simulators_clock() {
    let stage = Stage::with_user().await;
    stage.circle.set_knobs(|knobs| knobs.close_idle_after_ms = 5000);
    let mut connection = Raw::connect(&stage).await;
    for _ in 0..2 {
        connection.send(&stage).await;
        assert_eq!(connection.status().await, "200");
        wait_briefly().await;
        stage.circle.advance_clock(Duration::from_millis(4999));
        wait_briefly().await;
    }
    stage.circle.advance_clock(Duration::from_millis(1));
    assert_eq!(connection.end().await, (0, Ok(())));
}
