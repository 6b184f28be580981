//! The calls of Circle's API: the checks and the response of each, as Circle documents them.

use std::net::IpAddr;
use std::time::Duration;

use http::HeaderMap;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use serde_json::{Map, Value, json};
use shared::clock::Clock;
use uuid::fmt::Hyphenated;
use uuid::{Uuid, Version};

use super::CircleSimulator;
use super::api_error::ApiError;
use super::calls::{Call, Product};
use super::challenges::{ChallengeType, Status, check_preconditions};
use super::knobs::Access;
use super::responses::Success;
use super::subscriptions::{is_endpoint, is_filter};
use super::user_tokens::VerifiedToken;
use super::users::{User, is_user_id};

impl CircleSimulator {
    pub(super) async fn call(
        &self,
        call: Call,
        peer: IpAddr,
        parts: &Parts,
        body: &[u8],
    ) -> Result<Success, ApiError> {
        if call != Call::Ping {
            self.authorize(&parts.headers)?;
            self.check_permission(&call, peer)?;
        }
        self.check_rate_limit(&call)?;
        if !body.is_empty() {
            check_content_type(&parts.headers)?;
        }
        match call {
            Call::Ping => Ok(Success::unwrapped(json!({ "message": "pong" }))),
            Call::CreateUserToken => self.handle_create_user_token(body).await,
            Call::CreateUser => self.handle_create_user(body),
            Call::GetUser(id) => self.handle_get_user(&id),
            Call::GetUserStatus => self.handle_get_user_status(&self.user_token(&parts.headers).await?),
            Call::ChangePin => {
                let token = self.user_token(&parts.headers).await?;
                self.handle_create_challenge(&token, ChallengeType::ChangePin, body)
            }
            Call::RestorePin => {
                let token = self.user_token(&parts.headers).await?;
                self.handle_create_challenge(&token, ChallengeType::RestorePin, body)
            }
            Call::GetChallenge(id) => {
                let token = self.user_token(&parts.headers).await?;
                self.handle_get_challenge(&token, uuid_in_path("id", &id)?)
            }
            Call::ListChallenges => {
                let token = self.user_token(&parts.headers).await?;
                self.handle_list_challenges(&token, parts.uri.query().unwrap_or_default())
            }
            Call::GetPublicKey(id) => self.handle_get_public_key(uuid_in_path("id", &id)?),
            Call::CreateSubscription => self.handle_create_subscription(body).await,
            Call::ListSubscriptions => Ok(Success::ok(self.subscriptions().into())),
            Call::GetSubscription(id) => {
                let id = uuid_in_path("id", &id)?;
                Ok(Success::ok(self.state().subscriptions.find(id)?.resource()))
            }
            Call::ChangeSubscription(id) => self.handle_change_subscription(&id, body).await,
            Call::DeleteSubscription(id) => {
                self.delete_subscription(uuid_in_path("id", &id)?)?;
                Ok(Success::no_content())
            }
        }
    }

    /// `Authorization: Bearer PREFIX:ID:SECRET`.
    fn authorize(&self, headers: &HeaderMap) -> Result<(), ApiError> {
        let header = headers.get("Authorization").and_then(|value| value.to_str().ok());
        let key =
            header.and_then(|value| value.strip_prefix("Bearer ")).ok_or_else(ApiError::malformed_api_key)?;
        let parts: Vec<&str> = key.split(':').collect();
        let [prefix, id, secret] = parts.as_slice() else { return Err(ApiError::malformed_api_key()) };
        if !matches!(*prefix, "TEST_API_KEY" | "LIVE_API_KEY") || id.is_empty() || secret.is_empty() {
            return Err(ApiError::malformed_api_key());
        }
        if key == self.state().api_key { Ok(()) } else { Err(ApiError::wrong_api_key()) }
    }

    fn check_permission(&self, call: &Call, peer: IpAddr) -> Result<(), ApiError> {
        let knobs = &self.state().knobs;
        if !knobs.api_key_addresses.is_empty() && !knobs.api_key_addresses.contains(&peer) {
            return Err(ApiError::address_not_allowed());
        }
        let access = match call.product() {
            Product::Wallets => knobs.api_key_wallets,
            Product::Webhooks => knobs.api_key_webhooks,
        };
        match access {
            Access::ReadWrite => Ok(()),
            Access::Read if call.is_read() => Ok(()),
            Access::Read | Access::None => Err(ApiError::no_permission()),
        }
    }

    fn check_rate_limit(&self, call: &Call) -> Result<(), ApiError> {
        let now = self.core.clock.monotonic();
        let mut state = self.state();
        let limits = state.knobs.rate_limits;
        state.rate_limiter.check(limits, call, now).map_err(|wait| {
            // Whole seconds, rounded up.
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            ApiError::too_many_requests(state.knobs.rate_limits_retry_after.then_some(seconds))
        })
    }

    async fn user_token(&self, headers: &HeaderMap) -> Result<VerifiedToken, ApiError> {
        let header =
            headers.get("X-User-Token").ok_or_else(|| ApiError::missing("header", "X-User-Token"))?;
        let token = header.to_str().map_err(|_| ApiError::user_token_invalid())?;
        self.core.user_token_key.verify(token).await
    }

    async fn handle_create_user_token(&self, body: &[u8]) -> Result<Success, ApiError> {
        let body = Fields::read(body)?;
        let user_id = body.user_id()?;
        let token_id = self.core.random.uuid().to_string();
        let encryption_key = self.new_encryption_key();
        let (claims, omit_key) = {
            let mut state = self.state();
            (state.issue_user_token(user_id, token_id, self.now())?, state.knobs.omit_encryption_key)
        };
        let mut data = json!({"userToken": self.core.user_token_key.sign(&claims).await});
        if !omit_key {
            data["encryptionKey"] = encryption_key.into();
        }
        Ok(Success::ok(data))
    }

    fn handle_create_user(&self, body: &[u8]) -> Result<Success, ApiError> {
        let body = Fields::read(body)?;
        let user_id = body.user_id()?;
        let now = self.now();
        let mut state = self.state();
        if state.users.contains_key(user_id) {
            return Err(ApiError::user_exists());
        }
        let user = User::new(user_id, self.new_resource_id(), now);
        let end_user = user.end_user(now);
        state.users.insert(user_id.to_owned(), user);
        Ok(Success::created(end_user))
    }

    fn handle_get_user(&self, user_id: &str) -> Result<Success, ApiError> {
        check_user_id("path", user_id)?;
        let now = self.now();
        let state = self.state();
        let user = state.users.get(user_id).ok_or_else(ApiError::no_such_user)?;
        Ok(Success::ok(json!({"user": user.end_user(now)})))
    }

    fn handle_get_user_status(&self, token: &VerifiedToken) -> Result<Success, ApiError> {
        let now = self.now();
        Ok(Success::ok(self.state().user_of(token, now)?.end_user(now)))
    }

    /// Creates a challenge, or returns the one that was created with the same idempotency key.
    fn handle_create_challenge(
        &self,
        token: &VerifiedToken,
        challenge_type: ChallengeType,
        body: &[u8],
    ) -> Result<Success, ApiError> {
        let body = Fields::read(body)?;
        let key = body.idempotency_key()?;
        let now = self.now();
        let mut state = self.state();
        let user = state.user_of(token, now)?;
        if let Some(id) = state.challenges.with_idempotency_key(key) {
            return Ok(Success::ok(json!({"challengeId": id})));
        }
        check_preconditions(user, challenge_type, now, state.knobs.undocumented_error_status)?;
        let user_id = user.id.clone();
        let id = self.new_resource_id();
        let lifetime = Duration::from_secs(state.knobs.challenge_lifetime_seconds);
        let expires_at = (!lifetime.is_zero()).then(|| self.core.clock.monotonic().saturating_add(lifetime));
        state.challenges.add(id, key, &user_id, challenge_type, now, expires_at);
        if expires_at.is_some() {
            let (simulator, sleep) = (self.for_task(), self.core.clock.sleep(lifetime));
            self.spawn(async move {
                sleep.await;
                simulator.expire_if_due(&mut simulator.state(), id);
            });
        }
        self.announce_challenge(&mut state, id);
        Ok(Success::created(json!({"challengeId": id})))
    }

    fn handle_get_challenge(&self, token: &VerifiedToken, id: Uuid) -> Result<Success, ApiError> {
        let mut state = self.state();
        self.expire_if_due(&mut state, id);
        let user = state.user_of(token, self.now())?;
        let challenge = state
            .challenges
            .get(id)
            .filter(|challenge| challenge.user_id == user.id)
            .ok_or_else(|| ApiError::no_such_challenge(state.knobs.challenge_not_found_status))?;
        if challenge.status == Status::ExpiredAsError {
            return Err(ApiError::challenge_expired(state.knobs.undocumented_error_status));
        }
        Ok(Success::ok(json!({"challenge": challenge.resource(&state.knobs)})))
    }

    /// Without a filter, all challenges that do not have a final status.
    fn handle_list_challenges(&self, token: &VerifiedToken, query: &str) -> Result<Success, ApiError> {
        let state = self.state();
        let user = state.user_of(token, self.now())?;
        let status = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "status");
        let wanted: &[&str] = match status.as_ref().map(|(_, value)| value.as_ref()) {
            None => &["PENDING", "IN_PROGRESS"],
            Some("PENDING") => &["PENDING"],
            Some("IN_PROGRESS") => &["IN_PROGRESS"],
            Some(other) => {
                let constraint = "must be PENDING or IN_PROGRESS";
                return Err(ApiError::invalid("query", "status", &other.into(), constraint));
            }
        };
        let challenges = state
            .challenges
            .in_order()
            .filter(|challenge| challenge.user_id == user.id && wanted.contains(&challenge.status.name()));
        let challenges: Vec<_> = challenges.map(|challenge| challenge.resource(&state.knobs)).collect();
        Ok(Success::ok(json!({"challenges": challenges})))
    }

    fn handle_get_public_key(&self, id: Uuid) -> Result<Success, ApiError> {
        let state = self.state();
        let key = state.signing_keys.find(id).ok_or_else(ApiError::no_such_resource)?;
        Ok(Success::ok(key.resource()))
    }

    async fn handle_create_subscription(&self, body: &[u8]) -> Result<Success, ApiError> {
        let body = Fields::read(body)?;
        let endpoint = body.text("endpoint")?;
        if !is_endpoint(endpoint) {
            return Err(ApiError::invalid("body", "endpoint", &endpoint.into(), "must be an https URL"));
        }
        let types = body.notification_types()?;
        Ok(Success::ok(self.create_subscription(endpoint.to_owned(), types).await?))
    }

    async fn handle_change_subscription(&self, id: &str, body: &[u8]) -> Result<Success, ApiError> {
        let body = Fields::read(body)?;
        let name = body.text("name")?;
        let enabled = body.flag("enabled")?;
        Ok(Success::ok(self.change_subscription(uuid_in_path("id", id)?, name, enabled).await?))
    }
}

/// The description of Circle's API has bodies in `application/json` only.
fn check_content_type(headers: &HeaderMap) -> Result<(), ApiError> {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = value.split(';').next().unwrap_or_default().trim();
    if media_type.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    Err(ApiError::invalid("header", "Content-Type", &value.into(), "must be application/json"))
}

/// A UUID in its usual form: 36 characters with hyphens. The parser accepts other forms too.
fn hyphenated_uuid(text: &str) -> Option<Uuid> {
    Uuid::parse_str(text).ok().filter(|_| text.len() == Hyphenated::LENGTH)
}

fn uuid_in_path(name: &str, text: &str) -> Result<Uuid, ApiError> {
    hyphenated_uuid(text).ok_or_else(|| ApiError::invalid("path", name, &text.into(), "must be a UUID"))
}

fn check_user_id(location: &str, user_id: &str) -> Result<(), ApiError> {
    if is_user_id(user_id) {
        return Ok(());
    }
    Err(ApiError::invalid(location, "userId", &user_id.into(), "must have 5 to 50 characters"))
}

/// The fields of a request body.
struct Fields(Map<String, Value>);

impl Fields {
    fn read(body: &[u8]) -> Result<Self, ApiError> {
        serde_json::from_slice(body).map(Self).map_err(|_| ApiError::unreadable_body())
    }

    fn get(&self, name: &str) -> Result<&Value, ApiError> {
        self.0.get(name).filter(|value| !value.is_null()).ok_or_else(|| ApiError::missing("body", name))
    }

    fn text(&self, name: &str) -> Result<&str, ApiError> {
        match self.get(name)? {
            Value::String(text) if text.is_empty() => Err(ApiError::missing("body", name)),
            Value::String(text) => Ok(text),
            other => Err(ApiError::invalid("body", name, other, "must be a string")),
        }
    }

    fn flag(&self, name: &str) -> Result<bool, ApiError> {
        let value = self.get(name)?;
        value.as_bool().ok_or_else(|| ApiError::invalid("body", name, value, "must be true or false"))
    }

    fn user_id(&self) -> Result<&str, ApiError> {
        let user_id = self.text("userId")?;
        check_user_id("body", user_id)?;
        Ok(user_id)
    }

    /// A UUID of version 4.
    fn idempotency_key(&self) -> Result<Uuid, ApiError> {
        let text = self.text("idempotencyKey")?;
        let key = hyphenated_uuid(text).filter(|key| key.get_version() == Some(Version::Random));
        key.ok_or_else(|| ApiError::invalid("body", "idempotencyKey", &text.into(), "must be a UUID v4"))
    }

    /// The default is `*`.
    fn notification_types(&self) -> Result<Vec<String>, ApiError> {
        let Some(value) = self.0.get("notificationTypes") else {
            return Ok(vec!["*".to_owned()]);
        };
        let invalid = || {
            ApiError::invalid(
                "body",
                "notificationTypes",
                value,
                "must be a list of *, family.* or known types",
            )
        };
        let types: Vec<String> = serde_json::from_value(value.clone()).map_err(|_| invalid())?;
        if types.is_empty() || !types.iter().all(|filter| is_filter(filter)) {
            return Err(invalid());
        }
        Ok(types)
    }
}
