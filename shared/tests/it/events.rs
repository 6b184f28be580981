use lambda_http::http::StatusCode;
use lambda_http::lambda_runtime::{Context, LambdaEvent};
use lambda_http::{Body, Request, RequestExt, Response};
use serde_json::{Value, json};
use shared::{identity, lambda, request};

fn event() -> Value {
    json!({
        "version": "2.0",
        "routeKey": "POST /challenges",
        "rawPath": "/challenges",
        "rawQueryString": "",
        "headers": { "host": "api.example.com", "content-type": "application/json" },
        "requestContext": {
            "accountId": "123456789012",
            "requestId": "request-1",
            "stage": "$default",
            "timeEpoch": 0,
            "http": {
                "method": "POST", "path": "/challenges", "protocol": "HTTP/1.1", "sourceIp": "192.0.2.1",
                "userAgent": "test",
            },
            "authorizer": { "jwt": { "claims": { "sub": "user-1" }, "scopes": null } },
        },
        "body": "{}",
        "isBase64Encoded": false,
    })
}

/// What a function sees of a request: the caller, the id, the source, the first query parameter `a`, and the body.
async fn echo(request: Request) -> Result<Response<Body>, std::convert::Infallible> {
    let caller = identity::caller(&request, "sub").map_or("none".into(), |caller| caller.to_string());
    let seen = json!({
        "caller": caller,
        "id": request::id(&request),
        "source": request::source_ip(&request),
        "a": request::query_parameter(&request, "a"),
        "deadline": request.lambda_context_ref().is_some(),
        "body": String::from_utf8_lossy(request.body().as_ref()),
    });
    let response = Response::builder().status(StatusCode::OK).body(Body::from(seen.to_string())).unwrap();
    Ok(response)
}

async fn seen(event: Value) -> Value {
    let response = lambda::respond(&echo, LambdaEvent::new(event, Context::default())).await.unwrap();
    let response = serde_json::to_value(response).unwrap();
    assert_eq!(response["statusCode"], 200);
    serde_json::from_str(response["body"].as_str().unwrap()).unwrap()
}

async fn seen_with(pointer: &str, value: Value) -> Value {
    let mut event = event();
    let (place, member) = pointer.rsplit_once('/').unwrap();
    event.pointer_mut(place).unwrap()[member] = value;
    seen(event).await
}

#[tokio::test]
async fn an_ordinary_event_is_a_request() {
    assert_eq!(
        seen(event()).await,
        json!({ "caller": "user-1", "id": "request-1", "source": "192.0.2.1", "a": null, "deadline": true, "body": "{}" })
    );
}

#[tokio::test]
async fn odd_parts_of_an_event_do_not_keep_it_from_a_response() {
    let ordinary = seen(event()).await;
    for (pointer, value) in [
        ("/rawPath", json!("challenges")),
        ("/rawPath", json!("/a b?c<\u{e9}")),
        ("/rawPath", json!(null)),
        ("/rawQueryString", json!("<>\"`{}|^ \u{e9}#")),
        ("/rawQueryString", json!(7)),
        ("/headers", json!(null)),
        ("/headers/host", json!("x:99999")),
        ("/headers/host", json!("a b")),
        ("/headers/x-forwarded-proto", json!("<>")),
        ("/headers/x-odd", json!("line\nbreak")),
        ("/headers/x-odd", json!({ "an": "object" })),
        ("/headers/bad name", json!("x")),
        ("/requestContext/timeEpoch", json!("never")),
        ("/requestContext/stage", json!(["prod"])),
        ("/requestContext/domainName", json!("a b:99999")),
        ("/requestContext/http/method", json!("P OST")),
        ("/requestContext/authorizer/jwt/scopes", json!("not a list")),
        ("/requestContext/authorizer/jwt/claims/exp", json!(1_787_996_002)),
        ("/requestContext/authorizer/jwt/claims/groups", json!(["a", { "b": null }])),
        ("/pathParameters", json!([1, 2])),
        ("/queryStringParameters", json!("a=b")),
        ("/cookies", json!([7, null])),
        ("/stageVariables", json!(false)),
    ] {
        assert_eq!(seen_with(pointer, value.clone()).await, ordinary, "{pointer} {value}");
    }
}

#[tokio::test]
async fn a_query_string_that_is_not_a_uris_can_still_be_read() {
    assert_eq!(seen_with("/rawQueryString", json!("a=b c")).await["a"], "b c");
    assert_eq!(seen_with("/rawQueryString", json!("a=%3C&b=<")).await["a"], "<");
}

#[tokio::test]
async fn a_caller_is_a_text_a_number_or_a_boolean_and_never_a_list() {
    let caller =
        async |claim| seen_with("/requestContext/authorizer/jwt/claims/sub", claim).await["caller"].clone();
    assert_eq!(caller(json!(1_234_567)).await, "1234567");
    assert_eq!(caller(json!(9_007_199_254_740_993_u64)).await, "9007199254740993");
    assert_eq!(caller(json!(9_007_199_254_740_991_f64)).await, "9007199254740991.0");
    assert_eq!(caller(json!(9_007_199_254_740_992_f64)).await, "none", "another number may look the same");
    assert_eq!(caller(json!(false)).await, "false");
    assert_eq!(caller(json!("[user-1")).await, "[user-1");
    assert_eq!(caller(json!("user-1]")).await, "user-1]");
    for claim in [json!(["user-1"]), json!("[user-1]"), json!({ "id": "user-1" }), json!(null)] {
        assert_eq!(caller(claim.clone()).await, "none", "{claim}");
    }
}

#[tokio::test]
async fn a_body_that_is_not_the_base64_it_claims_to_be_is_text() {
    let mut event = event();
    event["isBase64Encoded"] = true.into();
    event["body"] = "!!! not base64 !!!".into();
    assert_eq!(seen(event.clone()).await["body"], "!!! not base64 !!!");
    event["body"] = "e30=".into();
    assert_eq!(seen(event).await["body"], "{}");
}

#[tokio::test]
async fn an_event_of_any_other_shape_gets_a_response_to_nobody() {
    for event in
        [json!(null), json!([]), json!("text"), json!({}), json!({ "requestContext": 7, "headers": [] })]
    {
        assert_eq!(seen(event.clone()).await["caller"], "none", "{event}");
    }
}

#[tokio::test]
async fn a_response_keeps_its_status_headers_and_body() {
    let respond = |body: Body| async move {
        let handler = |_| {
            let response =
                Response::builder().status(201).header("location", "/challenges/1").body(body.clone());
            std::future::ready(Ok(response.unwrap()))
        };
        let response =
            lambda::respond(&handler, LambdaEvent::new(event(), Context::default())).await.unwrap();
        serde_json::to_value(response).unwrap()
    };
    for (body, text, is_base64) in [
        (Body::Empty, "", false),
        (Body::Text("{}".into()), "{}", false),
        (Body::Binary(vec![0xff, 0x00]), "/wA=", true),
    ] {
        assert_eq!(
            respond(body).await,
            json!({
                "statusCode": 201, "headers": { "location": "/challenges/1" }, "multiValueHeaders": {},
                "body": text, "isBase64Encoded": is_base64, "cookies": [],
            })
        );
    }
}
