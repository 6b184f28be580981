//! The page in which the user enters the PIN, on an origin of its own, as Circle's `https://pw-auth.circle.com`.
//!
//! Circle's Web SDK shows it in a frame if its `serviceUrl` is the URL of this page. The page speaks the protocol of the
//! SDK and asks the simulator about each entry. The PIN reaches neither the app nor the functions.

use std::io;

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http::header::CACHE_CONTROL;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use uuid::Uuid;

use super::CircleSimulator;
use super::api_error::ApiError;
use super::challenges::{Challenge, ChallengeType, Status};
use super::dates::date;
use super::device::{entry_errors, user_of};
use super::state::State as Simulated;
use super::users::{Factor, SECURITY_QUESTIONS, Verdict};
use crate::server::{self, Server};

const HTML: &str = include_str!("../../web/pin-page/index.html");
const SCRIPT: &str = include_str!("../../web/pin-page/pin-page.js");
const STYLE: &str = include_str!("../../web/pin-page/pin-page.css");

/// The page loads nothing from elsewhere. Any page may frame it, because every app does.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'";

/// What the user has entered. No member is ever logged or returned.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Entry {
    user_token: String,
    pin: Option<String>,
    answers: Option<Vec<String>>,
    new_pin: Option<String>,
}

/// Why the page cannot go on, in the form of the SDK's errors, with what the page shows in addition.
struct Rejection {
    code: i32,
    message: String,
    attempts_left: Option<u32>,
    locked_until: Option<String>,
}

impl Rejection {
    fn new(code: i32, message: &str) -> Self {
        Self { code, message: message.to_owned(), attempts_left: None, locked_until: None }
    }

    fn not_entered() -> Self {
        Self::new(1, "The entry is incomplete")
    }
}

impl From<ApiError> for Rejection {
    fn from(error: ApiError) -> Self {
        let body = error.body();
        let code = body["code"].as_i64().and_then(|code| i32::try_from(code).ok());
        Self::new(code.unwrap_or(-1), body["message"].as_str().unwrap_or_default())
    }
}

impl CircleSimulator {
    /// Serves the page on `listener`. Needs a tokio runtime. The server stops when it is dropped.
    pub(crate) fn serve_pin_page(&self, listener: TcpListener) -> io::Result<Server> {
        let file = |content_type: &'static str, content: &'static str| {
            get(move || async move { server::file(content_type, POLICY, content) })
        };
        let router = Router::new()
            .route("/", file("text/html; charset=utf-8", HTML))
            .route("/pin-page.js", file("text/javascript; charset=utf-8", SCRIPT))
            .route("/pin-page.css", file("text/css; charset=utf-8", STYLE))
            .route("/challenges/{id}/{action}", post(act))
            .with_state(self.for_task());
        Server::start(listener, router)
    }

    async fn on_page(&self, id: &str, action: &str, entry: Entry) -> Result<Value, Rejection> {
        let token = self.core.user_token_key.verify(&entry.user_token).await?;
        let now = self.now();
        let id = {
            let state = self.state();
            let user = state.user_of(&token, now)?;
            let not_found = || ApiError::no_such_challenge(404);
            let id = Uuid::parse_str(id).map_err(|_| not_found())?;
            state.challenges.get(id).filter(|one| one.user_id == user.id).ok_or_else(not_found)?;
            id
        };
        match action {
            "open" => self.open(id),
            "check" => self.judge(id, &entry, false),
            "check-new" => check_new_pin(&entry).map(|_| json!({})),
            "finish" => {
                check_new_pin(&entry)?;
                self.judge(id, &entry, true)
            }
            "cancel" => {
                if self.state().knobs.cancel_fails_challenge {
                    self.cancel_challenge(id).map_err(|_| self.ended(id))?;
                }
                Ok(json!({}))
            }
            _ => Err(ApiError::no_such_resource().into()),
        }
    }

    /// The user has opened the page. A factor that is locked fails the challenge.
    fn open(&self, id: Uuid) -> Result<Value, Rejection> {
        let now = self.now();
        let mut rejection = None;
        let opened = self.act_on(id, |state, challenge_type| {
            let factor = factor(state, id, challenge_type)?;
            let (_, locked) = entry_errors(challenge_type);
            rejection = factor.locked_until(now).map(|until| Rejection {
                locked_until: Some(date(until)),
                ..Rejection::new(locked.0, locked.1)
            });
            Ok(rejection.is_some().then(|| Status::failed(locked.0, locked.1)))
        });
        let view = opened.map_err(|_| self.ended(id))?;
        match rejection {
            Some(rejection) => Err(rejection),
            None => Ok(json!({
                "type": view.challenge_type,
                "questions": SECURITY_QUESTIONS.map(|(question, _)| question),
            })),
        }
    }

    /// Judges the PIN or the answers. If they are right and the user has finished, the new PIN is valid.
    fn judge(&self, id: Uuid, entry: &Entry, finished: bool) -> Result<Value, Rejection> {
        let now = self.now();
        let mut rejection = None;
        let judged = self.act_on(id, |state, challenge_type| {
            let fails = match challenge_type {
                ChallengeType::ChangePin => state.knobs.wrong_pin_fails_challenge,
                ChallengeType::RestorePin => state.knobs.wrong_answers_fail_challenge,
            };
            let user = user_of(state, id)?;
            let is_right = match (challenge_type, &entry.pin, &entry.answers) {
                (ChallengeType::ChangePin, Some(pin), None) => user.pin_value.as_ref() == Some(pin),
                (ChallengeType::RestorePin, None, Some(answers)) => user.has_answers(answers),
                _ => {
                    rejection = Some(Rejection::not_entered());
                    return Ok(None);
                }
            };
            let factor = factor(state, id, challenge_type)?;
            let verdict = factor.enter(is_right, now);
            let (wrong, locked) = entry_errors(challenge_type);
            let (code, message) = if verdict == Verdict::Locked { locked } else { wrong };
            if verdict != Verdict::Right {
                rejection = Some(Rejection {
                    attempts_left: Some(factor.attempts_left(now)).filter(|left| *left > 0 && !fails),
                    locked_until: factor.locked_until(now).map(date),
                    ..Rejection::new(code, message)
                });
                return Ok((fails || verdict == Verdict::Locked).then(|| Status::failed(code, message)));
            }
            if !finished {
                return Ok(None);
            }
            let user = user_of(state, id)?;
            user.pin.correct_entry();
            user.pin_value.clone_from(&entry.new_pin);
            Ok(Some(Status::Complete))
        });
        judged.map_err(|_| self.ended(id))?;
        rejection.map_or_else(|| Ok(json!({})), Err)
    }

    /// Why the page of a challenge that has ended cannot go on.
    fn ended(&self, id: Uuid) -> Rejection {
        match self.state().challenges.get(id).map(|Challenge { status, .. }| status) {
            Some(Status::Failed { code, message }) => Rejection::new(*code, message),
            Some(Status::Expired | Status::ExpiredAnnouncedAsFailed | Status::ExpiredAsError) => {
                ApiError::challenge_expired(403).into()
            }
            Some(_) => Rejection::new(155_116, "The challenge has already ended"),
            None => ApiError::no_such_challenge(404).into(),
        }
    }
}

/// Every response is 200, because the page shows an error as it shows a result.
async fn act(
    State(simulator): State<CircleSimulator>,
    Path((id, action)): Path<(String, String)>,
    Json(entry): Json<Entry>,
) -> Response {
    let body = simulator.on_page(&id, &action, entry).await.unwrap_or_else(|rejection| {
        let Rejection { code, message, attempts_left, locked_until } = rejection;
        let mut error = json!({ "code": code, "message": message });
        if let Some(left) = attempts_left {
            error["attemptsLeft"] = left.into();
        }
        if let Some(until) = locked_until {
            error["lockedUntil"] = until.into();
        }
        json!({ "error": error })
    });
    ([(CACHE_CONTROL, "no-store")], Json(body)).into_response()
}

fn factor(
    state: &mut Simulated,
    id: Uuid,
    challenge_type: ChallengeType,
) -> Result<&mut Factor, super::ControlError> {
    let user = user_of(state, id)?;
    Ok(match challenge_type {
        ChallengeType::ChangePin => &mut user.pin,
        ChallengeType::RestorePin => &mut user.security_questions,
    })
}

/// Circle's rule for a new PIN: six digits, neither all the same nor consecutive.
fn check_new_pin(entry: &Entry) -> Result<(), Rejection> {
    let digits = entry.new_pin.as_deref().ok_or_else(Rejection::not_entered)?.as_bytes();
    if digits.len() != 6 || !digits.iter().all(u8::is_ascii_digit) {
        return Err(Rejection::new(2, "A PIN has six digits"));
    }
    let has_step = |step: i16| digits.windows(2).all(|pair| i16::from(pair[1]) - i16::from(pair[0]) == step);
    if [-1, 0, 1].into_iter().any(has_step) {
        return Err(Rejection::new(155_704, "A PIN must not have repeated or consecutive digits only"));
    }
    Ok(())
}
