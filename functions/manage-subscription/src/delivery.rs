//! Sends the response to CloudFormation: a `PUT` to the pre-signed URL of the event.

use std::time::Duration;

use reqwest::header::CONTENT_TYPE;
use reqwest::{Method, StatusCode, Url};
use secrecy::{ExposeSecret, SecretString};
use shared::clock::{Clock, Deadline, timeout};
use shared::config::is_https_or_loopback;
use shared::http_client::HttpClient;
use shared::random::Random;
use shared::retry::Retries;

/// The longest that one attempt may take.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(3);

/// The maximum number of attempts.
const MAX_ATTEMPTS: u32 = 4;

/// The backoff before the first retry.
const BACKOFF: Duration = Duration::from_millis(200);

/// What the names of the buckets for responses begin with. The region follows, without its hyphens (AWS CloudFormation
/// user guide, "Access CloudFormation using an interface endpoint").
const BUCKET: &str = "cloudformation-custom-resource-response-";

/// The domains of AWS's partitions, as the AWS SDKs list them.
const AWS_DOMAINS: [&str; 7] = [
    "amazonaws.com",
    "amazonaws.com.cn",
    "amazonaws.eu",
    "c2s.ic.gov",
    "sc2s.sgov.gov",
    "cloud.adc-e.uk",
    "csp.hci.ic.gov",
];

/// The response was not delivered. None of the messages holds the URL.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DeliveryError {
    /// The URL is not one of CloudFormation.
    #[error("ResponseURL is not a URL of CloudFormation in this region, so no response is sent")]
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
    pub(crate) http: &'a HttpClient,
    pub(crate) clock: &'a dyn Clock,
    pub(crate) random: &'a Random,
    /// The region of the function, which is that of its stack.
    pub(crate) region: Option<&'a str>,
    /// Whether the function runs on one machine with everything else. A response may then go to a loopback address.
    pub(crate) is_local: bool,
}

impl Sender<'_> {
    /// Sends the response until it is accepted or the deadline comes.
    pub(crate) async fn deliver(
        self,
        url: &SecretString,
        response: String,
        deadline: Deadline,
    ) -> Result<(), DeliveryError> {
        let Self { http, clock, random, .. } = self;
        let url =
            Url::parse(url.expose_secret()).ok().filter(|url| may_send_to(url, self.region, self.is_local));
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

fn may_send_to(url: &Url, region: Option<&str>, is_local: bool) -> bool {
    match url.scheme() {
        "https" => region.is_some_and(|region| is_response_bucket(url, region)),
        _ => is_local && is_https_or_loopback(url),
    }
}

/// Whether the URL leads to CloudFormation's bucket for the responses of a region, in each form that S3's hosts have:
/// `BUCKET.s3.DOMAIN`, `BUCKET.s3-REGION.DOMAIN` and `BUCKET.s3.REGION.DOMAIN`.
fn is_response_bucket(url: &Url, region: &str) -> bool {
    let parts = || {
        let (bucket, service) = url.host_str()?.split_once('.')?;
        let domain = AWS_DOMAINS.iter().find_map(|domain| service.strip_suffix(domain)?.strip_suffix('.'));
        Some((bucket.strip_prefix(BUCKET)?, domain?))
    };
    let without_hyphens = |text: &str| text.replace('-', "");
    parts().is_some_and(|(bucket, service)| {
        without_hyphens(bucket) == without_hyphens(region)
            && (service == "s3" || service == format!("s3-{region}") || service == format!("s3.{region}"))
    })
}

async fn put(http: &HttpClient, url: Url, response: String) -> Result<(), DeliveryError> {
    // The content type is part of what was signed, and is empty.
    let unreachable = |error: reqwest::Error| DeliveryError::Unreachable(error.without_url());
    let request = http.request(Method::PUT, url).header(CONTENT_TYPE, "").body(response);
    let request = request.build().map_err(unreachable)?;
    let status = http.send(request).await.map_err(unreachable)?.status();
    if status.is_success() { Ok(()) } else { Err(DeliveryError::Status(status)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn response_goes_to_cloudformation_or_to_this_machine_if_the_stack_is_there() {
        let bucket = format!("https://{BUCKET}useast1.s3.amazonaws.com/a");
        for (url, on_aws, on_this_machine) in [
            (&*bucket, true, true),
            ("https://api.example.com/a", false, false),
            ("https://127.0.0.1/a", false, false),
            ("http://127.0.0.1/a", false, true),
            ("http://api.example.com/a", false, false),
        ] {
            let parsed = Url::parse(url).unwrap();
            assert_eq!(may_send_to(&parsed, Some("us-east-1"), false), on_aws, "{url}");
            assert_eq!(may_send_to(&parsed, Some("us-east-1"), true), on_this_machine, "{url}");
            assert!(!may_send_to(&parsed, None, false), "{url}");
        }
    }

    #[test]
    fn response_goes_to_cloudformations_bucket_in_the_region() {
        let is_bucket = |host: &str, region| {
            is_response_bucket(
                &Url::parse(&format!("https://{host}/arn%3Aaws?X-Amz-Signature=a")).unwrap(),
                region,
            )
        };
        for (host, region) in [
            ("useast1.s3.amazonaws.com", "us-east-1"),
            ("uswest2.s3-us-west-2.amazonaws.com", "us-west-2"),
            ("mecentral1.s3.me-central-1.amazonaws.com", "me-central-1"),
            ("eu-west1.s3-eu-west-1.amazonaws.com", "eu-west-1"),
            ("usgovwest1.s3.us-gov-west-1.amazonaws.com", "us-gov-west-1"),
            ("cnnorth1.s3.cn-north-1.amazonaws.com.cn", "cn-north-1"),
            ("euscdeeast1.s3.eusc-de-east-1.amazonaws.eu", "eusc-de-east-1"),
            ("usisoeast1.s3.us-iso-east-1.c2s.ic.gov", "us-iso-east-1"),
        ] {
            assert!(is_bucket(&format!("{BUCKET}{host}"), region), "{host}");
            assert!(!is_bucket(&format!("{BUCKET}{host}"), "ap-south-1"), "{host}");
            assert!(!is_bucket(&format!("{BUCKET}{host}.example.com"), region), "{host}");
            assert!(!is_bucket(&format!("another-{BUCKET}{host}"), region), "{host}");
        }
        for foreign in [
            "useast1.s3.example.com",
            "useast1.s3.xamazonaws.com",
            "useast1.execute-api.us-east-1.amazonaws.com",
            "useast1.x.s3.amazonaws.com",
            "useast1x.s3.amazonaws.com",
            "useast1",
        ] {
            assert!(!is_bucket(&format!("{BUCKET}{foreign}"), "us-east-1"), "{foreign}");
        }
        assert!(!is_bucket("127.0.0.1", "us-east-1") && !is_bucket("s3.amazonaws.com", "us-east-1"));
    }
}
