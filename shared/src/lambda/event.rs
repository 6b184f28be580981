//! API Gateway's event as a request, with the parts that the functions use and that can be read.
//!
//! An event can hold anything that a client sent: a query string that is not a URI's, a host that is not a host, claims
//! that are not texts, a body that is not the base64 it claims to be. The conversion of `lambda_http` panics at some of these
//! and cannot read others, so this one takes its place. The functions do not use the host and the scheme.

use std::collections::HashMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use lambda_http::aws_lambda_events::apigw::{
    ApiGatewayRequestAuthorizer, ApiGatewayRequestAuthorizerJwtDescription, ApiGatewayV2httpRequestContext,
};
use lambda_http::aws_lambda_events::query_map::QueryMap;
use lambda_http::request::RequestContext;
use lambda_http::{Body, Context, Request, RequestExt};
use serde_json::Value;

/// Stands for the value of a header that HTTP does not allow, so that the header is rejected and not ignored.
const INVALID_HEADER: HeaderValue = HeaderValue::from_static("(invalid)");

/// The event as a request. Parts that cannot be read are missing in it.
pub fn request(event: &Value, context: Context) -> Request {
    let query = event["rawQueryString"].as_str().unwrap_or_default();
    let query: QueryMap = query.parse().unwrap_or_default();
    let mut request = Request::new(body(event))
        .with_query_string_parameters(query)
        .with_path_parameters(texts(&event["pathParameters"]))
        .with_request_context(RequestContext::ApiGatewayV2(request_context(&event["requestContext"])))
        .with_lambda_context(context);
    *request.method_mut() = method(&event["requestContext"]);
    *request.uri_mut() = event["rawPath"].as_str().and_then(|path| path.parse().ok()).unwrap_or_default();
    *request.headers_mut() = headers(&event["headers"]);
    request
}

fn method(context: &Value) -> Method {
    context["http"]["method"].as_str().and_then(|method| method.parse().ok()).unwrap_or(Method::GET)
}

fn request_context(context: &Value) -> ApiGatewayV2httpRequestContext {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let mut readable = ApiGatewayV2httpRequestContext::default();
    readable.request_id = text(&context["requestId"]);
    readable.route_key = text(&context["routeKey"]);
    readable.http.method = method(context);
    readable.http.source_ip = text(&context["http"]["sourceIp"]);
    readable.authorizer = authorizer(&context["authorizer"]);
    readable
}

/// The claims that the JWT authorizer verified.
fn authorizer(authorizer: &Value) -> Option<ApiGatewayRequestAuthorizer> {
    let claims = &authorizer["jwt"]["claims"];
    claims.is_object().then(|| {
        let mut jwt = ApiGatewayRequestAuthorizerJwtDescription::default();
        jwt.claims = texts(claims);
        let mut readable = ApiGatewayRequestAuthorizer::default();
        readable.jwt = Some(jwt);
        readable
    })
}

/// The headers that HTTP allows.
fn headers(headers: &Value) -> HeaderMap {
    let headers = headers.as_object().into_iter().flatten();
    let value = |value: &Value| value.as_str().and_then(|value| HeaderValue::from_str(value).ok());
    headers
        .filter_map(|(name, text)| {
            Some((name.parse::<HeaderName>().ok()?, value(text).unwrap_or(INVALID_HEADER)))
        })
        .collect()
}

/// The largest number up to which JSON readers tell all whole numbers apart, 2^53.
const MAX_EXACT: f64 = 9_007_199_254_740_992.0;

/// The members that are texts, numbers or booleans, as texts. A number that is too large to be exact is missing: its text
/// could be another user's id.
fn texts(members: &Value) -> HashMap<String, String> {
    let text = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => {
            let is_exact = !number.is_f64() || number.as_f64().is_some_and(|number| number.abs() < MAX_EXACT);
            is_exact.then(|| number.to_string())
        }
        Value::Bool(_) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    };
    let members = members.as_object().into_iter().flatten();
    members.filter_map(|(name, value)| Some((name.clone(), text(value)?))).collect()
}

/// A body that is not the base64 it claims to be is taken as text.
fn body(event: &Value) -> Body {
    let text = match &event["body"] {
        Value::Null => return Body::Empty,
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let decoded = (event["isBase64Encoded"] == true).then(|| STANDARD.decode(&text).ok()).flatten();
    decoded.map_or(Body::Text(text), Body::Binary)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(event: &Value) -> Request {
        request(event, Context::default())
    }

    fn claims(request: &Request) -> HashMap<String, String> {
        match request.request_context_ref() {
            Some(RequestContext::ApiGatewayV2(context)) => {
                context.authorizer.clone().unwrap().jwt.unwrap().claims
            }
            other => panic!("{other:?}"),
        }
    }

    fn map<const N: usize>(texts: [(&str, &str); N]) -> HashMap<String, String> {
        texts.map(|(name, text)| (name.to_owned(), text.to_owned())).into()
    }

    #[test]
    fn an_ordinary_event_keeps_what_the_functions_use() {
        let request = read(&json!({
            "version": "2.0",
            "routeKey": "GET /challenges/{challengeId}",
            "rawPath": "/challenges/1",
            "rawQueryString": "limit=5&cursor=a%20c",
            "headers": { "host": "api.example.com", "X-User-Token": "a.b.c" },
            "pathParameters": { "challengeId": "1" },
            "requestContext": {
                "accountId": "123456789012",
                "requestId": "request-1",
                "http": { "method": "POST", "sourceIp": "192.0.2.1", "userAgent": "test" },
                "authorizer": { "jwt": { "claims": { "sub": "user-1" }, "scopes": null } },
            },
            "isBase64Encoded": false,
        }));
        assert_eq!((request.method(), request.uri().path()), (&Method::POST, "/challenges/1"));
        assert_eq!(request.headers()["x-user-token"], "a.b.c");
        assert_eq!(request.query_string_parameters().first("cursor"), Some("a c"));
        assert_eq!(request.path_parameters().first("challengeId"), Some("1"));
        assert_eq!(crate::request::id(&request), "request-1");
        assert_eq!(crate::request::source_ip(&request).unwrap().to_string(), "192.0.2.1");
        assert_eq!(claims(&request), map([("sub", "user-1")]));
        assert_eq!(request.body(), &Body::Empty);
    }

    #[test]
    fn claims_that_are_numbers_or_booleans_are_texts_and_lists_are_not_claims() {
        let all = json!({ "sub": "user-1", "exp": 1_787_996_002, "verified": true, "groups": ["a"], "x": null, "id": 1e21 });
        let event = json!({ "requestContext": { "authorizer": { "jwt": { "claims": all } } } });
        assert_eq!(
            claims(&read(&event)),
            map([("sub", "user-1"), ("exp", "1787996002"), ("verified", "true")])
        );
    }

    #[test]
    fn a_header_that_http_does_not_allow_is_not_taken_as_absent() {
        let headers = json!({ "idempotency-key": "a\nb", "x-user-token": 7, "bad name": "x" });
        let request = read(&json!({ "headers": headers }));
        assert_eq!(request.headers().len(), 2);
        assert_eq!(request.headers()["idempotency-key"], INVALID_HEADER);
        assert_eq!(request.headers()["x-user-token"], INVALID_HEADER);
    }

    #[test]
    fn a_body_that_is_not_base64_is_text() {
        let mut event = json!({ "body": "!!!", "isBase64Encoded": true });
        assert_eq!(body(&event), Body::Text("!!!".into()));
        event["body"] = "e30=".into();
        assert_eq!(body(&event), Body::Binary(b"{}".to_vec()));
        event["body"] = json!({ "type": "CHANGE_PIN" });
        assert_eq!(body(&event), Body::Text(r#"{"type":"CHANGE_PIN"}"#.into()));
    }
}
