use lambda_http::http::Response as FunctionResponse;

use super::*;

fn pairs(headers: &[(&str, &str)]) -> Vec<(String, String)> {
    headers.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
}

#[tokio::test]
async fn response_of_a_handler_is_passed_on() {
    let backend = in_process(|_| async {
        FunctionResponse::builder()
            .status(201)
            .header("content-type", "application/problem+json")
            .header("cache-control", "no-store")
            .header("set-cookie", "a=1")
            .header("set-cookie", "b=2")
            .body(r#"{"some":"json"}"#.into())
            .unwrap()
    });
    let fixture = Fixture::new(backend).await;
    let response = fixture.signed_in("POST", "/session-tokens").send().await.unwrap();
    assert_eq!(response.headers()["content-length"], "15");
    let headers = [
        ("cache-control", "no-store"),
        ("content-type", "application/problem+json"),
        ("set-cookie", "a=1"),
        ("set-cookie", "b=2"),
    ];
    assert_eq!(parts_of(response).await, (201, pairs(&headers), r#"{"some":"json"}"#.to_owned()));
}

#[tokio::test]
async fn lambda_json_becomes_an_http_response() {
    for (json, expected) in [
        (
            json!({
                "statusCode": 423,
                "headers": { "content-type": "application/problem+json", "retry-after": "60" },
                "multiValueHeaders": { "x-more": ["1", "2"] },
                "cookies": ["a=1"],
                "body": "{}",
                "isBase64Encoded": false,
            }),
            (
                423,
                pairs(&[
                    ("content-type", "application/problem+json"),
                    ("retry-after", "60"),
                    ("set-cookie", "a=1"),
                    ("x-more", "1"),
                    ("x-more", "2"),
                ]),
                "{}",
            ),
        ),
        (
            json!({ "statusCode": 200, "body": "aGVsbG8=", "isBase64Encoded": true }),
            (200, pairs(&[("content-type", "text/plain;charset=UTF-8")]), "hello"),
        ),
        (json!({ "statusCode": 204, "body": null }), (204, vec![], "")),
    ] {
        let lambda = Lambda::with_response(200, json).await;
        let fixture = Fixture::new(lambda.backend()).await;
        let response = fixture.signed_in("POST", "/session-tokens").send().await.unwrap();
        let (status, headers, body) = expected;
        assert_eq!(parts_of(response).await, (status, headers, body.to_owned()));
    }
}

#[tokio::test]
async fn json_without_a_status_becomes_the_body() {
    for json in
        [json!({ "message": "hello", "body": "text" }), json!("text"), json!([1, { "statusCode": 500 }])]
    {
        let lambda = Lambda::with_response(200, json.clone()).await;
        let fixture = Fixture::new(lambda.backend()).await;
        let response = fixture.signed_in("POST", "/session-tokens").send().await.unwrap();
        let expected = (200, pairs(&[("content-type", "application/json")]), json.to_string());
        assert_eq!(parts_of(response).await, expected);
    }
}

#[tokio::test]
async fn failed_function_is_a_500() {
    let error = gateway_error(500, &[], "Internal Server Error");
    for (status, json) in [
        (500, json!({ "errorType": "Panic", "errorMessage": "secret" })),
        (200, json!({ "errorType": "Panic", "errorMessage": "secret" })),
        (200, json!({ "statusCode": 1 })),
        (200, json!({ "statusCode": 200, "body": "%", "isBase64Encoded": true })),
        (200, json!({ "statusCode": 200, "headers": { "bad name": "1" } })),
    ] {
        let lambda = Lambda::with_response(status, json.clone()).await;
        let fixture = Fixture::new(lambda.backend()).await;
        let response = fixture.signed_in("POST", "/session-tokens").send().await.unwrap();
        assert_eq!(parts_of(response).await, error, "{json}");
    }
    let fixture = Fixture::new(Backend::InProcess([].into())).await;
    let response = fixture.signed_in("POST", "/session-tokens").send().await.unwrap();
    assert_eq!(parts_of(response).await, error, "the function has no handler");
}

#[tokio::test]
async fn unreachable_functions_are_a_503() {
    let unused = listener().await.local_addr().unwrap();
    let fixture =
        Fixture::new(Backend::LambdaEndpoint(LambdaEndpoint::new(format!("http://{unused}")))).await;
    let response = fixture.signed_in("POST", "/session-tokens").send().await.unwrap();
    assert_eq!(parts_of(response).await, gateway_error(503, &[], "Service Unavailable"));
}

#[tokio::test]
async fn panic_of_a_function_fails_its_request_only() {
    let backend = in_process(|request| async move {
        assert!(request.uri().path() != "/session-tokens", "this panic is part of the test");
        ok("alive")
    });
    let fixture = Fixture::new(backend).await;
    let error = gateway_error(500, &[], "Internal Server Error");
    let response = fixture.signed_in("POST", "/session-tokens").send().await.unwrap();
    assert_eq!(parts_of(response).await, error);
    // The host is not valid in a URL, which does not matter.
    let response = fixture.signed_in("POST", "/challenges").header("host", "[").send().await.unwrap();
    assert_eq!(response.text().await.unwrap(), "alive");
    let response = fixture.signed_in("POST", "/challenges").send().await.unwrap();
    assert_eq!(response.text().await.unwrap(), "alive");
}

#[tokio::test]
async fn function_that_times_out_is_a_500() {
    let (started, mut waiting) = tokio::sync::mpsc::unbounded_channel();
    let backend = in_process(move |request| {
        let started = started.clone();
        async move {
            if request.uri().path() == "/session-tokens" {
                started.send(()).unwrap();
                std::future::pending::<()>().await;
            }
            ok("in time")
        }
    });
    let fixture = Fixture::new(backend).await;
    let (clock, token) = (fixture.clock.clone(), fixture.token());
    let response = fixture.signed_in("POST", "/session-tokens").send();
    let time_passes = async {
        waiting.recv().await.unwrap();
        // The clock is frozen, so the timeout has started at the time that it shows now.
        clock.advance(FUNCTION_TIMEOUT);
    };
    let (response, ()) = tokio::join!(response, time_passes);
    assert_eq!(parts_of(response.unwrap()).await, gateway_error(500, &[], "Internal Server Error"));
    let response = fixture.request("POST", "/challenges").bearer_auth(token).send().await.unwrap();
    assert_eq!(response.text().await.unwrap(), "in time");
}

#[tokio::test]
async fn function_continues_if_the_caller_hangs_up() {
    let (progress, mut seen) = tokio::sync::mpsc::unbounded_channel();
    let (go_on, hung_up) = tokio::sync::watch::channel(false);
    let backend = in_process(move |_| {
        let (progress, mut hung_up) = (progress.clone(), hung_up.clone());
        async move {
            progress.send("started").unwrap();
            hung_up.wait_for(|hung_up| *hung_up).await.unwrap();
            progress.send("finished").unwrap();
            ok("")
        }
    });
    let fixture = Fixture::new(backend).await;
    let call = tokio::spawn(fixture.signed_in("POST", "/session-tokens").send());
    assert_eq!(seen.recv().await, Some("started"));
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
    go_on.send(true).unwrap();
    assert_eq!(seen.recv().await, Some("finished"));
}

#[tokio::test]
async fn unknown_route_is_a_404() {
    let fixture = Fixture::new(in_process(|_| async { ok("") })).await;
    for (method, path) in [
        ("GET", "/"),
        ("GET", "/session-tokens"),
        ("HEAD", "/challenges/1"),
        ("DELETE", "/challenges/1"),
        ("GET", "/challenges/"),
        ("GET", "/challenges/1/"),
        ("GET", "/challenges/1/2"),
        ("POST", "/challenges/"),
        ("POST", "//challenges"),
        ("GET", "/webhooks/circle"),
        ("POST", "/webhooks/Circle"),
        ("POST", "/2015-03-31/functions/create-token/invocations"),
    ] {
        let response = parts_of(fixture.request(method, path).send().await.unwrap()).await;
        let mut expected = gateway_error(404, &[], "Not Found");
        if method == "HEAD" {
            expected.2.clear();
        }
        assert_eq!(response, expected, "{method} {path}");
    }
}

#[tokio::test]
async fn body_above_ten_megabytes_is_a_413() {
    let fixture = Fixture::new(in_process(|_| async { panic!("no function may be called") })).await;
    let send = async |size: usize| {
        let request = fixture.request("POST", "/webhooks/circle").header("content-type", "text/plain");
        parts_of(request.body(vec![b'x'; size]).send().await.unwrap()).await
    };
    assert_eq!(send(BODY_LIMIT).await, gateway_error(413, &[], "Request Too Long"));
    assert_eq!(send(BODY_LIMIT + 1).await, gateway_error(413, &[], "Request Entity Too Large"));
}

#[tokio::test]
async fn event_above_six_megabytes_is_a_413_with_every_backend() {
    let lambda = Lambda::with_response(200, json!({ "statusCode": 200 })).await;
    let elsewhere = Fixture::new(lambda.backend()).await;
    let here = Fixture::new(in_process(|_| async { ok("") })).await;
    let send = async |fixture: &Fixture, content_type: &str, size: usize| {
        let request = fixture.request("POST", "/webhooks/circle").header("content-type", content_type);
        parts_of(request.body(vec![b'x'; size]).send().await.unwrap()).await
    };
    // The event contains the length of the body, so this length has as many digits as the limit.
    let some = 1_000_000;
    assert_eq!(send(&elsewhere, "text/plain", some).await.0, 200);
    let around_the_body = lambda.invocation().1.to_string().len() - some;
    let most = EVENT_LIMIT - around_the_body;
    let too_long = gateway_error(413, &[], "Request Too Long");
    for fixture in [&elsewhere, &here] {
        assert_eq!(send(fixture, "text/plain", most).await.0, 200);
        assert_eq!(send(fixture, "text/plain", most + 1).await, too_long);
        // Base64 makes the body a third longer.
        assert_eq!(send(fixture, "application/x-binary", most * 4 / 5).await, too_long);
    }
    lambda.invocation();
}

#[tokio::test]
async fn gateway_responds_to_preflight_requests() {
    let fixture = Fixture::new(in_process(|_| async { panic!("no function may be called") })).await;
    let preflight = async |origin: &str, asks_for: Option<&str>| {
        let mut request = fixture.request("OPTIONS", "/challenges").header("origin", origin);
        if let Some(method) = asks_for {
            request = request.header("access-control-request-method", method);
        }
        parts_of(request.send().await.unwrap()).await
    };
    let allowed = [
        ("access-control-allow-headers", "authorization,content-type,idempotency-key,x-user-token"),
        ("access-control-allow-methods", "GET,POST"),
        ("access-control-allow-origin", "https://app.example.com"),
        ("access-control-max-age", "300"),
    ];
    assert_eq!(
        preflight("https://app.example.com", Some("POST")).await,
        (204, pairs(&allowed), String::new())
    );
    let nothing = (204, vec![], String::new());
    assert_eq!(preflight("https://app.example.com", None).await, nothing);
    assert_eq!(preflight("https://evil.example.com", Some("POST")).await, nothing);
}

#[tokio::test]
async fn response_to_an_allowed_origin_has_the_gateways_cors_headers() {
    let backend = in_process(|_| async {
        let response = FunctionResponse::builder().header("access-control-allow-origin", "https://function");
        response.header("access-control-allow-credentials", "true").body("x".into()).unwrap()
    });
    let fixture = Fixture::new(backend).await;
    let cors = [
        ("access-control-allow-origin", "https://app.example.com"),
        ("access-control-expose-headers", "apigw-requestid,location,retry-after,www-authenticate"),
    ];
    let text = ("content-type", "text/plain;charset=UTF-8");
    let from = |origin| fixture.signed_in("GET", "/challenges/1").header("origin", origin).send();
    let allowed = from("https://app.example.com").await.unwrap();
    assert_eq!(parts_of(allowed).await, (200, pairs(&[cors[0], cors[1], text]), "x".to_owned()));
    let rejected = from("https://app.example.com.evil.example").await.unwrap();
    assert_eq!(parts_of(rejected).await, (200, pairs(&[text]), "x".to_owned()));
    let unknown = fixture.request("GET", "/none").header("origin", "https://app.example.com").send();
    let mut expected = gateway_error(404, &cors, "Not Found");
    expected.1.sort();
    assert_eq!(parts_of(unknown.await.unwrap()).await, expected);
}

#[tokio::test]
async fn origins_can_be_any_or_all_of_a_scheme_or_none() {
    for (configured, origin, allowed) in [
        ("*", "http://localhost:3000", Some("*")),
        ("https://*", "https://a.example.com", Some("https://a.example.com")),
        ("https://*", "http://a.example.com", None),
        ("http://localhost:3000", "http://localhost:30001", None),
    ] {
        let fixture = Fixture::with_origins(in_process(|_| async { ok("") }), &[configured]).await;
        let response = fixture.request("GET", "/none").header("origin", origin).send().await.unwrap();
        let header = response.headers().get("access-control-allow-origin");
        assert_eq!(header.map(|value| value.to_str().unwrap()), allowed, "{configured} {origin}");
    }
    let fixture = Fixture::with_origins(in_process(|_| async { ok("") }), &[]).await;
    let preflight = fixture.request("OPTIONS", "/challenges").header("origin", "https://app.example.com");
    let response = preflight.header("access-control-request-method", "POST").send().await.unwrap();
    assert_eq!(parts_of(response).await, gateway_error(404, &[], "Not Found"));
}

#[tokio::test]
async fn routes_are_throttled_one_by_one_on_the_stacks_clock() {
    let fixture = Fixture::with_origins(in_process(|_| async { ok("") }), &["https://app.example.com"]).await;
    let origin = "https://app.example.com";
    let accepted = async |method: &str, path: &str| {
        let mut accepted = 0;
        loop {
            let response = fixture.signed_in(method, path).header("origin", origin).send().await.unwrap();
            if response.status() == 429 {
                assert_eq!(response.headers()["access-control-allow-origin"], origin);
                break (accepted, parts_of(response).await.2);
            }
            assert_eq!(response.status(), 200);
            accepted += 1;
        }
    };
    let body = json!({ "message": "Too Many Requests" }).to_string();
    for (method, path, rate, burst) in [
        ("POST", "/session-tokens", 50, 100),
        ("POST", "/challenges", 50, 100),
        ("GET", "/challenges", 50, 100),
        ("GET", "/challenges/1", 50, 100),
        ("GET", "/pin", 50, 100),
        ("POST", "/webhooks/circle", 100, 200),
    ] {
        assert_eq!(accepted(method, path).await, (burst, body.clone()), "{method} {path}");
        fixture.clock.advance(Duration::from_secs(1));
        assert_eq!(accepted(method, path).await, (rate, body.clone()), "{method} {path} after a second");
    }
    assert_eq!(accepted("HEAD", "/webhooks/circle").await, (200, String::new()));
    fixture.clock.advance(Duration::from_secs(1));
    assert_eq!(accepted("HEAD", "/webhooks/circle").await, (100, String::new()));
}

/// The order of the throttle and the authorizer: the harsher of the two that are possible.
#[tokio::test]
async fn requests_without_a_token_use_up_the_throttle() {
    let fixture = Fixture::new(in_process(|_| async { ok("") })).await;
    for _ in 0..100 {
        assert_eq!(fixture.request("GET", "/pin").send().await.unwrap().status(), 401);
    }
    assert_eq!(fixture.signed_in("GET", "/pin").send().await.unwrap().status(), 429);
}
