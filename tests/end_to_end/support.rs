use std::collections::BTreeMap;

use local::stack::{Stack, StackOptions};
use reqwest::Method;
use serde_json::Value;

/// A running stack with the user `alice` (PIN 112233) and an app in which she is signed in.
pub(crate) struct App {
    pub(crate) stack: Stack,
    pub(crate) bearer: String,
    http: reqwest::Client,
}

/// What the API answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) body: Value,
}

pub(crate) const USER: &str = "alice";
pub(crate) const PIN: &str = "112233";

impl App {
    pub(crate) async fn start() -> Self {
        Self::with_settings([]).await
    }

    /// Settings of the functions beside those of every stack.
    pub(crate) async fn with_settings<const N: usize>(settings: [(&str, &str); N]) -> Self {
        let settings: BTreeMap<String, String> =
            settings.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Self::with_options(StackOptions { settings, ..StackOptions::default() }).await
    }

    pub(crate) async fn with_options(options: StackOptions) -> Self {
        let stack = Stack::start(options).await.unwrap();
        stack.add_user(USER, PIN);
        let bearer = stack.sign_in(USER);
        Self { stack, bearer, http: reqwest::Client::new() }
    }

    /// A request of the signed-in app; `call` is like `GET /challenges/...`.
    pub(crate) fn request(&self, call: &str) -> reqwest::RequestBuilder {
        self.anonymous(call).bearer_auth(&self.bearer)
    }

    /// A request of nobody in particular.
    pub(crate) fn anonymous(&self, call: &str) -> reqwest::RequestBuilder {
        let (method, path) = call.split_once(' ').unwrap();
        let method: Method = method.parse().unwrap();
        self.http.request(method, format!("{}{path}", self.stack.api.url()))
    }
}

/// Sends a request and reads the whole answer.
pub(crate) async fn send(request: reqwest::RequestBuilder) -> Answer {
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let body = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap_or_default();
    Answer { status, headers, body }
}
