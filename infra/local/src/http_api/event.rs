//! The event for a function, in API Gateway's payload format 2.0.
//!
//! <https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html>

use std::collections::BTreeMap;
use std::net::SocketAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::request::Parts;
use http::{HeaderMap, header};
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::format_description::StaticFormatDescription;
use time::macros::format_description;

use super::{ACCOUNT_ID, Route};

const API_ID: &str = "local";

/// For example `12/Mar/2020:19:03:58 +0000`.
const COMMON_LOG_TIME: StaticFormatDescription =
    format_description!("[day]/[month repr:short]/[year]:[hour]:[minute]:[second] +0000");

/// An authorized request with its route.
pub(super) struct Accepted<'a> {
    pub(super) parts: &'a Parts,
    pub(super) body: &'a [u8],
    pub(super) peer: SocketAddr,
    pub(super) route: &'static Route,
    /// Names and values. The values are percent-encoded.
    pub(super) path_parameters: Vec<(&'static str, &'a str)>,
    /// `None` if the route does not require a token.
    pub(super) claims: Option<Map<String, Value>>,
    pub(super) request_id: &'a str,
    pub(super) trace_id: String,
    pub(super) time: OffsetDateTime,
}

/// The event for an accepted request.
pub(super) fn event(request: Accepted<'_>) -> Value {
    let uri = &request.parts.uri;
    let route_key = format!("{} {}", request.route.method, request.route.path);
    let headers = headers(&request);
    let host = headers.get("host").map_or("localhost", String::as_str);
    let domain_name = host.rsplit_once(':').map_or(host, |(name, _port)| name);
    let query = uri.query().unwrap_or_default();
    // API Gateway decodes the path and leaves the query encoded. Captured events are in
    // <https://github.com/middleapi/standard-server/pull/93>.
    let path = percent_decoded(uri.path());
    let mut context = json!({
        "accountId": ACCOUNT_ID,
        "apiId": API_ID,
        "domainName": domain_name,
        "domainPrefix": domain_name.split('.').next(),
        "http": {
            "method": request.parts.method.as_str(),
            "path": path,
            "protocol": format!("{:?}", request.parts.version),
            "sourceIp": request.peer.ip().to_string(),
            "userAgent": headers.get("user-agent").map_or("", String::as_str),
        },
        "requestId": request.request_id,
        "routeKey": route_key,
        "stage": "$default",
        "time": request.time.format(COMMON_LOG_TIME).expect("any time can be formatted"),
        "timeEpoch": (request.time.unix_timestamp_nanos() / 1_000_000) as i64,
    });
    if let Some(claims) = request.claims {
        let claims: Map<String, Value> = claims
            .iter()
            .filter_map(|(name, claim)| Some((name.clone(), claim_text(claim)?.into())))
            .collect();
        context["authorizer"] = json!({ "jwt": { "claims": claims, "scopes": null } });
    }
    let mut event = json!({
        "version": "2.0",
        "routeKey": route_key,
        "rawPath": path,
        "rawQueryString": query,
        "headers": headers,
        "requestContext": context,
        "isBase64Encoded": false,
    });
    // API Gateway omits these members if they are empty.
    if !query.is_empty() {
        event["queryStringParameters"] = json!(query_parameters(query));
    }
    if !request.path_parameters.is_empty() {
        let decoded = request.path_parameters.iter().map(|(name, value)| (*name, percent_decoded(value)));
        event["pathParameters"] = json!(decoded.collect::<BTreeMap<_, _>>());
    }
    let cookies = cookies(&request.parts.headers);
    if !cookies.is_empty() {
        event["cookies"] = json!(cookies);
    }
    if !request.body.is_empty() {
        let (body, is_base64) = body(&request.parts.headers, request.body);
        event["body"] = body.into();
        event["isBase64Encoded"] = is_base64.into();
    }
    event
}

/// The headers, including those that API Gateway adds. The names are in lower case, and the values of a
/// repeated header are joined with commas.
fn headers(request: &Accepted<'_>) -> BTreeMap<String, String> {
    let mut headers = BTreeMap::<String, String>::new();
    for (name, value) in request.parts.headers.iter().filter(|(name, _)| *name != header::COOKIE) {
        let value = String::from_utf8_lossy(value.as_bytes());
        headers
            .entry(name.as_str().to_owned())
            .and_modify(|joined| *joined = format!("{joined},{value}"))
            .or_insert_with(|| value.into_owned());
    }
    let peer = request.peer.ip().to_string();
    headers
        .entry("x-forwarded-for".to_owned())
        .and_modify(|callers| *callers = format!("{callers}, {peer}"))
        .or_insert(peer);
    let port = headers.get("host").and_then(|host| host.rsplit_once(':')).map_or("80", |(_, port)| port);
    headers.insert("x-forwarded-port".to_owned(), port.to_owned());
    headers.insert("x-forwarded-proto".to_owned(), "http".to_owned());
    headers.insert("x-amzn-trace-id".to_owned(), request.trace_id.clone());
    headers
}

/// The cookies. The event lists them separately from the headers.
fn cookies(headers: &HeaderMap) -> Vec<String> {
    let all = headers.get_all(header::COOKIE).iter();
    all.flat_map(|header| {
        let header = String::from_utf8_lossy(header.as_bytes()).into_owned();
        header.split(';').map(|cookie| cookie.trim().to_owned()).collect::<Vec<_>>()
    })
    .filter(|cookie| !cookie.is_empty())
    .collect()
}

/// The decoded query parameters. The values of a repeated parameter are joined with commas.
fn query_parameters(query: &str) -> BTreeMap<String, String> {
    let mut parameters = BTreeMap::<String, String>::new();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        parameters
            .entry(name.into_owned())
            .and_modify(|joined| *joined = format!("{joined},{value}"))
            .or_insert_with(|| value.into_owned());
    }
    parameters
}

fn percent_decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// The body, and whether it is base64.
///
/// The documentation says only that a body with a binary content type is base64. Others have measured on AWS
/// which types are passed as text (<https://github.com/ministackorg/ministack/pull/766>): `text/*` and three
/// of `application/*`. A form, an unknown type such as `application/problem+json`, and a body without a type
/// are base64.
fn body(headers: &HeaderMap, body: &[u8]) -> (String, bool) {
    let content_type =
        headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let is_text = media_type.starts_with("text/")
        || ["application/json", "application/xml", "application/javascript"].contains(&media_type.as_str());
    match std::str::from_utf8(body) {
        Ok(text) if is_text => (text.to_owned(), false),
        _ => (STANDARD.encode(body), true),
    }
}

/// A claim as a string, because the authorizer converts claims of any type to strings. `None` if the claim is
/// null.
///
/// API Gateway writes a list as `[a b]` (<https://github.com/floci-io/floci/pull/2011>).
fn claim_text(claim: &Value) -> Option<String> {
    match claim {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().filter_map(claim_text).collect();
            Some(format!("[{}]", items.join(" ")))
        }
        Value::Bool(_) | Value::Number(_) | Value::Object(_) => Some(claim.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_of_any_type_become_strings() {
        for (claim, text) in [
            (json!("plain"), Some("plain")),
            (json!(1_767_268_800), Some("1767268800")),
            (json!(1.5), Some("1.5")),
            (json!(true), Some("true")),
            (json!(["admin", "power user", 7, null]), Some("[admin power user 7]")),
            (json!([]), Some("[]")),
            (json!({"country": "JP"}), Some(r#"{"country":"JP"}"#)),
            (json!(null), None),
        ] {
            assert_eq!(claim_text(&claim).as_deref(), text, "{claim}");
        }
    }

    #[test]
    fn only_utf8_with_a_text_type_is_passed_as_text() {
        let as_text = |content_type: &str, bytes: &[u8]| {
            let mut headers = HeaderMap::new();
            if !content_type.is_empty() {
                headers.insert(header::CONTENT_TYPE, content_type.parse().unwrap());
            }
            let (text, is_base64) = body(&headers, bytes);
            let passed = if is_base64 { STANDARD.decode(text).unwrap() } else { text.into_bytes() };
            assert_eq!(passed, bytes);
            !is_base64
        };
        for content_type in
            ["application/json", "Application/JSON; charset=utf-8", "text/plain", "application/xml"]
        {
            assert!(as_text(content_type, "{\"ü\":1}".as_bytes()), "{content_type}");
            assert!(!as_text(content_type, b"\xff\xfe"), "{content_type}");
        }
        for content_type in [
            "",
            "application/x-www-form-urlencoded",
            "application/problem+json",
            "application/octet-stream",
            "???",
        ] {
            assert!(!as_text(content_type, b"{}"), "{content_type}");
        }
    }

    #[test]
    fn repeated_query_parameters_are_joined() {
        let expected = [("a", "1,2 3"), ("b", ""), ("c d", "="), ("e", "%zz%4\u{fffd}")];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(query_parameters("a=1&b&a=2+3&&c%20d==&e=%zz%4%ff"), expected.into());
    }

    #[test]
    fn each_cookie_is_an_entry() {
        let mut headers = HeaderMap::new();
        headers.append(header::COOKIE, "a=1; b=2".parse().unwrap());
        headers.append(header::COOKIE, "c=3;".parse().unwrap());
        assert_eq!(cookies(&headers), ["a=1", "b=2", "c=3"]);
    }
}
