//! The calls of Circle's API, and how a request is matched to one.

use http::Method;
use percent_encoding::percent_decode_str;

/// A call of Circle's API, with the id from its path. The id is not checked yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Call {
    Ping,
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

/// A product of Circle's. An API key can be restricted for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Product {
    Wallets,
    Webhooks,
}

/// Why a request does not match a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoCall {
    UnknownPath,
    WrongMethod,
}

impl Call {
    pub(super) fn find(method: &Method, path: &str) -> Result<Self, NoCall> {
        let segments = path_segments(path).ok_or(NoCall::UnknownPath)?;
        let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
        let id = || segments.last().copied().unwrap_or_default().to_owned();
        match (segments.as_slice(), method.as_str()) {
            (["ping"], "GET") => Ok(Self::Ping),
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
                ["ping"]
                | ["v1", "w3s", "users"]
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

    pub(super) fn product(&self) -> Product {
        let path = self.name().split_once(' ').map_or("", |(_, path)| path);
        if path.starts_with("/v2/notifications/") { Product::Webhooks } else { Product::Wallets }
    }

    /// Whether the call changes nothing.
    pub(super) fn is_read(&self) -> bool {
        self.name().starts_with("GET ")
    }

    /// Method and path template. Calls are counted under this name.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Ping => "GET /ping",
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

/// The segments of a path, percent-decoded; `None` if one of them is not UTF-8.
pub(super) fn path_segments(path: &str) -> Option<Vec<String>> {
    let decoded = path.split('/').skip(1).map(|segment| percent_decode_str(segment).decode_utf8());
    decoded.map(|segment| Some(segment.ok()?.into_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_segments_are_percent_decoded() {
        assert_eq!(path_segments("/a%20b/c%2Fd"), Some(vec!["a b".to_owned(), "c/d".to_owned()]));
        assert_eq!(path_segments("/c%C3%A9/%"), Some(vec!["cé".to_owned(), "%".to_owned()]));
        assert_eq!(path_segments("/%ff"), None);
        assert_eq!(path_segments(""), Some(Vec::new()));
    }
}
