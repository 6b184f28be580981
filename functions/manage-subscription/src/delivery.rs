//! Sends the response to CloudFormation: a `PUT` to the pre-signed URL of the event.

use std::time::Duration;

use reqwest::header::CONTENT_TYPE;
use reqwest::{StatusCode, Url};
use secrecy::{ExposeSecret, SecretString};
use shared::clock::{Clock, Deadline, timeout};
use shared::config::is_https_or_loopback;
use shared::random::Random;
use shared::retry::Retries;

/// The longest that one attempt may take.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(3);

/// The maximum number of attempts.
const MAX_ATTEMPTS: u32 = 4;

/// The backoff before the first retry.
const BACKOFF: Duration = Duration::from_millis(200);

/// The response was not delivered. None of the messages holds the URL.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DeliveryError {
    /// The event has no usable URL.
    #[error("ResponseURL is not an https URL, so no response can be sent to CloudFormation")]
    Url,
    /// CloudFormation rejects the URL, perhaps because it has expired.
    #[error("CloudFormation rejected the response with status {0}")]
    Status(StatusCode),
    /// No connection could be made, or it broke.
    #[error("CloudFormation's URL cannot be reached")]
    Unreachable(#[source] reqwest::Error),
    /// It took too long.
    #[error("CloudFormation did not accept the response in time")]
    TimedOut,
}

impl DeliveryError {
    fn is_transient(&self) -> bool {
        match self {
            Self::Url => false,
            Self::Status(status) => status.is_server_error(),
            Self::Unreachable(_) | Self::TimedOut => true,
        }
    }
}

/// What sending a response needs.
#[derive(Clone, Copy)]
pub(crate) struct Sender<'a> {
    pub(crate) http: &'a reqwest::Client,
    pub(crate) clock: &'a dyn Clock,
    pub(crate) random: &'a Random,
}

impl Sender<'_> {
    /// Sends the response until it is accepted or the deadline comes.
    pub(crate) async fn deliver(
        self,
        url: &SecretString,
        response: String,
        deadline: Deadline,
    ) -> Result<(), DeliveryError> {
        let Self { http, clock, random } = self;
        let url = Url::parse(url.expose_secret()).ok().filter(is_https_or_loopback);
        let url = url.ok_or(DeliveryError::Url)?;
        let mut retries = Retries::new(clock, random, deadline, BACKOFF, MAX_ATTEMPTS);
        loop {
            let limit = deadline.remaining(clock).min(ATTEMPT_TIMEOUT);
            let sent = timeout(clock, limit, put(http, url.clone(), response.clone())).await;
            let Err(error) = sent.unwrap_or(Err(DeliveryError::TimedOut)) else { return Ok(()) };
            if !error.is_transient() {
                return Err(error);
            }
            let Some(wait) = retries.next_wait(None) else { return Err(error) };
            clock.sleep(wait).await;
        }
    }
}

async fn put(http: &reqwest::Client, url: Url, response: String) -> Result<(), DeliveryError> {
    // The content type is part of what was signed, and is empty.
    let sent = http.put(url).header(CONTENT_TYPE, "").body(response).send().await;
    let status = sent.map_err(|error| DeliveryError::Unreachable(error.without_url()))?.status();
    if status.is_success() { Ok(()) } else { Err(DeliveryError::Status(status)) }
}
