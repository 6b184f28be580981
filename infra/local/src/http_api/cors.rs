//! CORS in API Gateway: the gateway responds to preflight requests, and its CORS headers replace those of the
//! function.
//!
//! <https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-cors.html>

use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use serde_json::{Value, json};

const ALLOWED_HEADERS: &str = "authorization,content-type,idempotency-key,x-user-token";
const ALLOWED_METHODS: &str = "GET,POST";
const EXPOSED_HEADERS: &str = "apigw-requestid,location,retry-after,www-authenticate";
/// How long a browser may cache the response to a preflight request, in seconds.
const MAX_AGE: &str = "300";

const CORS_HEADERS: [HeaderName; 6] = [
    header::ACCESS_CONTROL_ALLOW_ORIGIN,
    header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
    header::ACCESS_CONTROL_ALLOW_HEADERS,
    header::ACCESS_CONTROL_ALLOW_METHODS,
    header::ACCESS_CONTROL_EXPOSE_HEADERS,
    header::ACCESS_CONTROL_MAX_AGE,
];

/// The configuration without the origins, in the form of the template's `CorsConfiguration`.
pub(crate) fn cors_configuration() -> Value {
    let list = |text: &str| text.split(',').collect::<Value>();
    json!({
        "AllowHeaders": list(ALLOWED_HEADERS),
        "AllowMethods": list(ALLOWED_METHODS),
        "ExposeHeaders": list(EXPOSED_HEADERS),
        "MaxAge": MAX_AGE.parse::<u32>().ok(),
    })
}

/// CORS for pages of the allowed origins. CORS is off if no origin is allowed.
#[derive(Debug)]
pub(super) struct Cors {
    allowed_origins: Vec<String>,
}

impl Cors {
    pub(super) fn new(allowed_origins: Vec<String>) -> Self {
        Self { allowed_origins }
    }

    /// Whether the gateway responds to the request itself, with 204 and no body.
    pub(super) fn handles(&self, method: &Method) -> bool {
        method == Method::OPTIONS && !self.allowed_origins.is_empty()
    }

    /// The CORS headers of the response to a request with this method and these headers.
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

    /// Replaces the CORS headers of a response with `headers`.
    pub(super) fn apply(&self, headers: HeaderMap, response: &mut HeaderMap) {
        if self.allowed_origins.is_empty() {
            return;
        }
        for name in CORS_HEADERS {
            response.remove(name);
        }
        response.extend(headers);
    }

    /// The value of `Access-Control-Allow-Origin` for an origin, or `None` if it is not allowed.
    fn allowed(&self, origin: &HeaderValue) -> Option<HeaderValue> {
        let text = origin.to_str().ok()?;
        self.allowed_origins.iter().find_map(|allowed| match allowed.as_str() {
            "*" => Some(HeaderValue::from_static("*")),
            // There is no other wildcard in API Gateway.
            "https://*" | "http://*" => {
                text.starts_with(allowed.trim_end_matches('*')).then(|| origin.clone())
            }
            exact => (exact == text).then(|| origin.clone()),
        })
    }
}
