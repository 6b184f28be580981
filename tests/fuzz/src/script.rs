//! The inputs of the targets that run a function: an event, and what Circle and AWS respond.
//!
//! ```text
//! {"routeKey": "POST /session-tokens", ...}
//! --- circle 503 2
//! {"code": 155102, "message": "..."}
//! --- circle close
//! --- dynamodb 400
//! {"__type": "...#ThrottlingException"}
//! ```
//!
//! Each service takes its responses in their order. `503 2` has `Retry-After: 2`; `close` closes the connection without a
//! response, and `hang` never responds. Without a response in the input, a service does what it does on a good day. A
//! response that the service could not give is left out.

use std::collections::{HashMap, VecDeque};

use serde_json::Value;

use crate::server::{API_KEY, SECRET, USER};

/// What a function calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Service {
    Circle,
    DynamoDb,
    Secrets,
    Events,
    Queue,
    /// Where CloudFormation takes responses.
    CloudFormation,
}

/// What a service does with a request.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    Respond { status: u16, retry_after: Option<String>, body: Vec<u8> },
    Close,
    Hang,
}

/// What the services do, by service, in order.
pub(crate) type Replies = HashMap<Service, VecDeque<Reply>>;

/// An input.
pub(crate) struct Script<'a> {
    /// The text before the first response.
    pub(crate) head: &'a [u8],
    pub(crate) replies: Replies,
}

/// The members of an API Gateway event whose texts the caller decides about.
const OF_CALLER: [&str; 7] =
    ["headers", "cookies", "body", "rawPath", "rawQueryString", "pathParameters", "queryStringParameters"];

const MARK: &[u8] = b"\n--- ";

impl<'a> Script<'a> {
    pub(crate) fn parse(input: &'a [u8]) -> Self {
        let mut parts = split(input);
        let head = parts.next().unwrap_or_default();
        let mut replies = Replies::new();
        for part in parts {
            if let Some((service, reply)) = reply(part) {
                replies.entry(service).or_default().push_back(reply);
            }
        }
        Self { head, replies }
    }

    /// The text before the first response as JSON. Lambda has read every event as JSON before a function gets it. `None` also
    /// if a part that the caller does not decide about has a secret.
    pub(crate) fn event(&self) -> Option<Value> {
        let event: Value = serde_json::from_slice(self.head).ok()?;
        let mut by_aws = event.clone();
        if let Some(http) = by_aws.pointer_mut("/requestContext/http").and_then(Value::as_object_mut) {
            http.retain(|name, _| !["path", "userAgent"].contains(&name.as_str()));
        }
        if let Some(members) = by_aws.as_object_mut() {
            members.retain(|name, _| !OF_CALLER.contains(&name.as_str()));
        }
        let tells_secret = by_aws.to_string().contains(SECRET);
        (!tells_secret).then_some(event)
    }
}

fn split(input: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(input);
    std::iter::from_fn(move || {
        let text = rest?;
        match text.windows(MARK.len()).position(|window| window == MARK) {
            Some(at) => {
                rest = Some(&text[at + MARK.len()..]);
                Some(&text[..at])
            }
            None => rest.take(),
        }
    })
}

fn reply(part: &[u8]) -> Option<(Service, Reply)> {
    let end = part.iter().position(|&byte| byte == b'\n').unwrap_or(part.len());
    let (line, body) = (std::str::from_utf8(&part[..end]).ok()?, part.get(end + 1..).unwrap_or_default());
    let mut words = line.split(' ');
    let service = match words.next()? {
        "circle" => Service::Circle,
        "dynamodb" => Service::DynamoDb,
        "secrets" => Service::Secrets,
        "events" => Service::Events,
        "queue" => Service::Queue,
        "cloudformation" => Service::CloudFormation,
        _ => return None,
    };
    let reply = match words.next()? {
        "close" => Reply::Close,
        "hang" => Reply::Hang,
        status => {
            let status = status.parse().ok().filter(|status| (200..600).contains(status))?;
            let is_printable = |text: &&str| text.bytes().all(|byte| byte.is_ascii_graphic());
            let retry_after = words.next().filter(is_printable).map(str::to_owned);
            if !can_say(service, status, body) {
                return None;
            }
            Reply::Respond { status, retry_after, body: body.to_vec() }
        }
    };
    Some((service, reply))
}

/// Whether a service could say this. A table holds no secret, and AWS quotes no value in an error, except in the item that
/// a condition did not hold for.
fn can_say(service: Service, status: u16, body: &[u8]) -> bool {
    if matches!((service, status), (Service::Circle, _) | (Service::Secrets, 200)) {
        return true;
    }
    let mut said: Value =
        serde_json::from_slice(body).unwrap_or_else(|_| String::from_utf8_lossy(body).into());
    let text = said.to_string();
    if text.contains(SECRET) || text.contains(API_KEY) {
        return false;
    }
    if let Some(members) = said.as_object_mut() {
        members.remove("Item");
    }
    status == 200 || !said.to_string().contains(USER)
}
