use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::routing::put;
use lambda_http::lambda_runtime::Config;
use lambda_http::{Context, LambdaEvent};
use local::circle_simulator::Fault;
use manage_subscription::{ManageSubscription, handle};
use serde_json::{Value, json};
use shared::clock::Clock;
use shared::config::Environment;
use shared::platform::Platform;
use tokio::net::TcpListener;

use crate::observed::{Log, while_time_passes_by};
use crate::support::App;

/// A stack that is being deployed: its function, and CloudFormation, which takes the function's answers.
pub(crate) struct Deployment {
    pub(crate) app: App,
    pub(crate) log: Log,
    pub(crate) function: ManageSubscription,
    /// How long the function has, by Lambda.
    pub(crate) timeout: Duration,
    response_url: String,
    bucket: Arc<Bucket>,
}

/// Where pre-signed URLs lead.
#[derive(Default)]
struct Bucket {
    /// What the next requests are answered; 200 once these are used up, and nothing for a 0.
    statuses: Mutex<VecDeque<u16>>,
    taken: Mutex<Vec<Put>>,
}

/// A request to a pre-signed URL.
#[derive(Debug, Clone)]
pub(crate) struct Put {
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

/// What is secret in a pre-signed URL.
const SIGNATURE: &str = "0123456789abcdef-pre-signed";

pub(crate) const STACK: &str = "arn:aws:cloudformation:eu-central-1:123456789012:stack/pin/b2f1";
pub(crate) const SUBSCRIPTIONS: &str = "/v2/notifications/subscriptions";

/// How far the clock moves at once.
const STEP: Duration = Duration::from_millis(250);

impl Deployment {
    /// Its clock stands still, and is moved while an event is worked on.
    pub(crate) async fn start() -> Self {
        let log = Log::start();
        let app = App::at_noon().await;
        app.stack.circle.wait_for_deliveries(1).await;
        let bucket = Arc::new(Bucket::default());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let response_url =
            format!("http://{}/response?X-Amz-Signature={SIGNATURE}", listener.local_addr().unwrap());
        let router = Router::new().route("/response", put(take)).with_state(Arc::clone(&bucket));
        tokio::spawn(async { axum::serve(listener, router).await });
        let function = ManageSubscription::new(&app.stack.platform);
        Self { app, log, function, timeout: Duration::from_secs(60), response_url, bucket }
    }

    /// Another process of the function, with other settings.
    pub(crate) fn restart_with(&mut self, settings: &[(&str, &str)]) {
        let mut environment = self.app.stack.function_environment().clone();
        for (name, value) in settings {
            environment.insert((*name).to_owned(), (*value).to_owned());
        }
        let environment: Environment = environment.into_iter().collect();
        self.function = ManageSubscription::new(&Platform { environment, ..self.app.stack.platform.clone() });
    }

    /// The webhook route of the running stack, which it has subscribed itself.
    pub(crate) fn webhook(&self) -> String {
        format!("{}/webhooks/circle", self.app.stack.api.url())
    }

    /// The same route by another URL, which nobody has subscribed.
    pub(crate) fn new_webhook(&self) -> String {
        format!("{}?new", self.webhook())
    }

    /// An event as CloudFormation sends it.
    pub(crate) fn event(&self, request_type: &str, id: Option<&str>, endpoint: &str) -> Value {
        let mut event = json!({
            "RequestType": request_type,
            "ResponseURL": self.response_url,
            "StackId": STACK,
            "RequestId": "request-1",
            "ResourceType": "Custom::CircleSubscription",
            "LogicalResourceId": "CircleSubscription",
            "ResourceProperties": { "ServiceToken": "arn:aws:lambda:...", "Endpoint": endpoint },
        });
        if let Some(id) = id {
            event["PhysicalResourceId"] = id.into();
        }
        event
    }

    /// Runs the function on an event; the answer that CloudFormation took, or why it took none.
    pub(crate) async fn run(&self, event: Value) -> Result<Value, String> {
        let clock = &self.app.stack.clock;
        let mut context = Context::default();
        context.request_id = "invocation-1".into();
        context.deadline = ((clock.now() + self.timeout).unix_timestamp_nanos() / 1_000_000) as u64;
        let config = Config { log_group: "/group".into(), log_stream: "stream".into(), ..Config::default() };
        context.env_config = Arc::new(config);
        let before = (clock.now(), self.puts().len());
        let event = LambdaEvent::new(serde_json::from_value(event).unwrap(), context);
        let result = while_time_passes_by(STEP, clock, handle(&self.function, event)).await;
        let took = clock.now() - before.0;
        assert!(took < self.timeout, "Lambda has ended it before {took}");
        let log = format!("{} {:?}", self.log.text(), self.function);
        let key = self.app.stack.circle.api_key();
        assert!(!log.contains(SIGNATURE) && !log.contains(key.rsplit(':').next().unwrap()), "{log}");
        let answer = serde_json::to_value(result.map_err(|error| format!("{error} {error:?}"))?).unwrap();
        if let Some(put) = self.puts().get(before.1..).and_then(<[Put]>::last) {
            assert_eq!(put.body, answer, "the invocation's own answer is the same");
        }
        Ok(answer)
    }

    /// Runs the function on an event that is worked on; the resource's id.
    pub(crate) async fn succeed(&self, request_type: &str, id: Option<&str>, endpoint: &str) -> String {
        let answer = self.run(self.event(request_type, id, endpoint)).await.unwrap();
        let id = answer["PhysicalResourceId"].as_str().unwrap_or_default().to_owned();
        assert_eq!(
            answer,
            json!({
                "Status": "SUCCESS",
                "PhysicalResourceId": id,
                "StackId": STACK,
                "RequestId": "request-1",
                "LogicalResourceId": "CircleSubscription",
            })
        );
        id
    }

    /// Runs the function on an event that fails; what people are told, without where the log is.
    pub(crate) async fn fail(&self, request_type: &str, id: Option<&str>, endpoint: &str) -> String {
        let answer = self.run(self.event(request_type, id, endpoint)).await.unwrap();
        assert_eq!(answer["Status"], "FAILED");
        assert_eq!(answer["PhysicalResourceId"], id.unwrap_or("not-created"));
        let reason = answer["Reason"].as_str().unwrap();
        let log = " Details: CloudWatch log group /group, stream stream, request invocation-1.";
        reason.strip_suffix(log).unwrap_or_else(|| panic!("{reason}")).to_owned()
    }

    /// What the requests to the pre-signed URL are answered next.
    pub(crate) fn answer_puts(&self, statuses: impl IntoIterator<Item = u16>) {
        self.bucket.statuses.lock().unwrap().extend(statuses);
    }

    /// The requests to the pre-signed URL so far.
    pub(crate) fn puts(&self) -> Vec<Put> {
        self.bucket.taken.lock().unwrap().clone()
    }

    /// The ids of Circle's subscriptions for an endpoint.
    pub(crate) fn subscribed(&self, endpoint: &str) -> Vec<String> {
        let all = self.app.stack.circle.subscriptions();
        let of_endpoint = all.iter().filter(|one| one["endpoint"] == endpoint);
        of_endpoint.map(|one| one["id"].as_str().unwrap().to_owned()).collect()
    }

    /// How often Circle was called so, for `GET` and `POST` of all, and `PATCH` and `DELETE` of one.
    pub(crate) fn calls(&self, method: &str) -> u64 {
        let one = if ["PATCH", "DELETE"].contains(&method) { "/{id}" } else { "" };
        self.app.stack.circle.call_count(&format!("{method} {SUBSCRIPTIONS}{one}"))
    }

    /// The next calls of this method about subscriptions meet a fault.
    pub(crate) fn fault(&self, method: &str, fault: Fault) {
        let (method, path) = (Some(method.into()), Some(SUBSCRIPTIONS.into()));
        self.app.stack.circle.add_fault(Fault { method, path, ..fault });
    }
}

async fn take(State(bucket): State<Arc<Bucket>>, uri: Uri, headers: HeaderMap, body: String) -> StatusCode {
    let body = serde_json::from_str(&body).unwrap();
    bucket.taken.lock().unwrap().push(Put { uri, headers, body });
    let status = bucket.statuses.lock().unwrap().pop_front().unwrap_or(200);
    match status {
        0 => std::future::pending().await,
        status => StatusCode::from_u16(status).unwrap(),
    }
}
