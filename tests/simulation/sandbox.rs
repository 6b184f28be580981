//! Sandboxes: processes that run one function, one invocation at a time.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use announce_challenges::AnnounceChallenges;
use create_challenge::CreateChallenge;
use get_challenge::GetChallenge;
use lambda_http::{Body, Context, LambdaEvent, Response};
use local::environment::function_environment_on;
use receive_webhook::ReceiveWebhook;
use reconcile_challenges::ReconcileChallenges;
use serde_json::{Value, json};
use shared::api::Api;
use shared::clock::Clock;
use shared::lambda;
use shared::platform::Platform;
use shared::random::Random;
use tokio::task::JoinHandle;

use crate::network::Port;

/// A function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "kebab-case")]
pub(crate) enum Function {
    CreateToken,
    CreateChallenge,
    GetChallenge,
    GetPin,
    ReceiveWebhook,
    ReconcileChallenges,
    AnnounceChallenges,
}

impl Function {
    pub(crate) fn name(self) -> &'static str {
        self.into()
    }

    /// Lambda's time limit.
    pub(crate) fn limit(self) -> Duration {
        Duration::from_secs(match self {
            Self::ReconcileChallenges => 60,
            Self::AnnounceChallenges => 30,
            _ => 10,
        })
    }
}

/// What an invocation ended with.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// An HTTP response: its status and its JSON.
    Response(u16, Value),
    /// The output of a function that is not behind HTTP, or its error.
    Output(Result<Value, String>),
}

impl fmt::Display for Outcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Response(status, body) => {
                write!(formatter, "responds {status} {}", body["code"].as_str().unwrap_or_default())
            }
            Self::Output(Ok(output)) => write!(formatter, "ends: {output}"),
            Self::Output(Err(error)) => write!(formatter, "fails: {error}"),
        }
    }
}

/// A process of a function.
pub(crate) struct Sandbox {
    pub(crate) function: Function,
    code: Arc<Code>,
    /// Until when it does not run; `None` if it runs.
    pub(crate) frozen_until: Option<Duration>,
    /// Whether an invocation is running.
    pub(crate) is_busy: bool,
    /// For how long its monotonic clock stands still while it is frozen.
    pub(crate) stopped_for: Duration,
    /// Whether nothing is left to do before it takes events.
    is_warm: bool,
    /// The ports for its calls to Circle and to AWS: the HTTP client keeps the connections of each server apart.
    ports: [Port; 2],
}

enum Code {
    CreateToken(Api),
    CreateChallenge(CreateChallenge),
    GetChallenge(GetChallenge),
    GetPin(Api),
    ReceiveWebhook(ReceiveWebhook),
    ReconcileChallenges(ReconcileChallenges),
    AnnounceChallenges(AnnounceChallenges),
}

impl Sandbox {
    /// A process that has just started. All its calls go to the ports.
    pub(crate) fn start(
        function: Function,
        ports: [Port; 2],
        clock: Arc<dyn Clock>,
        random: Random,
        warms_up: bool,
    ) -> Self {
        let mut settings = function_environment_on(0);
        for name in [
            "AWS_ENDPOINT_URL_DYNAMODB",
            "AWS_ENDPOINT_URL_EVENTBRIDGE",
            "AWS_ENDPOINT_URL_SECRETS_MANAGER",
            "AWS_ENDPOINT_URL_SQS",
        ] {
            settings.insert(name.to_owned(), ports[1].url.clone());
        }
        settings.insert("CIRCLE_BASE_URL".to_owned(), ports[0].url.clone());
        for (name, value) in [("ABANDON_AFTER_DAYS", "1"), ("RESTORE_MAX_SIGN_IN_AGE_MINUTES", "15")] {
            settings.insert(name.to_owned(), value.to_owned());
        }
        let platform = Platform::new(settings.into_iter().collect(), clock, Arc::new(random))
            .expect("the settings are valid");
        let code = match function {
            Function::CreateToken => Api::new(&platform).map(Code::CreateToken),
            Function::CreateChallenge => CreateChallenge::new(&platform).map(Code::CreateChallenge),
            Function::GetChallenge => GetChallenge::new(&platform).map(Code::GetChallenge),
            Function::GetPin => Api::new(&platform).map(Code::GetPin),
            Function::ReceiveWebhook => ReceiveWebhook::new(&platform).map(Code::ReceiveWebhook),
            Function::ReconcileChallenges => {
                ReconcileChallenges::new(&platform).map(Code::ReconcileChallenges)
            }
            Function::AnnounceChallenges => AnnounceChallenges::new(&platform).map(Code::AnnounceChallenges),
        };
        let code = Arc::new(code.expect("the settings are valid"));
        let stopped_for = Duration::ZERO;
        Self { function, code, frozen_until: None, is_busy: false, stopped_for, is_warm: !warms_up, ports }
    }

    /// Its idle connections go stale.
    pub(crate) fn age_connections(&self) {
        self.ports.iter().for_each(Port::age_connections);
    }

    /// Starts an invocation with this event. The first one begins with what the process does before it takes events.
    pub(crate) fn invoke(&mut self, event: Value, context: Context) -> JoinHandle<Outcome> {
        let code = Arc::clone(&self.code);
        let is_warm = std::mem::replace(&mut self.is_warm, true);
        tokio::spawn(async move {
            if !is_warm {
                code.warm_up().await;
            }
            let output = |result: Result<Value, lambda_http::Error>| {
                Outcome::Output(result.map_err(|error| error.to_string()))
            };
            match &*code {
                Code::ReconcileChallenges(function) => {
                    let response =
                        reconcile_challenges::handle(function, LambdaEvent::new(event, context)).await;
                    output(response.map(|response| json!(response)))
                }
                Code::AnnounceChallenges(function) => {
                    let response =
                        announce_challenges::handle(function, LambdaEvent::new(event, context)).await;
                    output(response.map(|response| json!(response)))
                }
                code => {
                    let request = lambda::request(&event, context);
                    let Ok(response) = match code {
                        Code::CreateToken(api) => create_token::handle(api, request).await,
                        Code::CreateChallenge(function) => create_challenge::handle(function, request).await,
                        Code::GetChallenge(function) => get_challenge::handle(function, request).await,
                        Code::GetPin(api) => get_pin::handle(api, request).await,
                        Code::ReceiveWebhook(function) => receive_webhook::handle(function, request).await,
                        Code::ReconcileChallenges(_) | Code::AnnounceChallenges(_) => {
                            unreachable!("handled above")
                        }
                    };
                    http_outcome(&response)
                }
            }
        })
    }
}

impl Code {
    /// What the function's `main` does before the first event.
    async fn warm_up(&self) {
        match self {
            Self::CreateToken(api) | Self::GetPin(api) => api.warm_up().await,
            Self::CreateChallenge(function) => function.warm_up().await,
            Self::GetChallenge(function) => function.warm_up().await,
            Self::ReceiveWebhook(function) => function.warm_up().await,
            Self::ReconcileChallenges(function) => function.warm_up().await,
            Self::AnnounceChallenges(_) => {}
        }
    }
}

fn http_outcome(response: &Response<Body>) -> Outcome {
    let body: &[u8] = response.body();
    let body =
        if body.is_empty() { Value::Null } else { serde_json::from_slice(body).expect("the body is JSON") };
    Outcome::Response(response.status().as_u16(), body)
}
