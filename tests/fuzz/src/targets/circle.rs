//! Circle's responses, as the client reads them.
//!
//! The first line of an input names the call; the rest is a script.

use libfuzzer_sys::Corpus;
use shared::challenge::{Challenge, ChallengeType, ReportSource, Status};
use shared::circle::{Circle, CircleIdempotencyKey};
use shared::clock::Deadline;
use shared::config::CircleSettings;
use shared::secrets::UserToken;
use uuid::Uuid;

use super::signature;
use crate::clock::NOON;
use crate::script::{Script, Service};
use crate::server::{CHALLENGE, SECRET, USER};
use crate::world::{WEBHOOK_URL, World};

/// How often a call is sent at most: three attempts with each of two API keys, and each attempt once more if its connection
/// breaks.
pub(super) const MOST_ATTEMPTS: u64 = 12;

/// The longest text of Circle's that is kept, in characters.
const TEXT_LIMIT: usize = 500;

pub(crate) fn responses(world: &World, input: &[u8]) -> Corpus {
    let script = Script::parse(input);
    let Ok(call) = std::str::from_utf8(script.head) else { return Corpus::Reject };
    let call = call.to_owned();
    world.server.set_public_key(&signature::PUBLIC_KEY);
    let outcome = world.run(script.replies, async |platform| {
        let settings = CircleSettings::read(&platform.environment).expect("complete settings");
        let circle = Circle::new(&platform, settings);
        let deadline = Deadline::after(&*platform.clock, std::time::Duration::from_secs(8));
        let (user, id) = (USER.parse().expect("a user id"), CHALLENGE.parse().expect("an id"));
        let token = UserToken::parse(SECRET).expect("a token");
        let webhook = WEBHOOK_URL.parse().expect("a URL");
        // The text that a log line could have: of the error, or of the result in `Debug`.
        match call.as_str() {
            "session" => circle.create_session(&user, deadline).await.map(|session| {
                assert!(session.expires_at > platform.clock.now(), "a session that has ended");
                format!("{session:?}")
            }),
            "user" => circle.user(&user, deadline).await.map(|user| format!("{:?}", user.pin_details)),
            "user-of-token" => {
                circle.user_of_token(&token, deadline).await.map(|user| format!("{:?}", user.pin_details))
            }
            "change" | "restore" => {
                let kind =
                    if call == "change" { ChallengeType::ChangePin } else { ChallengeType::RestorePin };
                let key = CircleIdempotencyKey::random(&platform.random);
                circle
                    .create_challenge(kind, &token, &key, deadline)
                    .await
                    .map(|created| created.id.to_string())
            }
            "challenge" => {
                let source = ReportSource::Poll { request_id: "request-1".to_owned() };
                let report = circle.challenge(&record(id), &token, source, deadline).await;
                report.map(|report| {
                    report
                        .map(|report| {
                            assert_eq!(report.challenge_id, id, "a report about another challenge");
                            let status = report.status.as_str().to_owned();
                            assert!(!status.is_empty() && status.chars().count() <= TEXT_LIMIT);
                            assert_eq!(
                                Status::from(status),
                                report.status,
                                "the stored status is another one"
                            );
                            let texts = report.correlation_ids.iter().chain(&report.error_message);
                            texts.for_each(|text| assert!(text.chars().count() <= TEXT_LIMIT, "{text}"));
                            assert!(!report.error_message.as_deref().unwrap_or_default().contains(SECRET));
                            String::new()
                        })
                        .unwrap_or_default()
                })
            }
            "key" => circle.public_key(id, deadline).await.map(|_| String::new()),
            "subscriptions" => circle.subscriptions(deadline).await.map(|all| {
                all.iter().for_each(|one| _ = (one.is_for(&webhook), one.covers_challenges()));
                String::new()
            }),
            "subscription" => circle.subscription(id, deadline).await.map(|_| String::new()),
            "subscribe" => circle.create_subscription(&webhook, deadline).await.map(|_| String::new()),
            "unsubscribe" => circle.delete_subscription(id, deadline).await.map(|()| String::new()),
            _ => Ok("unknown".to_owned()),
        }
    });
    assert!(
        !outcome.is_good_day || outcome.output.is_ok(),
        "a call failed on a good day: {:?}",
        outcome.output
    );
    let said = match &outcome.output {
        Ok(text) if text == "unknown" => return Corpus::Reject,
        Ok(text) => text.clone(),
        Err(error) => format!("{} {error:?}", shared::telemetry::Chain(error)),
    };
    assert!(!said.contains(SECRET), "a secret can be printed: {said}");
    assert!(said.len() < 16_384, "a text of {} bytes", said.len());
    let attempts = outcome.calls_to(Service::Circle).count();
    assert!(attempts as u64 <= MOST_ATTEMPTS, "{attempts} attempts");
    if let (Ok(_), Some(call)) = (&outcome.output, outcome.calls_to(Service::Circle).last()) {
        let (status, body) = call.response.as_ref().expect("a result without a response");
        let is_result = matches!(*status, 404) || body.windows(6).any(|window| window == b"155121");
        assert!(*status < 300 || is_result, "a result from a response {status}");
    }
    Corpus::Keep
}

fn record(id: Uuid) -> Challenge {
    Challenge {
        id,
        user_id: None,
        challenge_type: ChallengeType::ChangePin,
        status: Status::Pending,
        created_at: NOON,
        requested_at: Some(NOON),
        updated_at: NOON,
        checked_at: NOON,
        previous_status: None,
        error_code: None,
        notification_id: None,
    }
}
