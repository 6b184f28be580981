//! The function that manages the subscription, and a CloudFormation that sends it events.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::routing::put;
use lambda_http::LambdaEvent;
use lambda_http::lambda_runtime::Config;
use local::circle_simulator::Fault;
use local::invocation;
use manage_subscription::{ManageSubscription, handle};
use serde_json::{Value, json};
use shared::clock::Clock;
use shared::config::Environment;
use shared::platform::Platform;
use tokio::net::TcpListener;

use super::waiting::let_time_pass_by;
use super::{App, Log, Response, assert_no_secret, secrecy, text, with};

pub(crate) const STACK_ID: &str = "arn:aws:cloudformation:eu-central-1:123456789012:stack/pin/b2f1";
pub(crate) const SUBSCRIPTIONS: &str = "/v2/notifications/subscriptions";

/// The secret part of a pre-signed URL.
const SIGNATURE: &str = "0123456789abcdef-pre-signed";

/// How far the clock moves in one step.
const STEP: Duration = Duration::from_millis(250);

/// A stack that is being deployed: its function, and the CloudFormation that receives the function's results.
pub(crate) struct Deployment {
    pub(crate) app: App,
    pub(crate) log: Log,
    pub(crate) function: ManageSubscription,
    /// Lambda's timeout of the function.
    pub(crate) timeout: Duration,
    response_url: String,
    bucket: Arc<Bucket>,
}

/// What pre-signed URLs lead to.
#[derive(Default)]
struct Bucket {
    /// The statuses of the next responses. A 0 stands for no response. After the last one the status is 200.
    statuses: Mutex<VecDeque<u16>>,
    received: Mutex<Vec<Put>>,
}

/// A request to a pre-signed URL.
#[derive(Debug, Clone)]
pub(crate) struct Put {
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

impl Deployment {
    /// A stack whose clock stands still, and moves while the function handles an event. The function manages the
    /// subscription of [`Deployment::new_webhook`].
    pub(crate) async fn start() -> Self {
        let log = Log::start();
        let app = App::at_noon().await;
        app.wait_for_webhooks(1).await;
        let bucket = Arc::new(Bucket::default());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        secrecy::remember("signature of a URL", SIGNATURE);
        let response_url =
            format!("http://{}/response?X-Amz-Signature={SIGNATURE}", listener.local_addr().unwrap());
        let router = Router::new().route("/response", put(receive)).with_state(Arc::clone(&bucket));
        tokio::spawn(async { axum::serve(listener, router).await });
        let function = ManageSubscription::new(&app.stack.platform);
        let mut deployment =
            Self { app, log, function, timeout: Duration::from_secs(120), response_url, bucket };
        deployment.restart_with(&[]);
        deployment
    }

    /// Replaces the function's process by one with other settings.
    pub(crate) fn restart_with(&mut self, settings: &[(&str, &str)]) {
        let mut environment = self.app.stack.function_environment().clone();
        environment.insert("WEBHOOK_URL".to_owned(), self.new_webhook());
        for (name, value) in settings {
            environment.insert((*name).to_owned(), (*value).to_owned());
        }
        let environment: Environment = environment.into_iter().collect();
        self.function = ManageSubscription::new(&Platform { environment, ..self.app.stack.platform.clone() });
    }

    /// Replaces the function's process by one that manages the subscription of this URL.
    pub(crate) fn manage(&mut self, webhook: &str) {
        self.restart_with(&[("WEBHOOK_URL", webhook)]);
    }

    /// The webhook URL that the running stack has subscribed by itself.
    pub(crate) fn webhook(&self) -> String {
        format!("{}/webhooks/circle", self.app.stack.api.url())
    }

    /// Another URL of the same route, which is not subscribed, and whose subscription the function manages.
    pub(crate) fn new_webhook(&self) -> String {
        format!("{}?new", self.webhook())
    }

    /// An event as CloudFormation sends it.
    pub(crate) fn event(&self, request_type: &str, id: Option<&str>, endpoint: &str) -> Value {
        let event = json!({
            "RequestType": request_type,
            "ResponseURL": self.response_url,
            "StackId": STACK_ID,
            "RequestId": "request-1",
            "ResourceType": "Custom::CircleSubscription",
            "LogicalResourceId": "CircleSubscription",
            "ResourceProperties": { "ServiceToken": "arn:aws:lambda:...", "Endpoint": endpoint },
        });
        with(event, json!({ "PhysicalResourceId": id }))
    }

    /// Runs the function on an event. Returns the result that CloudFormation accepted, or the function's error.
    pub(crate) async fn run(&self, event: Value) -> Result<Value, String> {
        let clock = &self.app.clock;
        let mut context = invocation::context(clock.now() + self.timeout);
        context.request_id = "invocation-1".into();
        let config = Config { log_group: "/group".into(), log_stream: "stream".into(), ..Config::default() };
        context.env_config = Arc::new(config);
        let (before, puts_before) = (clock.now(), self.puts().len());
        let event = LambdaEvent::new(serde_json::from_value(event).unwrap(), context);
        let result = let_time_pass_by(STEP, clock, handle(&self.function, event)).await;
        let took = clock.now() - before;
        assert!(took < self.timeout, "Lambda would have ended the function before {took}");
        assert_no_secret("the function", &format!("{:?}", self.function));
        let result = serde_json::to_value(result.map_err(|error| format!("{error} {error:?}"))?).unwrap();
        if let Some(put) = self.puts().get(puts_before..).and_then(<[Put]>::last) {
            assert_eq!(put.body, result, "the function returns what it sent to CloudFormation");
        }
        Ok(result)
    }

    /// Does the work, which moves the clock by itself. Also returns how long it took on the stack's clock.
    pub(crate) async fn timed<T>(&self, work: impl Future<Output = T>) -> (T, Duration) {
        let before = self.app.clock.now();
        let output = work.await;
        (output, (self.app.clock.now() - before).unsigned_abs())
    }

    /// Runs the function on an event that it handles successfully. Returns the resource's id.
    pub(crate) async fn succeed(&self, request_type: &str, id: Option<&str>, endpoint: &str) -> String {
        let result = self.run(self.event(request_type, id, endpoint)).await.unwrap();
        assert_eq!(
            result,
            json!({
                "Status": "SUCCESS",
                "PhysicalResourceId": result["PhysicalResourceId"],
                "StackId": STACK_ID,
                "RequestId": "request-1",
                "LogicalResourceId": "CircleSubscription",
            })
        );
        text(&result, "PhysicalResourceId").to_owned()
    }

    /// Runs the function on an event that fails. Returns the reason, without the place of the log.
    pub(crate) async fn fail(&self, request_type: &str, id: Option<&str>, endpoint: &str) -> String {
        let result = self.run(self.event(request_type, id, endpoint)).await.unwrap();
        assert_eq!(result["Status"], "FAILED");
        assert_eq!(result["PhysicalResourceId"], id.unwrap_or("not-created"));
        let reason = text(&result, "Reason");
        let log = " Details: CloudWatch log group /group, stream stream, request invocation-1.";
        reason.strip_suffix(log).unwrap_or_else(|| panic!("{reason}")).to_owned()
    }

    /// Sets the statuses of the next responses to requests to the pre-signed URL. A 0 stands for no response.
    pub(crate) fn respond_to_puts(&self, statuses: impl IntoIterator<Item = u16>) {
        self.bucket.statuses.lock().unwrap().extend(statuses);
    }

    /// The requests to the pre-signed URL so far.
    pub(crate) fn puts(&self) -> Vec<Put> {
        self.bucket.received.lock().unwrap().clone()
    }

    /// The ids of Circle's subscriptions for an endpoint.
    pub(crate) fn subscribed(&self, endpoint: &str) -> Vec<String> {
        let all = self.app.circle.subscriptions();
        let of_endpoint = all.iter().filter(|one| one["endpoint"] == endpoint);
        of_endpoint.map(|one| text(one, "id").to_owned()).collect()
    }

    /// Changes a subscription at Circle, as an operator could.
    pub(crate) async fn change_at_circle(&self, id: &str, changes: Value) {
        let App { circle, http, .. } = &self.app;
        let request = http
            .patch(format!("{}{SUBSCRIPTIONS}/{id}", circle.url()))
            .bearer_auth(circle.api_key())
            .header("content-type", "application/json")
            .body(changes.to_string());
        assert_eq!(Response::to(request).await.status, 200);
    }

    /// How often Circle received a call about subscriptions: `GET` and `POST` of all, `PATCH` and `DELETE` of one.
    pub(crate) fn calls(&self, method: &str) -> u64 {
        let one = if ["PATCH", "DELETE"].contains(&method) { "/{id}" } else { "" };
        self.app.circle.call_count(&format!("{method} {SUBSCRIPTIONS}{one}"))
    }

    /// Adds a fault of the next calls about subscriptions with this method.
    pub(crate) fn add_fault(&self, method: &str, fault: Fault) {
        let (method, path) = (Some(method.into()), Some(SUBSCRIPTIONS.into()));
        self.app.circle.add_fault(Fault { method, path, ..fault });
    }
}

async fn receive(
    State(bucket): State<Arc<Bucket>>,
    uri: Uri,
    headers: HeaderMap,
    body: String,
) -> StatusCode {
    let body = serde_json::from_str(&body).unwrap();
    bucket.received.lock().unwrap().push(Put { uri, headers, body });
    let status = bucket.statuses.lock().unwrap().pop_front().unwrap_or(200);
    match status {
        0 => std::future::pending().await,
        status => StatusCode::from_u16(status).unwrap(),
    }
}
