//! The answer's way to CloudFormation: a `PUT` to the pre-signed URL of the event.

use std::time::Duration;

use reqwest::header::CONTENT_TYPE;
use reqwest::{StatusCode, Url};
use secrecy::{ExposeSecret, SecretString};
use shared::clock::{Clock, Deadline, timeout};
use shared::config::is_https_or_loopback;
use shared::random::Random;

/// The longest that one attempt may take.
const ATTEMPT_LIMIT: Duration = Duration::from_secs(3);

/// How often the answer is sent at most.
const MAX_ATTEMPTS: u32 = 4;

/// The limit of the first wait before a repeat; it doubles with each.
const FIRST_BACKOFF: Duration = Duration::from_millis(200);

/// The answer did not arrive. The URL is in none of the messages.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DeliveryError {
    /// There is nowhere to send it to.
    #[error("ResponseURL is no https URL, so CloudFormation cannot be answered")]
    Url,
    /// The URL is not taken, any more or at all.
    #[error("CloudFormation's answer to the result was {0}")]
    Refused(StatusCode),
    /// There was no connection, or it broke.
    #[error("CloudFormation could not be answered")]
    Unreachable(#[source] reqwest::Error),
    /// It took too long.
    #[error("CloudFormation did not take the result in time")]
    TimedOut,
}

/// Sends the answer until it is taken or the deadline comes.
pub(crate) async fn deliver(
    http: &reqwest::Client,
    (clock, random): (&dyn Clock, &Random),
    url: &SecretString,
    answer: String,
    deadline: Deadline,
) -> Result<(), DeliveryError> {
    let url = Url::parse(url.expose_secret()).ok().filter(is_https_or_loopback).ok_or(DeliveryError::Url)?;
    let mut attempt = 1;
    loop {
        let limit = deadline.remaining(clock).min(ATTEMPT_LIMIT);
        let sent = timeout(clock, limit, put(http, url.clone(), answer.clone())).await;
        let error = match sent.unwrap_or(Err(DeliveryError::TimedOut)) {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        let wait = random.jitter(FIRST_BACKOFF * 2u32.pow(attempt - 1));
        let is_final = matches!(error, DeliveryError::Refused(status) if !status.is_server_error());
        if is_final || attempt == MAX_ATTEMPTS || wait >= deadline.remaining(clock) {
            return Err(error);
        }
        clock.sleep(wait).await;
        attempt += 1;
    }
}

async fn put(http: &reqwest::Client, url: Url, answer: String) -> Result<(), DeliveryError> {
    // The type is part of what was signed, and is empty.
    let sent = http.put(url).header(CONTENT_TYPE, "").body(answer).send().await;
    let status = sent.map_err(|error| DeliveryError::Unreachable(error.without_url()))?.status();
    if status.is_success() { Ok(()) } else { Err(DeliveryError::Refused(status)) }
}
