//! Which of Circle's calls a request is.

use http::Method;

use super::text::percent_decoded;

/// A call of Circle's, with what its path says. Ids are as they came, and checked by whoever answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Call {
    CreateUserToken,
    GetUserStatus,
    ChangePin,
    RestorePin,
    GetChallenge(String),
    ListChallenges,
    GetUser(String),
    CreateUser,
    GetPublicKey(String),
    CreateSubscription,
    ListSubscriptions,
    GetSubscription(String),
    ChangeSubscription(String),
    DeleteSubscription(String),
}

/// Why a request is no call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoCall {
    UnknownPath,
    WrongMethod,
}

impl Call {
    pub(super) fn find(method: &Method, path: &str) -> Result<Self, NoCall> {
        let segments: Option<Vec<String>> = path.split('/').skip(1).map(percent_decoded).collect();
        let segments = segments.ok_or(NoCall::UnknownPath)?;
        let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
        let id = || segments.last().copied().unwrap_or_default().to_owned();
        match (segments.as_slice(), method.as_str()) {
            (["v1", "w3s", "users", "token"], "POST") => Ok(Self::CreateUserToken),
            (["v1", "w3s", "user"], "GET") => Ok(Self::GetUserStatus),
            (["v1", "w3s", "user", "pin"], "PUT") => Ok(Self::ChangePin),
            (["v1", "w3s", "user", "pin", "restore"], "POST") => Ok(Self::RestorePin),
            (["v1", "w3s", "user", "challenges", _], "GET") => Ok(Self::GetChallenge(id())),
            (["v1", "w3s", "user", "challenges"], "GET") => Ok(Self::ListChallenges),
            (["v1", "w3s", "users", _], "GET") => Ok(Self::GetUser(id())),
            (["v1", "w3s", "users"], "POST") => Ok(Self::CreateUser),
            (["v2", "notifications", "publicKey", _], "GET") => Ok(Self::GetPublicKey(id())),
            (["v2", "notifications", "subscriptions"], "POST") => Ok(Self::CreateSubscription),
            (["v2", "notifications", "subscriptions"], "GET") => Ok(Self::ListSubscriptions),
            (["v2", "notifications", "subscriptions", _], "GET") => Ok(Self::GetSubscription(id())),
            (["v2", "notifications", "subscriptions", _], "PATCH") => Ok(Self::ChangeSubscription(id())),
            (["v2", "notifications", "subscriptions", _], "DELETE") => Ok(Self::DeleteSubscription(id())),
            (
                ["v1", "w3s", "users"]
                | ["v1", "w3s", "users", _]
                | ["v1", "w3s", "user"]
                | ["v1", "w3s", "user", "pin"]
                | ["v1", "w3s", "user", "pin", "restore"]
                | ["v1", "w3s", "user", "challenges"]
                | ["v1", "w3s", "user", "challenges", _]
                | ["v2", "notifications", "publicKey", _]
                | ["v2", "notifications", "subscriptions"]
                | ["v2", "notifications", "subscriptions", _],
                _,
            ) => Err(NoCall::WrongMethod),
            _ => Err(NoCall::UnknownPath),
        }
    }

    /// Method and path template, under which calls are counted.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::CreateUserToken => "POST /v1/w3s/users/token",
            Self::GetUserStatus => "GET /v1/w3s/user",
            Self::ChangePin => "PUT /v1/w3s/user/pin",
            Self::RestorePin => "POST /v1/w3s/user/pin/restore",
            Self::GetChallenge(_) => "GET /v1/w3s/user/challenges/{id}",
            Self::ListChallenges => "GET /v1/w3s/user/challenges",
            Self::GetUser(_) => "GET /v1/w3s/users/{userId}",
            Self::CreateUser => "POST /v1/w3s/users",
            Self::GetPublicKey(_) => "GET /v2/notifications/publicKey/{keyId}",
            Self::CreateSubscription => "POST /v2/notifications/subscriptions",
            Self::ListSubscriptions => "GET /v2/notifications/subscriptions",
            Self::GetSubscription(_) => "GET /v2/notifications/subscriptions/{id}",
            Self::ChangeSubscription(_) => "PATCH /v2/notifications/subscriptions/{id}",
            Self::DeleteSubscription(_) => "DELETE /v2/notifications/subscriptions/{id}",
        }
    }
}
