//! Circle's calls: each one checked and answered as the documentation says.

use http::HeaderMap;
use http::request::Parts;
use serde_json::{Map, Value, json};
use uuid::{Uuid, Version};

use super::CircleSimulator;
use super::calls::Call;
use super::challenges::ChallengeType;
use super::refusal::Refusal;
use super::server::Answer;
use super::subscriptions::{Subscription, is_endpoint, is_filter};
use super::text::query_value;
use super::user_tokens::VerifiedToken;
use super::users::{User, is_user_id};

impl CircleSimulator {
    pub(super) async fn call(&self, call: Call, parts: &Parts, body: &[u8]) -> Result<Answer, Refusal> {
        self.authorize(&parts.headers)?;
        match call {
            Call::CreateUserToken => self.answer_create_user_token(body).await,
            Call::CreateUser => self.answer_create_user(body),
            Call::GetUser(id) => self.answer_get_user(&id),
            Call::GetUserStatus => self.answer_get_user_status(&self.user_token(&parts.headers).await?),
            Call::ChangePin => {
                let token = self.user_token(&parts.headers).await?;
                self.answer_create_challenge(&token, ChallengeType::ChangePin, body)
            }
            Call::RestorePin => {
                let token = self.user_token(&parts.headers).await?;
                self.answer_create_challenge(&token, ChallengeType::RestorePin, body)
            }
            Call::GetChallenge(id) => {
                let token = self.user_token(&parts.headers).await?;
                self.answer_get_challenge(&token, uuid_in_path("id", &id)?)
            }
            Call::ListChallenges => {
                let token = self.user_token(&parts.headers).await?;
                self.answer_list_challenges(&token, query_value(parts.uri.query(), "status"))
            }
            Call::GetPublicKey(id) => self.answer_get_public_key(uuid_in_path("id", &id)?),
            Call::CreateSubscription => self.answer_create_subscription(body).await,
            Call::ListSubscriptions => ok(json!({"data": self.subscriptions()})),
            Call::GetSubscription(id) => self.answer_get_subscription(uuid_in_path("id", &id)?),
            Call::ChangeSubscription(id) => {
                let body = Fields::read(body)?;
                let name = body.text("name")?;
                let enabled = body.flag("enabled")?;
                ok(json!({"data": self.change_subscription(uuid_in_path("id", &id)?, name, enabled).await?}))
            }
            Call::DeleteSubscription(id) => self.answer_delete_subscription(uuid_in_path("id", &id)?),
        }
    }

    /// `Authorization: Bearer PREFIX:ID:SECRET`.
    fn authorize(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let header = headers.get("Authorization").and_then(|value| value.to_str().ok());
        let key =
            header.and_then(|value| value.strip_prefix("Bearer ")).ok_or_else(Refusal::malformed_api_key)?;
        let parts: Vec<&str> = key.split(':').collect();
        let [prefix, id, secret] = parts.as_slice() else { return Err(Refusal::malformed_api_key()) };
        if !matches!(*prefix, "TEST_API_KEY" | "LIVE_API_KEY") || id.is_empty() || secret.is_empty() {
            return Err(Refusal::malformed_api_key());
        }
        if key == self.state().api_key { Ok(()) } else { Err(Refusal::wrong_api_key()) }
    }

    async fn user_token(&self, headers: &HeaderMap) -> Result<VerifiedToken, Refusal> {
        let header = headers.get("X-User-Token").ok_or_else(|| Refusal::missing("header", "X-User-Token"))?;
        let token = header.to_str().map_err(|_| Refusal::user_token_invalid())?;
        self.core.user_tokens.verify(token).await
    }

    async fn answer_create_user_token(&self, body: &[u8]) -> Result<Answer, Refusal> {
        let body = Fields::read(body)?;
        let user_id = body.user_id()?;
        let token_id = self.core.random.uuid().to_string();
        let encryption_key = self.new_encryption_key();
        let (claims, omit_key) = {
            let mut state = self.state();
            (state.issue_user_token(user_id, token_id, self.now())?, state.knobs.omit_encryption_key)
        };
        let mut data = json!({"userToken": self.core.user_tokens.sign(&claims).await});
        if !omit_key {
            data["encryptionKey"] = encryption_key.into();
        }
        ok(json!({"data": data}))
    }

    fn answer_create_user(&self, body: &[u8]) -> Result<Answer, Refusal> {
        let body = Fields::read(body)?;
        let user_id = body.user_id()?;
        let now = self.now();
        let mut state = self.state();
        if state.users.contains_key(user_id) {
            return Err(Refusal::user_exists());
        }
        let user = User::new(user_id, self.core.random.uuid(), now);
        let answer = json!({"data": user.end_user(now)});
        state.users.insert(user_id.to_owned(), user);
        Ok(Answer { status: 201, body: Some(answer) })
    }

    fn answer_get_user(&self, user_id: &str) -> Result<Answer, Refusal> {
        check_user_id("path", user_id)?;
        let now = self.now();
        let state = self.state();
        let user = state.users.get(user_id).ok_or_else(Refusal::no_such_user)?;
        ok(json!({"data": {"user": user.end_user(now)}}))
    }

    fn answer_get_user_status(&self, token: &VerifiedToken) -> Result<Answer, Refusal> {
        let now = self.now();
        let state = self.state();
        let user_id = state.user_of(token, now)?;
        let user = state.users.get(&user_id).ok_or_else(Refusal::no_such_user)?;
        ok(json!({"data": user.end_user(now)}))
    }

    fn answer_create_challenge(
        &self,
        token: &VerifiedToken,
        challenge_type: ChallengeType,
        body: &[u8],
    ) -> Result<Answer, Refusal> {
        let body = Fields::read(body)?;
        let key = body.idempotency_key()?;
        let mut state = self.state();
        let user_id = state.user_of(token, self.now())?;
        let (status, id) = match state.idempotency_keys.get(&key) {
            Some(first) => (200, *first),
            None => (201, self.make_challenge(&mut state, &user_id, challenge_type)?),
        };
        state.idempotency_keys.insert(key, id);
        Ok(Answer { status, body: Some(json!({"data": {"challengeId": id}})) })
    }

    fn answer_get_challenge(&self, token: &VerifiedToken, id: Uuid) -> Result<Answer, Refusal> {
        let state = self.state();
        let user_id = state.user_of(token, self.now())?;
        let challenge = state
            .challenges
            .get(&id)
            .filter(|challenge| challenge.user_id == user_id)
            .ok_or_else(|| Refusal::no_such_challenge(state.knobs.undocumented_error_status))?;
        ok(json!({"data": {"challenge": challenge.resource(&state.knobs)}}))
    }

    /// Without a filter, all challenges that are not settled.
    fn answer_list_challenges(
        &self,
        token: &VerifiedToken,
        status: Option<String>,
    ) -> Result<Answer, Refusal> {
        let state = self.state();
        let user_id = state.user_of(token, self.now())?;
        let wanted = match status.as_deref() {
            None => ["PENDING", "IN_PROGRESS"].as_slice(),
            Some("PENDING") => &["PENDING"],
            Some("IN_PROGRESS") => &["IN_PROGRESS"],
            Some(other) => {
                return Err(Refusal::invalid(
                    "query",
                    "status",
                    &other.into(),
                    "must be PENDING or IN_PROGRESS",
                ));
            }
        };
        let challenges = state.challenges_of(&user_id);
        let matching =
            challenges.into_iter().filter(|one| wanted.iter().any(|status| one.has_status(status)));
        let challenges: Vec<_> = matching.map(|challenge| challenge.resource(&state.knobs)).collect();
        ok(json!({"data": {"challenges": challenges}}))
    }

    fn answer_get_public_key(&self, id: Uuid) -> Result<Answer, Refusal> {
        let state = self.state();
        let key = state.signing_keys.iter().find(|key| key.id == id).ok_or_else(Refusal::no_such_resource)?;
        ok(json!({"data": key.resource()}))
    }

    async fn answer_create_subscription(&self, body: &[u8]) -> Result<Answer, Refusal> {
        let body = Fields::read(body)?;
        let endpoint = body.text("endpoint")?;
        if !is_endpoint(endpoint) {
            return Err(Refusal::invalid("body", "endpoint", &endpoint.into(), "must be an https URL"));
        }
        let types = body.notification_types()?;
        ok(json!({"data": self.create_subscription(endpoint.to_owned(), types).await?}))
    }

    fn answer_get_subscription(&self, id: Uuid) -> Result<Answer, Refusal> {
        let state = self.state();
        let found = state.subscriptions.iter().find(|subscription| subscription.id == id);
        ok(json!({"data": found.map(Subscription::resource).ok_or_else(Refusal::no_such_resource)?}))
    }

    fn answer_delete_subscription(&self, id: Uuid) -> Result<Answer, Refusal> {
        let mut state = self.state();
        let before = state.subscriptions.len();
        state.subscriptions.retain(|subscription| subscription.id != id);
        state.first_attempts.remove(&id);
        if state.subscriptions.len() == before {
            return Err(Refusal::no_such_resource());
        }
        Ok(Answer { status: 204, body: None })
    }
}

fn ok(body: Value) -> Result<Answer, Refusal> {
    Ok(Answer { status: 200, body: Some(body) })
}

fn uuid_in_path(name: &str, text: &str) -> Result<Uuid, Refusal> {
    Uuid::parse_str(text).map_err(|_| Refusal::invalid("path", name, &text.into(), "must be a UUID"))
}

fn check_user_id(location: &str, user_id: &str) -> Result<(), Refusal> {
    if is_user_id(user_id) {
        return Ok(());
    }
    Err(Refusal::invalid(location, "userId", &user_id.into(), "must have 5 to 50 characters"))
}

/// A request body, field by field.
struct Fields(Map<String, Value>);

impl Fields {
    fn read(body: &[u8]) -> Result<Self, Refusal> {
        serde_json::from_slice(body).map(Self).map_err(|_| Refusal::unreadable_body())
    }

    fn get(&self, name: &str) -> Result<&Value, Refusal> {
        self.0.get(name).filter(|value| !value.is_null()).ok_or_else(|| Refusal::missing("body", name))
    }

    fn text(&self, name: &str) -> Result<&str, Refusal> {
        match self.get(name)? {
            Value::String(text) if text.is_empty() => Err(Refusal::missing("body", name)),
            Value::String(text) => Ok(text),
            other => Err(Refusal::invalid("body", name, other, "must be a string")),
        }
    }

    fn flag(&self, name: &str) -> Result<bool, Refusal> {
        let value = self.get(name)?;
        value.as_bool().ok_or_else(|| Refusal::invalid("body", name, value, "must be true or false"))
    }

    fn user_id(&self) -> Result<&str, Refusal> {
        let user_id = self.text("userId")?;
        check_user_id("body", user_id)?;
        Ok(user_id)
    }

    /// A UUID of version 4.
    fn idempotency_key(&self) -> Result<Uuid, Refusal> {
        let text = self.text("idempotencyKey")?;
        let key = Uuid::parse_str(text).ok().filter(|key| key.get_version() == Some(Version::Random));
        key.ok_or_else(|| Refusal::invalid("body", "idempotencyKey", &text.into(), "must be a UUID v4"))
    }

    /// Absent means everything.
    fn notification_types(&self) -> Result<Vec<String>, Refusal> {
        let Some(value) = self.0.get("notificationTypes").filter(|value| !value.is_null()) else {
            return Ok(vec!["*".to_owned()]);
        };
        let invalid = || {
            Refusal::invalid(
                "body",
                "notificationTypes",
                value,
                "must be a list of *, a family.* or known types",
            )
        };
        let types: Vec<String> = serde_json::from_value(value.clone()).map_err(|_| invalid())?;
        if types.is_empty() || !types.iter().all(|filter| is_filter(filter)) {
            return Err(invalid());
        }
        Ok(types)
    }
}
