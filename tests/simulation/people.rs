//! What people do: they use the app, enter PINs on their devices, and some try to do harm.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use local::circle_simulator::{ChallengeType, ChallengeView, Expiry, PinEntry};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::invocations::{Invocation, Purpose, Request};
use crate::sandbox::Function;
use crate::steps::MAX_STEPS;
use crate::world::World;

/// With fewer challenges than this, a list has one page.
const PAGE: usize = 20;

/// So few requests, and requests for challenges, are within the limits of 20 at once and ten in an hour, even if each was
/// counted three times because the responses to the writes were lost.
const FEW_REQUESTS: usize = 6;
const FEW_CHALLENGES: usize = 3;

/// A request that has taken less time is counted rightly.
const LIMIT_KNOWN: Duration = Duration::from_secs(60);

/// In this time a user's limit admits only few more requests than its burst.
const FLOOD_LIMIT: Duration = Duration::from_secs(20);

/// How long a sign-in is recent enough to recover a PIN, from the start of the request. It is a minute old then.
const SIGN_IN_LASTS: Duration = Duration::from_secs(14 * 60);

/// A user of the app, with one or more devices.
#[derive(Debug)]
pub(crate) struct Person {
    pub(crate) id: String,
    /// The user tokens that the devices have received, the oldest first.
    tokens: Vec<String>,
    /// The last idempotency key of the app, and the type that it was for.
    last_key: Option<(&'static str, Uuid)>,
    /// Each key with the challenge that it returned.
    keys: Vec<(&'static str, Uuid, Uuid)>,
    /// How many requests the limit on requests was about, and how many of these asked for a challenge.
    requests: usize,
    challenge_requests: usize,
}

impl Person {
    pub(crate) fn new(id: String) -> Self {
        Self { id, tokens: Vec::new(), last_key: None, keys: Vec::new(), requests: 0, challenge_requests: 0 }
    }
}

impl World {
    /// A person's app sends a request.
    pub(crate) async fn person_acts(&mut self) {
        let person = self.choices.below(self.people.len());
        let has_known = u32::from(!self.known.is_empty());
        match self.choices.weighted(&[60, 15, 50 * has_known, 8, 8]) {
            0 => self.ask_for_challenge(person).await,
            1 => self.request(person, Request::Token, None).await,
            2 => {
                let (mut id, owner) = self.known[self.choices.below(self.known.len())];
                // Sometimes a stranger has got hold of the id.
                let caller = if self.choices.chance(10) { person } else { owner };
                if caller != owner {
                    self.count("challenge read by a stranger");
                }
                // Sometimes it is one that nobody requested here, or the request for it got no response.
                let ids: Vec<Uuid> = self.records().into_keys().collect();
                if !ids.is_empty() && self.choices.chance(10) {
                    id = ids[self.choices.below(ids.len())];
                    self.count("any record read");
                }
                let token = self.token_of(caller, 60);
                self.request(caller, Request::Get { id }, token).await;
            }
            3 => self.request(person, Request::List, None).await,
            _ => self.request(person, Request::Pin, None).await,
        }
    }

    /// A user token of one of the person's devices, with so many chances in a hundred.
    fn token_of(&mut self, person: usize, percent: u32) -> Option<String> {
        let count = self.people[person].tokens.len();
        if count == 0 || !self.choices.chance(percent) {
            return None;
        }
        // Mostly the newest.
        let back = self.choices.weighted(&[70, 30]) * self.choices.below(count);
        Some(self.people[person].tokens[count - 1 - back].clone())
    }

    async fn ask_for_challenge(&mut self, person: usize) {
        let kind = if self.choices.chance(30) { "RESTORE_PIN" } else { "CHANGE_PIN" };
        let keys: Vec<(&'static str, Uuid)> =
            self.people.iter().filter_map(|person| person.last_key).collect();
        let (kind, key) = match (self.choices.weighted(&[50, 15, 30, 5]), self.people[person].last_key) {
            (1, _) => (kind, None),
            // The app retries.
            (2, Some((kind, key))) => (kind, Some(key)),
            // Apps whose keys are not unique: another user's key, or the same key for something else.
            (3, _) if !keys.is_empty() => {
                self.count("key of another request");
                (kind, Some(keys[self.choices.below(keys.len())].1))
            }
            _ => (kind, Some(self.random.uuid())),
        };
        if let Some(key) = key {
            self.people[person].last_key = Some((kind, key));
            self.callers_keys.insert(key.to_string());
        }
        let token = self.token_of(person, 40);
        let is_stale_sign_in = self.choices.chance(10);
        if is_stale_sign_in && kind == "RESTORE_PIN" {
            self.count("recovery with an old sign-in");
        }
        self.request(person, Request::Challenge { kind, key, is_stale_sign_in }, token).await;
    }

    /// Many requests of one person, one after the other, without any pause.
    pub(crate) async fn flood(&mut self) {
        let person = self.choices.below(self.people.len());
        self.log(format!("{} floods the API", self.people[person].id));
        let (begun_at, before) = (self.time.elapsed(), self.count_of("request beyond the user's limit"));
        let asks_for_pin = self.choices.chance(30);
        for _ in 0..30 {
            let request = if asks_for_pin { Request::Pin } else { Request::Token };
            self.request(person, request, None).await;
            let is_flood = |invocation: &Invocation| {
                matches!(invocation.purpose, Purpose::Person { request: Request::Token | Request::Pin, .. })
            };
            self.wait_until_quiet().await;
            for _ in 0..MAX_STEPS {
                if !self.invocations.iter().any(is_flood) {
                    break;
                }
                self.progress().await;
                self.wait_until_quiet().await;
            }
        }
        let lasted = self.time.elapsed() - begun_at;
        let is_limited = self.count_of("request beyond the user's limit") > before;
        if !is_limited && lasted < FLOOD_LIMIT && self.count_of("wall clock jumped") == 0 {
            self.violation("nothing limited a flood".to_owned());
        }
    }

    async fn request(&mut self, person: usize, request: Request, token: Option<String>) {
        let (function, method, route, path, body) = match &request {
            Request::Token => {
                (Function::CreateToken, "POST", "/session-tokens", "/session-tokens".to_owned(), None)
            }
            Request::Challenge { kind, .. } => {
                let body = json!({ "type": kind }).to_string();
                (Function::CreateChallenge, "POST", "/challenges", "/challenges".to_owned(), Some(body))
            }
            Request::Get { id } => (
                Function::GetChallenge,
                "GET",
                "/challenges/{challengeId}",
                format!("/challenges/{id}"),
                None,
            ),
            Request::List => (Function::GetChallenge, "GET", "/challenges", "/challenges".to_owned(), None),
            Request::Pin => (Function::GetPin, "GET", "/pin", "/pin".to_owned(), None),
        };
        let now = self.time.now().unix_timestamp();
        let signed_in_at = if matches!(request, Request::Challenge { is_stale_sign_in: true, .. }) {
            now - 3600
        } else {
            now - 60
        };
        let mut headers = json!({ "content-type": "application/json" });
        if let Request::Challenge { key: Some(key), .. } = &request {
            headers["idempotency-key"] = json!(key);
        }
        if let Some(token) = &token {
            headers["x-user-token"] = json!(token);
        }
        let mut event = json!({
            "version": "2.0",
            "routeKey": format!("{method} {route}"),
            "rawPath": path,
            "rawQueryString": "",
            "headers": headers,
            "requestContext": {
                "requestId": self.random.uuid(),
                "routeKey": format!("{method} {route}"),
                "http": { "method": method, "path": path, "sourceIp": "192.0.2.1" },
                "authorizer": { "jwt": { "claims": { "sub": self.people[person].id, "auth_time": signed_in_at.to_string() }, "scopes": null } },
            },
            "isBase64Encoded": false,
        });
        if let Some(body) = body {
            event["body"] = json!(body);
        }
        if let Request::Get { id } = &request {
            event["pathParameters"] = json!({ "challengeId": id });
        }
        let asking = &mut self.people[person];
        asking.requests += usize::from(!matches!(request, Request::Get { .. } | Request::List));
        asking.challenge_requests += usize::from(matches!(request, Request::Challenge { .. }));
        let with = if token.is_some() { " with a user token" } else { "" };
        self.log(format!("{} requests {method} {path}{with}: {request:?}", self.people[person].id));
        self.invoke(function, event, Purpose::Person { person, request }).await;
    }

    /// A person got a response. The request took this long.
    pub(crate) fn person_got(
        &mut self,
        person: usize,
        request: &Request,
        status: u16,
        body: &Value,
        took: Duration,
    ) {
        let id = self.people[person].id.clone();
        self.log(format!("{id} gets {status} {}", brief(body)));
        let session = if body["userToken"].is_string() { body } else { &body["session"] };
        if let Some(token) = session["userToken"].as_str() {
            if user_of_token(token).as_ref() != Some(&id) {
                self.violation(format!("{id} got a session of somebody else"));
            }
            self.people[person].tokens.push(token.to_owned());
        }
        let is_stale =
            matches!(request, Request::Challenge { kind: "RESTORE_PIN", is_stale_sign_in: true, .. });
        let is_clock_right = self.count_of("wall clock jumped") == 0;
        // A request counts at its beginning, which may be long ago if the sandbox was frozen.
        let is_limit_known = is_clock_right && took < LIMIT_KNOWN;
        let Person { requests, challenge_requests, .. } = self.people[person];
        match body["code"].as_str() {
            Some("too_many_requests") => {
                self.count("request beyond the user's limit");
                if requests <= FEW_REQUESTS && is_limit_known {
                    self.violation(format!("{id} was limited after {requests} requests"));
                }
            }
            Some("too_many_challenges") if challenge_requests <= FEW_CHALLENGES && is_limit_known => {
                self.violation(format!("{id} was limited after {challenge_requests} challenges"));
            }
            // A wrong clock can place a sign-in in the future. A recent one can be too old after the sandbox was frozen.
            Some("sign_in_required") if !is_stale && took < SIGN_IN_LASTS && is_clock_right => {
                self.violation(format!("{id} had to sign in again"));
            }
            Some("pin_locked") => self.count("PIN locked"),
            Some("security_answers_locked") => self.count("security answers locked"),
            _ => {}
        }
        match request {
            Request::Challenge { kind, key, is_stale_sign_in } => {
                if *is_stale_sign_in && *kind == "RESTORE_PIN" && status < 400 {
                    self.violation(format!("{id} restored a PIN with an old sign-in"));
                }
                if status == 200 || status == 201 {
                    self.created(person, kind, *key, body);
                }
            }
            Request::Get { id: challenge } => {
                let is_known = self.known.contains(&(*challenge, person));
                // A request that got no response may have had its effect.
                let record = self.records().remove(challenge).unwrap_or_default();
                let is_own = record["userId"] == id.as_str() && record["requestedAt"].is_string();
                if (status == 200 && !is_own) || (status < 500 && status != 200 && is_known) {
                    self.violation(format!("{id} got {status} for challenge {challenge}, own: {is_own}"));
                }
                if status == 200 && !self.circle_said(*challenge, &body["status"]) {
                    self.violation(format!("{id} was shown {} of {challenge}", body["status"]));
                }
            }
            Request::List if status == 200 => self.check_list(person, body),
            Request::List => {}
            Request::Token | Request::Pin => {}
        }
    }

    /// Checks a list of challenges that a person was shown.
    fn check_list(&mut self, person: usize, body: &Value) {
        let id = self.people[person].id.clone();
        let records = self.records();
        let mut listed = Vec::new();
        for challenge in body["challenges"].as_array().into_iter().flatten() {
            let shown = challenge["challengeId"].as_str().and_then(|id| id.parse::<Uuid>().ok());
            let Some(shown) = shown else { return self.violation(format!("{id} was shown {challenge}")) };
            let record = records.get(&shown);
            let is_own = record
                .is_some_and(|record| record["userId"] == id.as_str() && !record["requestedAt"].is_null());
            if !is_own || !self.circle_said(shown, &challenge["status"]) {
                self.violation(format!("{id} was shown {challenge}, and the record is {record:?}"));
            }
            listed.push(shown);
        }
        let mut known = self.known.iter().filter(|(_, owner)| *owner == person);
        if self.is_ending && listed.len() < PAGE && !known.all(|(known, _)| listed.contains(known)) {
            self.violation(format!("the list of {id} is not complete: {listed:?}"));
        }
    }

    /// Whether Circle has ever said this status of a challenge.
    pub(crate) fn circle_said(&self, challenge: Uuid, status: &Value) -> bool {
        let said = self.history.get(&challenge).zip(status.as_str());
        said.is_some_and(|(said, status)| said.contains(status))
    }

    /// In the end, each person looks at the list.
    pub(crate) async fn everybody_lists(&mut self) {
        for person in 0..self.people.len() {
            self.request(person, Request::List, None).await;
        }
    }

    /// A person was told of a challenge.
    fn created(&mut self, person: usize, kind: &'static str, key: Option<Uuid>, body: &Value) {
        let user = self.people[person].id.clone();
        let challenge: Uuid =
            body["challengeId"].as_str().and_then(|id| id.parse().ok()).expect("it has an id");
        let at_circle = self.circle.challenge(challenge).ok();
        if at_circle
            .is_none_or(|challenge| challenge.user_id != user || json!(challenge.challenge_type) != kind)
        {
            self.violation(format!("{user} was told of challenge {challenge}, which is not theirs"));
        }
        if !self.circle_said(challenge, &body["status"]) {
            self.violation(format!("{user} was told that {challenge} is {}", body["status"]));
        }
        if let Some(key) = key {
            let before = self.people[person].keys.iter().find(|(of, used, _)| (*of, *used) == (kind, key));
            if let Some((_, _, before)) = before.filter(|(_, _, before)| *before != challenge) {
                let before = *before;
                self.violation(format!("key {key} of {user} returned {before} and then {challenge}"));
            }
            self.people[person].keys.push((kind, key, challenge));
        }
        if !self.known.contains(&(challenge, person)) {
            self.known.push((challenge, person));
        }
    }

    /// A user acts on a device.
    pub(crate) fn device_acts(&mut self) {
        let open = self.open_at_circle();
        let challenge = &open[self.choices.below(open.len())];
        let action = self.choices.weighted(&[40, 20, 20, 6, 3, 3, 3, 3, 12]);
        self.act_on_device(challenge, action);
    }

    pub(crate) fn act_on_device(&mut self, challenge: &ChallengeView, action: usize) {
        let (id, circle) = (challenge.id, &self.circle);
        let enter = |is_right: bool| match challenge.challenge_type {
            ChallengeType::ChangePin => {
                circle.enter_pin(id, if is_right { PinEntry::right() } else { PinEntry::wrong() })
            }
            ChallengeType::RestorePin => circle.answer_security_questions(id, is_right, None),
        };
        let (what, result) = match action {
            0 => ("a right entry", enter(true)),
            1 => ("the challenge opened", circle.start_challenge(id)),
            2 => ("a wrong entry", enter(false)),
            3 => ("the challenge cancelled", circle.cancel_challenge(id)),
            8 => ("three wrong entries", enter(false).and_then(|_| enter(false)).and_then(|_| enter(false))),
            expiry => {
                let kinds = [Expiry::Expired, Expiry::Failed, Expiry::Mixed, Expiry::Error];
                ("the challenge expired", circle.expire_challenge(id, kinds[expiry - 4]))
            }
        };
        // An entry opens the challenge first. An ending can have two names.
        let statuses: &[&str] = match action {
            0..=2 | 8 => &["IN_PROGRESS"],
            4..=7 => &["FAILED", "EXPIRED"],
            _ => &[],
        };
        if result.is_ok() || action == 8 {
            self.history.entry(id).or_default().extend(statuses);
        }
        let status = result.map_or("no effect", |view| view.status);
        self.note_statuses();
        self.log(format!("device of {}: {what} ({id}): {status}", challenge.user_id));
    }
}

/// The user that a user token is for.
fn user_of_token(token: &str) -> Option<String> {
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let claims: Value = serde_json::from_slice(&claims).ok()?;
    claims["sub"].as_str().map(str::to_owned)
}

/// The parts of a response that are equal in each run: tokens and keys are random.
fn brief(body: &Value) -> String {
    let mut kept = serde_json::Map::new();
    for name in ["challengeId", "status", "code", "circleCode", "reason", "checkError"] {
        if let Some(value) = body.get(name) {
            kept.insert(name.to_owned(), value.clone());
        }
    }
    Value::Object(kept).to_string()
}
