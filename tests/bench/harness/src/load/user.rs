//! What a user and the app do.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tokio::time::sleep;
use uuid::Uuid;

use super::figures::Figures;
use super::stack::{Reply, Stack};

/// How long the user looks at the screen before the PIN is entered.
const HESITATION: Duration = Duration::from_secs(2);

/// The most polls of one app.
const MAX_POLLS: u32 = 20;

/// How a reset goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Course {
    ChangesPin,
    RecoversPin,
    /// Enters a wrong PIN first.
    Mistypes,
    /// Enters three wrong PINs.
    LocksPin,
    Cancels,
    /// The challenge expires, as one of Circle's four ways to say so.
    Expires,
    /// Closes the app after the PIN was entered, so nobody polls.
    ClosesApp,
    /// Opens the challenge and does nothing more.
    WalksAway,
}

impl Course {
    /// The course of a user. Of 100 users in a row, each course has the same number.
    fn of(number: usize) -> Self {
        match number * 37 % 100 {
            0..70 => Self::ChangesPin,
            70..80 => Self::RecoversPin,
            80..85 => Self::Mistypes,
            85..87 => Self::LocksPin,
            87..89 => Self::Cancels,
            89..91 => Self::Expires,
            91..99 => Self::ClosesApp,
            _ => Self::WalksAway,
        }
    }
}

/// A reset that was requested.
#[derive(Debug, Clone)]
pub(crate) struct Reset {
    pub(crate) user: String,
    pub(crate) challenge: String,
    /// The last status that the app saw.
    pub(crate) seen: String,
    pub(crate) is_watched: bool,
}

/// Lets a user reset the PIN. Fails if a response is not as the documentation promises.
pub(crate) async fn reset(stack: &Stack, figures: &Figures, number: usize) -> Result<Reset> {
    let course = Course::of(number);
    let user = format!("load-{number:08}");
    let account = json!({ "pin": "112233", "pinStatus": "ENABLED", "securityQuestionStatus": "ENABLED" });
    stack.control("PUT", &format!("/users/{user}"), account).await?;
    let bearer = format!("Bearer {}", stack.token(&user).await?);
    let app = App { stack, figures, bearer: &bearer };

    let session = app.call("POST /session-tokens", "/session-tokens", &[], None, 201).await?;
    let token = session.body["userToken"].as_str().context("no userToken")?.to_owned();
    if number.is_multiple_of(5) {
        app.call("GET /pin", "/pin", &[], None, 200).await?;
    }
    let key = Uuid::new_v4().to_string();
    let headers = [("x-user-token", token.as_str()), ("idempotency-key", key.as_str())];
    let kind = if course == Course::RecoversPin { "RESTORE_PIN" } else { "CHANGE_PIN" };
    let create =
        |status| app.call("POST /challenges", "/challenges", &headers, Some(json!({ "type": kind })), status);
    let challenge = create(201).await?.body["challengeId"].as_str().context("no challengeId")?.to_owned();
    if number % 20 == 1 {
        // An app that did not get the response sends the request again.
        let again = create(200).await?;
        ensure!(again.body["challengeId"] == *challenge, "a retry created another challenge");
    }

    let device = |action: &str, body| {
        let path = format!("/challenges/{challenge}/{action}");
        async move { stack.control("POST", &path, body).await }
    };
    device("start", Value::Null).await?;
    sleep(HESITATION).await;
    let (right, wrong) = (json!({ "pin": "112233", "newPin": "445566" }), json!({ "pin": "000000" }));
    let expected = match course {
        Course::ChangesPin | Course::ClosesApp => (device("pin", right).await?, "COMPLETE").1,
        Course::RecoversPin => {
            device("security-questions", json!({ "correct": true, "newPin": "445566" })).await?;
            "COMPLETE"
        }
        Course::Mistypes => {
            device("pin", wrong).await?;
            device("pin", right).await?;
            "COMPLETE"
        }
        Course::LocksPin => {
            for _ in 0..3 {
                device("pin", wrong.clone()).await?;
            }
            "FAILED"
        }
        Course::Cancels => (device("cancel", Value::Null).await?, "FAILED").1,
        Course::Expires => {
            let way = ["EXPIRED", "FAILED", "MIXED", "ERROR"][number / 100 % 4];
            device("expire", json!({ "as": way })).await?;
            "EXPIRED"
        }
        Course::WalksAway => "IN_PROGRESS",
    };
    let is_watched = !matches!(course, Course::ClosesApp | Course::WalksAway);
    let mut seen = "PENDING".to_owned();
    if is_watched {
        app.watch(&challenge, &token, &mut seen).await?;
        // FAILED with 155121 and EXPIRED are the same ending.
        let is_expected = seen == expected || (expected, seen.as_str()) == ("EXPIRED", "FAILED");
        ensure!(is_expected, "{course:?}: the app saw {seen}");
    }
    Ok(Reset { user, challenge, seen, is_watched })
}

struct App<'a> {
    stack: &'a Stack,
    figures: &'a Figures,
    bearer: &'a str,
}

impl App<'_> {
    /// A request to the HTTP API, whose response has to have a status.
    async fn call(
        &self,
        route: &'static str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<Value>,
        status: u16,
    ) -> Result<Reply> {
        let (method, _) = route.split_once(' ').context("a route has a method")?;
        let headers: Vec<_> = headers.iter().copied().chain([("authorization", self.bearer)]).collect();
        let began = Instant::now();
        let reply = self.stack.api(method, path, &headers, body).await?;
        self.figures.add(route, began, reply.status);
        ensure!(reply.status == status, "{route}: {} {}", reply.status, reply.body);
        Ok(reply)
    }

    /// Polls until the status is final, as often as the responses say.
    async fn watch(&self, challenge: &str, token: &str, seen: &mut String) -> Result<()> {
        let path = format!("/challenges/{challenge}");
        for _ in 0..MAX_POLLS {
            let headers = [("x-user-token", token)];
            let reply = self.call("GET /challenges/{challengeId}", &path, &headers, None, 200).await?;
            let status = reply.body["status"].as_str().context("no status")?.to_owned();
            ensure!(rank(&status) >= rank(seen), "{challenge}: {status} after {seen}");
            *seen = status;
            if rank(seen) >= 2 {
                return Ok(());
            }
            sleep(Duration::from_secs(reply.retry_after.unwrap_or(3))).await;
        }
        Ok(())
    }
}

/// The order in which statuses follow each other.
pub(crate) fn rank(status: &str) -> u8 {
    match status {
        "PENDING" => 0,
        "FAILED" | "EXPIRED" => 2,
        "COMPLETE" => 3,
        _ => 1,
    }
}
