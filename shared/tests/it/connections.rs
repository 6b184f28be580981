use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use reqwest::{Method, Url};
use serde_json::json;
use shared::circle::Circle;
use shared::clock::AdjustableClock;
use shared::config::{CircleSettings, Environment};
use shared::http_client::HttpClient;
use shared::platform::Platform;
use shared::random::Random;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{FakeServer, Reply, deadline, platform};

/// A Circle, or an AWS, that responds to the first `per_connection` requests of each connection and resets it at the next one.
struct Resetting {
    url: String,
    connections: Arc<AtomicU32>,
    responses: Arc<AtomicU32>,
}

impl Resetting {
    async fn start(per_connection: u32) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (connections, responses) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
        let server = Self { url, connections: Arc::clone(&connections), responses: Arc::clone(&responses) };
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                connections.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(stream, per_connection, Arc::clone(&responses)));
            }
        });
        server
    }

    async fn circle(&self, secrets: &FakeServer, clock: &AdjustableClock) -> Circle {
        let platform = platform(&secrets.url, clock.clone());
        let environment = Environment::from([
            ("CIRCLE_BASE_URL", self.url.as_str()),
            ("CIRCLE_API_KEY_SECRET_ID", "circle-api-key"),
        ]);
        Circle::new(&platform, CircleSettings::read(&environment).unwrap())
    }
}

async fn serve(mut stream: TcpStream, per_connection: u32, responses: Arc<AtomicU32>) {
    let body = r#"{"data":{"userToken":"token","encryptionKey":"key"}}"#;
    let response = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    for _ in 0..per_connection {
        if !read_request(&mut stream).await {
            return;
        }
        stream.write_all(response.as_bytes()).await.unwrap();
        responses.fetch_add(1, Ordering::SeqCst);
    }
    let _ = stream.read(&mut [0]).await;
    // Closing a socket with unread data resets the connection.
}

/// Reads one request with a short JSON body; `false` if the connection has ended.
async fn read_request(stream: &mut TcpStream) -> bool {
    let (mut request, mut buffer) = (Vec::new(), [0; 4096]);
    while !request.ends_with(b"}") {
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return false,
            Ok(length) => request.extend_from_slice(&buffer[..length]),
        }
    }
    true
}

#[tokio::test]
async fn connections_that_the_server_resets_cost_no_error_and_no_retry_budget() {
    let (server, secrets, clock) =
        (Resetting::start(1).await, FakeServer::start().await, AdjustableClock::running());
    let circle = server.circle(&secrets, &clock).await;
    for call in 0..200 {
        let session = circle.create_session(&"user-1".parse().unwrap(), deadline(&clock)).await;
        assert!(session.is_ok(), "call {call}: {session:?}");
    }
    assert_eq!(server.responses.load(Ordering::SeqCst), 200);
}

#[tokio::test]
async fn each_success_lets_one_request_be_sent_again_and_twenty_at_most() {
    let server = FakeServer::start().await;
    let http = HttpClient::new(&Environment::default()).unwrap();
    let url: Url = server.url.parse().unwrap();
    // How often the server gets a request if these are its replies, and whether it is responded to.
    let sent = async |replies: Vec<Reply>| {
        server.replies(replies);
        let before = server.requests().len();
        let request = http.request(Method::POST, url.clone()).build().unwrap();
        let result = http.send(request).await;
        (server.requests().len() - before, result.is_ok())
    };
    let responds = |status| vec![Reply::Json(status, json!({}))];
    for _ in 0..25 {
        assert_eq!(sent(responds(200)).await, (1, true));
    }
    for _ in 0..20 {
        assert_eq!(sent(vec![Reply::Drop, Reply::Drop]).await, (2, false));
    }
    assert_eq!(sent(vec![Reply::Drop]).await, (1, false));
    assert_eq!(sent(responds(500)).await, (1, true));
    assert_eq!(sent(vec![Reply::Drop]).await, (1, false), "an error of the server earns nothing");
    assert_eq!(sent(responds(200)).await, (1, true));
    assert_eq!(sent(vec![Reply::Drop, Reply::Drop]).await, (2, false));
    assert_eq!(sent(vec![Reply::Drop]).await, (1, false));
    let nobody = http.request(Method::POST, "http://127.0.0.1:1".parse().unwrap()).build().unwrap();
    assert!(http.send(nobody).await.unwrap_err().is_connect());

    let elsewhere = Reply::Raw(302, vec![("location", "/elsewhere")], String::new());
    server.replies([elsewhere, Reply::Json(200, json!({}))]);
    let once = http.send_once(http.request(Method::POST, url.clone()).build().unwrap()).await.unwrap();
    assert_eq!(once.status(), 302, "a redirect is not followed");
}

#[tokio::test]
async fn calls_share_one_connection_of_a_well_behaved_server() {
    let (server, secrets, clock) =
        (Resetting::start(u32::MAX).await, FakeServer::start().await, AdjustableClock::running());
    let circle = server.circle(&secrets, &clock).await;
    for _ in 0..200 {
        circle.create_session(&"user-1".parse().unwrap(), deadline(&clock)).await.unwrap();
    }
    assert_eq!(server.connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_jump_of_the_wall_clock_does_not_end_a_call() {
    let (server, secrets, clock) =
        (Resetting::start(u32::MAX).await, FakeServer::start().await, AdjustableClock::running());
    let circle = server.circle(&secrets, &clock).await;
    for minutes in [10, -20, 10] {
        let deadline = deadline(&clock);
        clock.jump_wall_clock(time::Duration::minutes(minutes));
        circle.create_session(&"user-1".parse().unwrap(), deadline).await.unwrap();
        assert!(deadline.remaining(&clock) > Duration::from_secs(1));
    }
}

/// A read of an item that does not exist.
async fn read_item(platform: &Platform) -> Result<(), String> {
    let get = platform.dynamodb.get_item().table_name("challenges").key("id", AttributeValue::S("1".into()));
    get.send().await.map(|_| ()).map_err(|error| format!("{error:?}"))
}

#[tokio::test]
async fn connections_that_aws_resets_cost_no_error() {
    let (server, clock) = (Resetting::start(1).await, AdjustableClock::running());
    let platform = platform(&server.url, clock);
    for call in 0..200 {
        assert_eq!(read_item(&platform).await, Ok(()), "call {call}");
    }
    assert_eq!(server.responses.load(Ordering::SeqCst), 200);
}

#[tokio::test]
async fn calls_share_one_connection_of_a_well_behaved_aws() {
    let (server, clock) = (Resetting::start(u32::MAX).await, AdjustableClock::running());
    let platform = platform(&server.url, clock);
    for _ in 0..200 {
        read_item(&platform).await.unwrap();
    }
    assert_eq!(server.connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn one_variable_can_name_the_endpoint_of_all_aws_services() {
    let (server, other) = (Resetting::start(u32::MAX).await, Resetting::start(u32::MAX).await);
    let variables = [
        ("AWS_REGION", "eu-central-1"),
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("AWS_ENDPOINT_URL", &server.url),
        ("AWS_ENDPOINT_URL_SECRETS_MANAGER", &other.url),
    ];
    let clock = Arc::new(AdjustableClock::running());
    let random = Arc::new(Random::from_seed(1));
    let platform = Platform::new(Environment::from(variables), clock, random).unwrap();
    read_item(&platform).await.unwrap();
    platform.secrets_manager.get_secret_value().secret_id("circle-api-key").send().await.unwrap();
    let responses = [&server, &other].map(|server| server.responses.load(Ordering::SeqCst));
    assert_eq!(responses, [1, 1]);
}
