use lambda_http::RequestExt;
use lambda_http::request::RequestContext;

use super::*;

fn response() -> Value {
    json!({ "statusCode": 200, "headers": {}, "multiValueHeaders": {}, "cookies": [], "isBase64Encoded": false })
}

#[tokio::test]
async fn authorized_request_becomes_a_complete_event() {
    let lambda = Lambda::with_response(200, response()).await;
    let fixture = Fixture::new(lambda.backend()).await;
    let mut claims = fixture.issuer.claims("user-12345", AUDIENCE, HOUR);
    claims["email_verified"] = true.into();
    claims["groups"] = json!(["admin", "beta"]);
    let token = fixture.issuer.sign(&claims);
    let response = fixture
        .request("POST", "/challenges?b=2&a=1&b=%C3%BC%20x&empty")
        .bearer_auth(&token)
        .header("User-Agent", "test/1")
        .header("Content-Type", "application/json")
        .header("X-Twice", "first")
        .header("X-Twice", "second")
        .header("X-Forwarded-For", "203.0.113.9")
        .header("Cookie", "theme=dark; lang=en")
        .body(r#"{"type": "CHANGE_PIN"}"#)
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 200);
    let request_id = response.headers()["apigw-requestid"].to_str().unwrap().to_owned();
    let (function, event) = lambda.invocation();
    assert_eq!(function, "create-challenge");
    let host = fixture.api.url().strip_prefix("http://").unwrap();
    let trace_id = event["headers"]["x-amzn-trace-id"].as_str().unwrap();
    assert!(trace_id.starts_with("Root=1-695661c0-") && trace_id.len() == 40, "{trace_id}");
    let expected = json!({
        "version": "2.0",
        "routeKey": "POST /challenges",
        "rawPath": "/challenges",
        "rawQueryString": "b=2&a=1&b=%C3%BC%20x&empty",
        "cookies": ["theme=dark", "lang=en"],
        "headers": {
            "accept": "*/*",
            "authorization": format!("Bearer {token}"),
            "content-length": "22",
            "content-type": "application/json",
            "host": host,
            "user-agent": "test/1",
            "x-amzn-trace-id": trace_id,
            "x-forwarded-for": "203.0.113.9, 127.0.0.1",
            "x-forwarded-port": host.rsplit_once(':').unwrap().1,
            "x-forwarded-proto": "http",
            "x-twice": "first,second",
        },
        "queryStringParameters": { "a": "1", "b": "2,ü x", "empty": "" },
        "requestContext": {
            "accountId": "000000000000",
            "apiId": "local",
            "authorizer": {
                "jwt": {
                    "claims": {
                        "aud": "circle-pin-reset",
                        "email_verified": "true",
                        "auth_time": "1767268800",
                        "exp": "1767272400",
                        "groups": "[admin beta]",
                        "iat": "1767268800",
                        "iss": fixture.issuer.url(),
                        "sub": "user-12345",
                    },
                    "scopes": null,
                },
            },
            "domainName": "127.0.0.1",
            "domainPrefix": "127",
            "http": {
                "method": "POST",
                "path": "/challenges",
                "protocol": "HTTP/1.1",
                "sourceIp": "127.0.0.1",
                "userAgent": "test/1",
            },
            "requestId": request_id,
            "routeKey": "POST /challenges",
            "stage": "$default",
            "time": "01/Jan/2026:12:00:00 +0000",
            "timeEpoch": 1_767_268_800_250_i64,
        },
        "body": "{\"type\": \"CHANGE_PIN\"}",
        "isBase64Encoded": false,
    });
    assert_eq!(event, expected);
}

#[tokio::test]
async fn path_parameter_is_decoded() {
    let lambda = Lambda::with_response(200, response()).await;
    let fixture = Fixture::new(lambda.backend()).await;
    fixture.signed_in("GET", "/challenges/a%20b%2Fc").send().await.unwrap();
    let (function, event) = lambda.invocation();
    assert_eq!(function, "get-challenge");
    assert_eq!(event["routeKey"], "GET /challenges/{challengeId}");
    assert_eq!(event["rawPath"], "/challenges/a b/c");
    assert_eq!(event["pathParameters"], json!({ "challengeId": "a b/c" }));
    assert_eq!(event.get("body"), None);
    assert_eq!(event.get("cookies"), None);
    assert_eq!(event.get("queryStringParameters"), None);
}

#[tokio::test]
async fn webhook_has_no_claims_and_its_body_is_unchanged() {
    let lambda = Lambda::with_response(200, response()).await;
    let fixture = Fixture::new(lambda.backend()).await;
    let send = async |content_type: &'static str, body: &'static [u8]| {
        let request = fixture.request("POST", "/webhooks/circle").header("content-type", content_type);
        assert_eq!(request.body(body).send().await.unwrap().status(), 200);
        let (function, event) = lambda.invocation();
        assert_eq!(function, "receive-webhook");
        assert_eq!(event["requestContext"].get("authorizer"), None);
        assert_eq!(event["requestContext"]["http"]["sourceIp"], "127.0.0.1");
        (event["body"].as_str().unwrap().to_owned(), event["isBase64Encoded"] == true)
    };
    assert_eq!(send("application/json", b"{ \"a\":1}\n").await, ("{ \"a\":1}\n".to_owned(), false));
    assert_eq!(send("application/json", b"\xff\x00").await, ("/wA=".to_owned(), true));
    assert_eq!(send("application/octet-stream", b"{}").await, ("e30=".to_owned(), true));
}

#[tokio::test]
async fn head_is_a_separate_route() {
    let lambda = Lambda::with_response(200, response()).await;
    let fixture = Fixture::new(lambda.backend()).await;
    let response = fixture.request("HEAD", "/webhooks/circle").send().await.unwrap();
    assert_eq!(parts_of(response).await, (200, vec![], String::new()));
    let (function, event) = lambda.invocation();
    assert_eq!(function, "receive-webhook");
    assert_eq!(event["routeKey"], "HEAD /webhooks/circle");
    assert_eq!(event["requestContext"]["http"]["method"], "HEAD");
}

#[tokio::test]
async fn handler_in_this_process_receives_the_event_as_a_request() {
    let seen = Arc::<Mutex<Option<lambda_http::Request>>>::default();
    let backend = in_process({
        let seen = seen.clone();
        move |request| {
            *seen.lock().unwrap() = Some(request);
            std::future::ready(ok(""))
        }
    });
    let fixture = Fixture::new(backend).await;
    let request = fixture.signed_in("GET", "/challenges/c-1").header("x-user-token", "token").send();
    let request_id = request.await.unwrap().headers()["apigw-requestid"].clone();
    let request = seen.lock().unwrap().take().unwrap();
    assert_eq!(request.method(), "GET");
    assert_eq!(request.uri().path(), "/challenges/c-1");
    assert_eq!(request.headers()["x-user-token"], "token");
    assert_eq!(request.path_parameters().first("challengeId"), Some("c-1"));
    let RequestContext::ApiGatewayV2(context) = request.request_context() else { panic!("payload 2.0") };
    assert_eq!(context.request_id.unwrap(), request_id.to_str().unwrap());
    assert_eq!(context.authorizer.unwrap().jwt.unwrap().claims["sub"], "user-12345");
    assert_eq!(context.http.source_ip.as_deref(), Some("127.0.0.1"));
    let context = request.lambda_context();
    assert_eq!(context.request_id.len(), 36);
    assert_eq!(context.deadline, 1_767_268_810_250);
    let arn = "arn:aws:lambda:us-east-1:000000000000:function:get-challenge";
    assert_eq!(context.invoked_function_arn, arn);
}
