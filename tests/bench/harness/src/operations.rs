//! What is measured: an event for a function, as API Gateway sends it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::canned::{CHALLENGE, KEY_ID, Signer, USER, user_token};

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Operation {
    CreateToken,
    CreateChallenge,
    ReceiveWebhook,
    GetChallenge,
    GetPin,
    #[value(skip)]
    /// Circle's question whether a webhook endpoint exists, which needs no more than reading an event and responding.
    WebhookHead,
    #[value(skip)]
    /// A webhook whose signature does not match: a verification and a problem document, without a table call.
    WrongSignature,
    #[value(skip)]
    #[cfg_attr(not(feature = "growth"), expect(dead_code, reason = "only the growth is measured"))]
    /// The list of a user's challenges.
    ListChallenges,
    #[value(skip)]
    #[cfg_attr(not(feature = "growth"), expect(dead_code, reason = "only the growth is measured"))]
    /// A run of the reconciliation.
    Reconcile,
}

/// Whom an event is from, and which challenge it is about.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) user: String,
    pub(crate) challenge: String,
}

impl Default for Target {
    fn default() -> Self {
        Self { user: USER.to_owned(), challenge: CHALLENGE.to_owned() }
    }
}

impl Operation {
    /// One for each function.
    pub(crate) const FUNCTIONS: [Self; 5] =
        [Self::CreateToken, Self::CreateChallenge, Self::ReceiveWebhook, Self::GetChallenge, Self::GetPin];

    /// The operations that take only a part of a function's path.
    pub(crate) const PARTS: [Self; 2] = [Self::WebhookHead, Self::WrongSignature];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::WebhookHead => "webhook-head",
            Self::WrongSignature => "wrong-signature",
            Self::ListChallenges => "list-challenges",
            whole => whole.function(),
        }
    }

    /// The name of the function.
    pub(crate) fn function(self) -> &'static str {
        match self {
            Self::CreateToken => "create-token",
            Self::CreateChallenge => "create-challenge",
            Self::ReceiveWebhook | Self::WebhookHead | Self::WrongSignature => "receive-webhook",
            Self::GetChallenge | Self::ListChallenges => "get-challenge",
            Self::GetPin => "get-pin",
            Self::Reconcile => "reconcile-challenges",
        }
    }

    /// Whether the peers have it, too.
    pub(crate) fn is_of_peers(self) -> bool {
        matches!(self, Self::CreateToken | Self::CreateChallenge | Self::ReceiveWebhook)
    }

    /// The status of a response that is as it should be. A function that no HTTP request reaches has none.
    pub(crate) fn status(self) -> Option<u16> {
        Some(match self {
            Self::CreateToken | Self::CreateChallenge => 201,
            Self::ReceiveWebhook | Self::WebhookHead => 200,
            Self::GetChallenge | Self::ListChallenges | Self::GetPin => 200,
            Self::WrongSignature => 401,
            Self::Reconcile => return None,
        })
    }

    /// A new event. Each webhook is another notification with a signature of its own.
    pub(crate) fn event(self, signer: &Signer, target: &Target) -> String {
        let event = |route, headers: &[(&str, &str)], body| event(route, target, headers, body);
        let event = match self {
            Self::CreateToken => event("POST /session-tokens", &[], None),
            Self::CreateChallenge => {
                event("POST /challenges", &[], Some(r#"{"type":"CHANGE_PIN"}"#.to_owned()))
            }
            Self::GetPin => event("GET /pin", &[], None),
            Self::GetChallenge => {
                event("GET /challenges/{challengeId}", &[("x-user-token", &user_token(&target.user))], None)
            }
            Self::ListChallenges => event("GET /challenges", &[], None),
            Self::Reconcile => json!({}),
            Self::WebhookHead => event("HEAD /webhooks/circle", &[], None),
            Self::ReceiveWebhook | Self::WrongSignature => {
                let body = webhook(target);
                let signed = if self == Self::ReceiveWebhook { body.as_bytes() } else { b"another body" };
                let signature = STANDARD.encode(signer.sign(signed));
                let headers = [("x-circle-key-id", KEY_ID), ("x-circle-signature", &signature)];
                event("POST /webhooks/circle", &headers, Some(body))
            }
        };
        event.to_string()
    }
}

fn webhook(target: &Target) -> String {
    format!(
        concat!(
            r#"{{"subscriptionId":"00000000-0000-4000-8000-000000000001","notificationId":"{}","#,
            r#""notificationType":"challenges.changePin","notification":{{"id":"{}","userId":"{}","#,
            r#""type":"CHANGE_PIN","status":"COMPLETE","correlationIds":[],"errorCode":0,"errorMessage":""}},"#,
            r#""timestamp":"2026-01-01T12:00:00.123456789Z","version":2}}"#,
        ),
        Uuid::new_v4(),
        target.challenge,
        target.user
    )
}

/// An event in API Gateway's payload format 2.0
/// (`https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html`).
fn event(route: &str, target: &Target, headers: &[(&str, &str)], body: Option<String>) -> Value {
    let (method, path) = route.split_once(' ').expect("a route has a method and a path");
    let path = path.replace("{challengeId}", &target.challenge);
    let is_webhook = path.starts_with("/webhooks");
    // One of Circle's addresses.
    let source_ip = if is_webhook { "54.243.112.156" } else { "203.0.113.7" };
    let mut event = json!({
        "version": "2.0",
        "routeKey": route,
        "rawPath": path,
        "rawQueryString": "",
        "headers": {
            "accept": "*/*",
            "accept-encoding": "gzip, deflate, br",
            "content-length": body.as_ref().map_or(0, String::len).to_string(),
            "content-type": "application/json",
            "host": "a1b2c3d4e5.execute-api.eu-central-1.amazonaws.com",
            "user-agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0 Safari/537.36",
            "x-amzn-trace-id": "Root=1-6743b2f6-0c8e1a5b7d9f20416d3e5a7b",
            "x-forwarded-for": source_ip,
            "x-forwarded-port": "443",
            "x-forwarded-proto": "https",
        },
        "requestContext": {
            "accountId": "123456789012",
            "apiId": "a1b2c3d4e5",
            "domainName": "a1b2c3d4e5.execute-api.eu-central-1.amazonaws.com",
            "domainPrefix": "a1b2c3d4e5",
            "http": {
                "method": method,
                "path": path,
                "protocol": "HTTP/1.1",
                "sourceIp": source_ip,
                "userAgent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0 Safari/537.36",
            },
            "requestId": "JKJaXmPLvHcESHA=",
            "routeKey": route,
            "stage": "$default",
            "time": "01/Jan/2026:12:00:00 +0000",
            "timeEpoch": 1_767_268_800_000_u64,
        },
        "isBase64Encoded": false,
    });
    for (name, value) in headers {
        event["headers"][name] = (*value).into();
    }
    if !is_webhook {
        event["headers"]["authorization"] = format!("Bearer {}", user_token(&target.user)).into();
        event["requestContext"]["authorizer"] = json!({ "jwt": {
            "claims": {
                "aud": "circle-pin-reset",
                "exp": "1767272400",
                "iat": "1767268800",
                "iss": "https://issuer.example.com/",
                "sub": target.user,
            },
            "scopes": null,
        }});
    }
    if route.ends_with("{challengeId}") {
        event["pathParameters"] = json!({ "challengeId": target.challenge });
    }
    if let Some(body) = body {
        event["body"] = body.into();
    }
    event
}
