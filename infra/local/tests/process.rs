//! Tests of the binary that `cargo local` runs.

mod running;

use std::io::Read;
use std::time::Duration;

use serde_json::{Value, json};
use shared::clock::{Clock, SystemClock, timeout};

use self::running::{Running, change_pin, local};

/// Prints the duration of the start and the memory in use. Only the memory has a limit, because the duration
/// depends on what else the machine does.
#[test]
fn stack_prints_its_urls_uses_little_memory_and_ends_with_ctrl_c() {
    let before = SystemClock.now();
    let mut stack = Running::start(&[]);
    println!("ready after {:.0} ms", (SystemClock.now() - before).as_seconds_f64() * 1000.0);
    for name in
        ["api", "circle", "control", "dynamodb", "secretsManager", "issuer", "eventBus", "bearerToken"]
    {
        assert!(stack.description[name].is_string(), "{name}: {}", stack.description);
    }
    if let Some(kilobytes) = stack.kilobytes("VmRSS:") {
        println!("resident memory: {} MB", kilobytes / 1024);
        assert!(kilobytes < 60 * 1024, "{kilobytes} kB");
    }
    assert_eq!(stack.interrupt().code(), Some(0));
    for name in ["api", "circle", "dynamodb", "secretsManager", "issuer", "eventBus"] {
        let address = stack.description[name].as_str().unwrap().trim_start_matches("http://");
        assert!(std::net::TcpStream::connect(address).is_err(), "{name} is still running");
    }
}

/// A developer's settings for AWS and proxies must not affect the endpoints on loopback.
#[tokio::test]
async fn developers_own_settings_have_no_effect() {
    let dead_end = "http://127.0.0.1:1";
    let file = std::env::temp_dir().join(format!("aws-config-{}", std::process::id()));
    let settings = format!(
        "\
[default]
region = eu-north-1
endpoint_url = {dead_end}
services = elsewhere
retry_mode = adaptive
max_attempts = 1
use_fips_endpoint = true
use_dualstack_endpoint = true
account_id_endpoint_mode = required
auth_scheme_preference = sigv4a
sdk_ua_app_id = not allowed/by the SDK
s3 =
  addressing_style = path

[services elsewhere]
dynamodb =
  endpoint_url = {dead_end}
secrets_manager =
  endpoint_url = {dead_end}
"
    );
    std::fs::write(&file, settings).unwrap();
    let file_name = file.to_str().unwrap();
    let variables = [
        ("AWS_ENDPOINT_URL", dead_end),
        ("AWS_ENDPOINT_URL_DYNAMODB", dead_end),
        ("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true"),
        ("AWS_MAX_ATTEMPTS", "nonsense"),
        ("AWS_RETRY_MODE", "nonsense"),
        ("AWS_USE_FIPS_ENDPOINT", "true"),
        ("AWS_REGION", "eu-north-1"),
        ("CHALLENGES_TABLE", "another"),
        ("CIRCLE_BASE_URL", dead_end),
    ];
    let proxies = ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"]
        .map(|name| (name, dead_end));
    for environment in [
        &[("AWS_CONFIG_FILE", file_name), ("AWS_SHARED_CREDENTIALS_FILE", file_name)][..],
        &[("AWS_CONFIG_FILE", file_name), ("AWS_PROFILE", "missing")],
        &variables,
        &proxies,
    ] {
        let mut stack = Running::start(environment);
        let challenge = timeout(&SystemClock, Duration::from_secs(60), change_pin(&stack.description)).await;
        assert_eq!(challenge.expect("in time")["status"], "COMPLETE", "{environment:?}");
        assert_eq!(stack.interrupt().code(), Some(0));
    }
    std::fs::remove_file(file).unwrap();
}

/// The AWS SDK has to cope with years that pass while its calls are in flight. Each jump starts
/// `reconcile-challenges`, so its query is in flight at the next jump.
#[tokio::test]
async fn jumps_of_ten_years_return_at_once_while_calls_are_in_flight() {
    let stack = Running::start(&[]);
    let control = stack.description["control"].as_str().unwrap();
    let limit = Duration::from_secs(20);
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let before = SystemClock.now();
    for _ in 0..20 {
        let advance = client.post(format!("{control}/clock/advance")).body(r#"{"seconds":315360000}"#).send();
        let response = timeout(&SystemClock, limit, advance).await.expect("a response in time");
        assert_eq!(response.unwrap().status(), 200);
    }
    println!("20 jumps took {:.1} s", (SystemClock.now() - before).as_seconds_f64());
}

#[test]
fn port_in_use_is_reported() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let output = local(&["--port", &port]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(
        text.contains(&format!("port {port} for the HTTP API is in use; choose another with --port")),
        "{text}"
    );
}

/// A failed condition is part of normal work, but the library of DynamoDB's server warns of it.
#[tokio::test]
async fn log_has_no_warnings_of_normal_work() {
    let mut stack = Running::start_with(&["--log", "info"], &[]);
    assert_eq!(change_pin(&stack.description).await["status"], "COMPLETE");
    let mut log = stack.process.stderr.take().unwrap();
    assert_eq!(stack.interrupt().code(), Some(0));
    let mut text = String::new();
    log.read_to_string(&mut text).unwrap();
    assert!(text.contains("\"level\":\"INFO\""), "{text}");
    assert!(!text.contains("\"level\":\"WARN\"") && !text.contains("\"level\":\"ERROR\""), "{text}");
}

#[tokio::test]
async fn only_the_given_origins_may_call_the_api() {
    let origins = ["http://localhost:3000", "https://app.example.com"];
    let stack = Running::start_with(&["--origin", origins[0], "--origin", origins[1]], &[]);
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = format!("{}/pin", stack.description["api"].as_str().unwrap());
    for (origin, allowed) in [(origins[0], true), (origins[1], true), ("http://localhost:3001", false)] {
        let response = client.get(&url).header("origin", origin).send().await.unwrap();
        assert_eq!(response.headers().contains_key("access-control-allow-origin"), allowed, "{origin}");
    }
    for invalid in ["localhost:3000", "http://localhost:3000/", "https://app.example.com/page", "*"] {
        let output = local(&["--origin", invalid]).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.contains("give an origin such as http://localhost:3000"), "{text}");
    }
}

#[tokio::test]
async fn token_of_a_second_user_comes_from_the_issuer() {
    let stack = Running::start(&[]);
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let part = |name: &str| stack.description[name].as_str().unwrap();
    let user = client.put(format!("{}/users/second-user", part("control"))).body(r#"{"pin":"112233"}"#);
    assert_eq!(user.send().await.unwrap().status(), 200);
    let token = client.get(format!("{}/token?sub=second-user", part("issuer"))).send().await.unwrap();
    let token = token.text().await.unwrap();
    let pin = client.get(format!("{}/pin", part("api"))).bearer_auth(token).send().await.unwrap();
    assert_eq!(pin.status(), 200);
}

#[test]
fn environment_of_functions_elsewhere_is_printed_for_a_port() {
    let output = local(&["env", "--port", "18780"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("CIRCLE_BASE_URL=http://127.0.0.1:18781\n"), "{text}");
    assert_eq!(text.lines().count(), include_str!("../functions.env").lines().count());
}

#[test]
fn demo_can_use_another_port() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let output = local(&["demo", "--port", &port]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains(&format!("port {port} for the HTTP API is in use")), "{text}");
}

#[test]
fn facts_are_printed_as_json() {
    let output = local(&["facts"]).output().unwrap();
    assert!(output.status.success());
    assert_eq!(serde_json::from_slice::<Value>(&output.stdout).unwrap(), local::facts::facts());
}

#[test]
fn demo_succeeds_and_prints_no_whole_secret() {
    let mut process = local(&["demo"]).spawn().unwrap();
    let mut text = String::new();
    process.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    assert!(process.wait().unwrap().success(), "{text}");
    assert!(text.trim_end().ends_with("All steps succeeded."), "{text}");
    let is_secret = |word: &str| {
        let token = word.starts_with("eyJ") && word.len() > 20;
        // It is 32 bytes in base64.
        let encryption_key = word.ends_with('=') && word.len() >= 44;
        token || encryption_key || word.contains("TEST_API_KEY")
    };
    for word in
        text.split(|character: char| !character.is_ascii_alphanumeric() && !"+/=._-".contains(character))
    {
        assert!(!is_secret(word), "this is a whole secret: {word}");
    }
    assert!(text.contains("\"userToken\":\"eyJ") && text.contains("\"encryptionKey\":\""), "{text}");
}

/// Runs a command to its end. Returns whether it succeeded, and its output: standard output, or else standard error.
async fn output(arguments: &[&str]) -> (bool, String) {
    let mut command = local(arguments);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let is_success = output.status.success();
    let text = if is_success { output.stdout } else { output.stderr };
    (is_success, String::from_utf8(text).unwrap())
}

#[tokio::test]
async fn story_of_a_challenge_has_everything_in_the_order_of_time() {
    let (stack, port) = Running::start_on_known_ports();
    let id = change_pin(&stack.description).await["challengeId"].as_str().unwrap().to_owned();
    // The event bus responds once every change is announced.
    let events = format!("{}/events", stack.description["eventBus"].as_str().unwrap());
    reqwest::Client::builder().no_proxy().build().unwrap().get(events).send().await.unwrap();

    let (_, text) = output(&["inspect", &id, "--port", &port, "--json"]).await;
    let story: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (&story["record"]["challengeId"], &story["record"]["status"]),
        (&json!(id), &json!("COMPLETE"))
    );
    let entries = story["entries"].as_array().unwrap();
    let times: Vec<_> =
        entries.iter().map(|entry| entry["at"].as_str().unwrap().trim_end_matches('Z')).collect();
    assert!(times.is_sorted(), "{times:?}");
    for (kind, what) in [
        ("record", "creation"),
        ("request", "POST /challenges"),
        ("log", "challenge created"),
        ("webhook", "challenges.changePin COMPLETE"),
        ("record", "COMPLETE"),
        ("log", "challenge settled"),
        ("event", "PIN Change Requested"),
        ("event", "PIN Challenge Settled COMPLETE"),
    ] {
        let count = entries.iter().filter(|entry| entry["kind"] == kind && entry["what"] == what).count();
        assert_eq!(count, 1, "{kind} {what}: {text}");
    }

    let (_, text) = output(&["inspect", &id, "--port", &port]).await;
    assert!(text.contains("status              COMPLETE\n"), "{text}");
    assert_eq!(text.lines().filter(|line| line.starts_with("20")).count(), entries.len(), "{text}");
    assert!(!text.contains('\u{1b}'), "a pipe has no colours: {text}");
}

#[tokio::test]
async fn what_cannot_be_inspected_is_said() {
    let (stack, port) = Running::start_on_known_ports();
    let unknown = "00000000-0000-0000-0000-000000000000";
    let (is_success, text) = output(&["inspect", unknown, "--port", &port]).await;
    assert_eq!((is_success, text.as_str()), (false, "cargo local: the stack does not know this challenge\n"));
    drop(stack);
    let (is_success, text) = output(&["inspect", unknown, "--port", &port]).await;
    assert!(
        !is_success && text.contains(&format!("no stack is running on port {port}; start one with")),
        "{text}"
    );
}

#[tokio::test]
async fn incident_on_a_running_stack_ends_without_a_trace_in_the_simulator() {
    let (stack, port) = Running::start_on_known_ports();
    for (incident, step, alarm) in [
        ("circle-down", "POST /challenges -> 503 circle_unavailable", "CircleUnavailableAlarm"),
        // Its runs have to follow each other.
        ("abandoned-as-not-found", "3 due, 3 checked", "ChallengeAbandonedAlarm"),
    ] {
        let (is_success, text) = output(&["incident", incident, "--port", &port]).await;
        assert!(is_success, "{text}");
        assert!(text.contains(step) && text.contains(&format!("alarm    {alarm}\n")), "{text}");
    }
    let faults = format!("{}/faults", stack.description["control"].as_str().unwrap());
    let faults = reqwest::Client::builder().no_proxy().build().unwrap().get(faults).send().await.unwrap();
    assert_eq!(faults.text().await.unwrap(), "[]");
    assert_eq!(change_pin(&stack.description).await["status"], "COMPLETE");
}

/// The live view is for terminals only. `tests/infra/test_terminal.py` has one.
#[tokio::test]
async fn nothing_follows_the_description_in_a_pipe() {
    let mut stack = Running::start(&[]);
    assert_eq!(change_pin(&stack.description).await["status"], "COMPLETE");
    assert_eq!(stack.interrupt().code(), Some(0));
    let mut rest = String::new();
    stack.process.stdout.take().unwrap().read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "");
}
