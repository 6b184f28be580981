//! CORS as API Gateway does it: the gateway answers preflights, and its headers replace the function's.
//!
//! <https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-cors.html>

use http::{HeaderMap, HeaderName, HeaderValue, Method, header};

const ALLOWED_HEADERS: &str = "authorization,content-type,idempotency-key,x-user-token";
const ALLOWED_METHODS: &str = "GET,POST";
const EXPOSED_HEADERS: &str = "apigw-requestid,retry-after";
/// Seconds for which a browser may keep the answer to a preflight.
const MAX_AGE: &str = "300";

const CORS_HEADERS: [HeaderName; 6] = [
    header::ACCESS_CONTROL_ALLOW_ORIGIN,
    header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
    header::ACCESS_CONTROL_ALLOW_HEADERS,
    header::ACCESS_CONTROL_ALLOW_METHODS,
    header::ACCESS_CONTROL_EXPOSE_HEADERS,
    header::ACCESS_CONTROL_MAX_AGE,
];

/// The origins whose pages may call the API; with none, CORS is off.
#[derive(Debug)]
pub(super) struct Cors {
    allowed_origins: Vec<String>,
}

impl Cors {
    pub(super) fn new(allowed_origins: Vec<String>) -> Self {
        Self { allowed_origins }
    }

    /// Whether the gateway answers the request by itself, with 204 and no body.
    pub(super) fn answers(&self, method: &Method) -> bool {
        method == Method::OPTIONS && !self.allowed_origins.is_empty()
    }

    /// The headers for the answer to a request with the given method and headers.
    pub(super) fn headers(&self, method: &Method, request: &HeaderMap) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let Some(origin) = request.get(header::ORIGIN).and_then(|origin| self.allowed(origin)) else {
            return headers;
        };
        let mut insert = |name, value| headers.insert(name, HeaderValue::from_static(value));
        if method != Method::OPTIONS {
            insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED_HEADERS);
        } else if request.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD) {
            insert(header::ACCESS_CONTROL_ALLOW_HEADERS, ALLOWED_HEADERS);
            insert(header::ACCESS_CONTROL_ALLOW_METHODS, ALLOWED_METHODS);
            insert(header::ACCESS_CONTROL_MAX_AGE, MAX_AGE);
        } else {
            return headers;
        }
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers
    }

    /// Puts the gateway's headers into an answer in place of those that the function may have set.
    pub(super) fn apply(&self, headers: HeaderMap, answer: &mut HeaderMap) {
        if self.allowed_origins.is_empty() {
            return;
        }
        for name in CORS_HEADERS {
            answer.remove(name);
        }
        answer.extend(headers);
    }

    /// What `Access-Control-Allow-Origin` says to a page of this origin.
    fn allowed(&self, origin: &HeaderValue) -> Option<HeaderValue> {
        let text = origin.to_str().ok()?;
        self.allowed_origins.iter().find_map(|allowed| match allowed.as_str() {
            "*" => Some(HeaderValue::from_static("*")),
            // `https://*` and `http://*` are the only other wildcards.
            "https://*" | "http://*" => {
                text.starts_with(allowed.trim_end_matches('*')).then(|| origin.clone())
            }
            exact => (exact == text).then(|| origin.clone()),
        })
    }
}
