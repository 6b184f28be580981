use super::*;

impl Stage {
    async fn control(&self, call: &str, body: Option<Value>) -> Reply {
        let (method, path) = call.split_once(' ').unwrap();
        self.call(&format!("{method} /control{path}"), None, body.as_ref()).await
    }
}

#[tokio::test]
async fn challenge_can_be_completed_over_http() {
    let stage = Stage::new().await;
    let receiver = stage.subscribed().await;
    let put = stage.control("PUT /users/user-1", Some(json!({"pin": "135790"}))).await;
    assert_eq!((put.status, &put.body["pinStatus"]), (200, &json!("ENABLED")));
    let id = stage.challenge().await;
    let started = stage.control(&format!("POST /challenges/{id}/start"), None).await;
    assert_eq!((started.status, &started.body["status"]), (200, &json!("IN_PROGRESS")));
    let wrong = stage.control(&format!("POST /challenges/{id}/pin"), Some(json!({"pin": "1"}))).await;
    assert_eq!((wrong.status, &wrong.body["status"]), (200, &json!("IN_PROGRESS")));
    let entry = json!({"pin": "135790", "newPin": "246801"});
    let right = stage.control(&format!("POST /challenges/{id}/pin"), Some(entry)).await;
    assert_eq!(
        (right.status, right.body),
        (
            200,
            json!({
                "id": id, "userId": USER, "type": "CHANGE_PIN", "status": "COMPLETE",
                "createDate": "2026-01-01T12:00:00Z",
            })
        )
    );
    receiver.wait_for(4).await;
    stage.circle.wait_for_deliveries(4).await;
    let deliveries = stage.control("GET /deliveries", None).await.body;
    assert_eq!((&deliveries[3]["attempt"], &deliveries[3]["status"]), (&json!(1), &json!(200)));
    assert!(deliveries[3]["body"].as_str().unwrap().contains("COMPLETE"));
    let calls = stage.control("GET /calls", None).await.body;
    assert_eq!(calls, json!({"POST /v1/w3s/users/token": 1, "PUT /v1/w3s/user/pin": 1}));
    assert_eq!(stage.control("DELETE /calls", None).await.status, 200);
    assert_eq!(stage.control("GET /calls", None).await.body, json!({}));
}

#[tokio::test]
async fn challenge_can_end_in_every_way_over_http() {
    let stage = Stage::with_user().await;
    let token = stage.token(USER).await;
    let end = |action: &'static str, body: Option<Value>| {
        let (stage, token) = (&stage, &token);
        async move {
            let id = challenge_id(&stage.restore_pin(token).await);
            let reply = stage.control(&format!("POST /challenges/{id}/{action}"), body).await;
            assert_eq!(reply.status, 200, "{reply:?}");
            assert_eq!(stage.control(&format!("GET /challenges/{id}"), None).await.body, reply.body);
            (reply.body["status"].as_str().unwrap().to_owned(), reply.body["errorCode"].as_i64())
        }
    };
    assert_eq!(end("cancel", None).await, ("FAILED".to_owned(), Some(155_701)));
    assert_eq!(end("expire", None).await, ("EXPIRED".to_owned(), None));
    assert_eq!(end("expire", Some(json!({"as": "FAILED"}))).await, ("FAILED".to_owned(), Some(155_121)));
    assert_eq!(end("fail", Some(json!({"code": 155_706}))).await, ("FAILED".to_owned(), Some(155_706)));
    let answers = json!({"correct": true, "newPin": "246801"});
    assert_eq!(end("security-questions", Some(answers)).await, ("COMPLETE".to_owned(), None));
    assert_eq!(stage.control("GET /challenges", None).await.body.as_array().unwrap().len(), 5);
}

#[tokio::test]
async fn knobs_faults_keys_and_clock_can_be_changed_over_http() {
    let stage = Stage::with_user().await;
    let receiver = stage.subscribed().await;
    let knobs =
        stage.control("PATCH /knobs", Some(json!({"retryFactor": 0.5, "webhooksPaused": true}))).await;
    assert_eq!((knobs.status, &knobs.body["retryFactor"]), (200, &json!(0.5)));
    assert_eq!(knobs.body, stage.control("GET /knobs", None).await.body);
    let custom = json!({"notificationType": "challenges.setPin", "notification": {"id": "x"}});
    assert_eq!(stage.control("POST /webhooks", Some(custom)).await.body, json!({"sent": 1}));
    assert_eq!(stage.control("POST /webhooks", Some(json!({"raw": "{"}))).await.body, json!({"sent": 1}));
    let released = stage.control("POST /deliveries/release", Some(json!({"order": "reversed"}))).await;
    assert_eq!(released.body, json!({"released": 2}));
    assert_eq!(receiver.wait_for(3).await[2]["notification"], json!({"id": "x"}));

    let fault = json!({"method": "GET", "path": "/v1", "status": 429, "retryAfter": "1"});
    let faults = stage.control("POST /faults", Some(fault)).await;
    assert_eq!((faults.status, &faults.body[0]["retryAfter"]), (200, &json!("1")));
    assert_eq!(stage.get("/v1/w3s/users/user-1", None).await.error(), (429, 429));
    stage.control("POST /faults", Some(json!({"drop": true}))).await;
    assert_eq!(stage.control("DELETE /faults", None).await.body, json!([]));
    assert_eq!(stage.control("GET /faults", None).await.body, json!([]));

    let old = stage.circle.sign(b"").0;
    let key = stage.control("POST /signing-key/rotate", None).await;
    assert_ne!(key.body["keyId"], json!(old));
    let api_key = stage.control("POST /api-key/rotate", None).await.body["apiKey"].clone();
    assert_eq!(api_key, stage.circle.api_key());

    assert_eq!(
        stage.control("GET /clock", None).await.body,
        json!({"now": "2026-01-01T12:00:00.000000000Z"})
    );
    let advanced = stage.control("POST /clock/advance", Some(json!({"seconds": 90.5}))).await;
    assert_eq!(advanced.body, json!({"now": "2026-01-01T12:01:30.500000000Z"}));

    let token = stage.token(USER).await;
    assert_eq!(stage.control("POST /users/user-1/forget-tokens", None).await.status, 200);
    assert_eq!(stage.get("/v1/w3s/user", Some(&token)).await.error(), (401, 155_103));
    let patched = stage.control("PATCH /users/user-1", Some(json!({"status": "DISABLED"}))).await;
    assert_eq!(patched.body["status"], "DISABLED");
    assert_eq!(stage.control("GET /users", None).await.body, json!([patched.body]));
    assert_eq!(stage.control("GET /users/user-1", None).await.body, patched.body);
    assert_eq!(stage.control("GET /subscriptions", None).await.body, json!(stage.circle.subscriptions()));
}

#[tokio::test]
async fn invalid_control_requests_get_an_error() {
    let stage = Stage::with_user().await;
    let id = stage.challenge().await;
    stage.circle.cancel_challenge(id).unwrap();
    let open = stage.challenge().await;
    let cases = [
        ("GET /nothing".to_owned(), None, 404),
        ("GET /users/nobody".to_owned(), None, 404),
        ("PATCH /users/nobody".to_owned(), None, 404),
        ("POST /users/nobody/forget-tokens".to_owned(), None, 404),
        ("PUT /users/abc".to_owned(), None, 400),
        ("PUT /users/user-2".to_owned(), Some(json!({"pinStatus": "OPEN"})), 400),
        ("PUT /users/user-2".to_owned(), Some(json!({"colour": "red"})), 400),
        ("GET /challenges/abc".to_owned(), None, 400),
        (format!("POST /challenges/{}/start", new_id()), None, 404),
        (format!("POST /challenges/{open}/dance"), None, 404),
        (format!("POST /challenges/{open}/pin"), None, 400),
        (format!("POST /challenges/{open}/pin"), Some(json!({"pin": "1", "correct": true})), 400),
        (format!("POST /challenges/{open}/pin"), Some(json!([])), 400),
        (format!("POST /challenges/{open}/security-questions"), Some(json!({"correct": true})), 400),
        (format!("POST /challenges/{open}/expire"), Some(json!({"as": "GONE"})), 400),
        (format!("POST /challenges/{open}/fail"), None, 400),
        (format!("POST /challenges/{id}/cancel"), None, 409),
        ("PATCH /knobs".to_owned(), Some(json!({"retryFactor": -1})), 400),
        ("PATCH /knobs".to_owned(), Some(json!({"undocumentedErrorStatus": 200})), 400),
        ("PATCH /knobs".to_owned(), Some(json!({"completeWord": "DONE"})), 400),
        ("PATCH /knobs".to_owned(), Some(json!({"repeatWebhooks": 1001})), 400),
        ("PATCH /knobs".to_owned(), Some(json!({"changePinNotificationType": "x"})), 400),
        ("PATCH /knobs".to_owned(), Some(json!({"colour": "red"})), 400),
        ("POST /faults".to_owned(), None, 400),
        ("POST /faults".to_owned(), Some(json!({"status": 99})), 400),
        ("POST /faults".to_owned(), Some(json!({"status": 500, "drop": true})), 400),
        ("POST /faults".to_owned(), Some(json!({"drop": true, "times": 0})), 400),
        ("POST /faults".to_owned(), Some(json!({"drop": true, "path": "v1"})), 400),
        ("POST /faults".to_owned(), Some(json!({"drop": true, "retryAfter": "1"})), 400),
        ("POST /faults".to_owned(), Some(json!({"status": 429, "retryAfter": "\n"})), 400),
        ("POST /webhooks".to_owned(), Some(json!({"notificationType": "x"})), 400),
        ("POST /clock/advance".to_owned(), None, 400),
        ("POST /clock/advance".to_owned(), Some(json!({"seconds": -1})), 400),
        ("POST /clock/advance".to_owned(), Some(json!({"seconds": 1e300})), 400),
        ("POST /deliveries/release".to_owned(), Some(json!({"order": "mixed"})), 400),
    ];
    for (call, body, status) in cases {
        let reply = stage.control(&call, body.clone()).await;
        assert_eq!(reply.status, status, "{call} {body:?}: {reply:?}");
        assert!(!reply.body["error"].as_str().unwrap().is_empty());
    }
    assert_eq!(stage.circle.challenge(open).unwrap().status, "PENDING");
}

#[tokio::test]
async fn page_shows_the_state_without_secrets() {
    let stage = Stage::with_user().await;
    let receiver = stage.subscribed().await;
    let id = stage.challenge().await;
    receiver.wait_for(2).await;
    stage.circle.wait_for_deliveries(2).await;
    let token = stage.token(USER).await;
    let page = stage.control("GET ", None).await;
    assert_eq!(
        (page.status, page.headers["Content-Type"].to_str().unwrap()),
        (200, "text/plain; charset=utf-8")
    );
    let page = page.body.as_str().unwrap().to_owned();
    for shown in
        [USER, &id.to_string(), &receiver.url, "webhooks.test", "retryFactor: 1.0", "PUT /v1/w3s/user/pin"]
    {
        assert!(page.contains(shown), "{shown} is missing in\n{page}");
    }
    for secret in ["135790".to_owned(), stage.circle.api_key(), token] {
        // The operations below have a PIN in an example.
        let state = page.split("\nOperations\n").next().unwrap();
        assert!(!state.contains(&secret));
    }
}

#[tokio::test]
async fn browser_gets_a_page_with_buttons_and_the_state_as_json() {
    let stage = Stage::with_user().await;
    let id = stage.challenge().await;
    let get = |path: &str, accept: &str| {
        let url = format!("{}/control{path}", stage.circle.url());
        stage.http.get(url).header("Accept", accept).send()
    };
    let browser = "text/html,application/xhtml+xml,*/*;q=0.8";
    for (path, accept, content_type) in [
        ("", browser, "text/html"),
        ("/assets/control.js", "*/*", "text/javascript"),
        ("/assets/base.css", "text/css,*/*;q=0.1", "text/css"),
        ("/assets/control.css", "text/css,*/*;q=0.1", "text/css"),
        ("", "*/*", "text/plain"),
    ] {
        let response = get(path, accept).await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
        assert!(
            response.headers()["content-type"].to_str().unwrap().starts_with(content_type),
            "{path} {accept}"
        );
        let policy = response.headers().get("content-security-policy");
        assert_eq!(policy.is_some(), content_type != "text/plain", "{path} {accept}");
    }
    assert_eq!(get("/assets/other.js", "*/*").await.unwrap().status(), 404);

    let state = stage.control("GET /state", None).await.body;
    assert_eq!(state["users"][0]["id"], USER);
    assert_eq!(state["challenges"][0]["id"], id.to_string());
    for list in ["subscriptions", "faults", "deliveries", "operations"] {
        assert!(state[list].is_array(), "{list}");
    }
    assert_eq!(state["knobs"]["retryFactor"], 1.0);
    assert_eq!(state["calls"]["PUT /v1/w3s/user/pin"], 1);
    let operations = state["operations"].to_string();
    let shown = state.to_string().replace(&operations, "");
    for secret in ["135790".to_owned(), stage.circle.api_key()] {
        assert!(!shown.contains(&secret));
    }
}

#[tokio::test]
async fn stop_ends_connections_requests_and_deliveries() {
    let stage = Stage::with_user().await;
    let receiver = stage.subscribed().await;
    receiver.respond_with(500);
    stage.challenge().await;
    stage.circle.wait_for_deliveries(2).await;
    stage.circle.add_fault(crate::circle_simulator::Fault { delay_ms: 60_000, ..Default::default() });
    let slow = tokio::spawn(stage.request("GET /v1/w3s/users/user-1", None, None).send());
    let silent =
        tokio::net::TcpStream::connect(stage.circle.url().trim_start_matches("http://")).await.unwrap();
    wait_briefly().await;
    let url = stage.circle.url();
    let clock = stage.circle.core.clock.clone();
    let stopping = stage.circle.stop();
    shared::clock::timeout(&SystemClock, Duration::from_secs(5), stopping)
        .await
        .expect("the simulator stops in time");
    let result = slow.await.unwrap();
    assert!(result.is_err() || result.is_ok_and(|response| response.status() == 500));
    clock.advance(Duration::from_secs(3600));
    wait_briefly().await;
    assert_eq!(receiver.messages().len(), 2);
    assert!(reqwest::get(url).await.is_err());
    drop(silent);
}

#[tokio::test]
async fn dropping_the_last_handle_stops_the_simulator() {
    let stage = Stage::with_user().await;
    let url = stage.circle.url();
    let clone = stage.circle.clone();
    drop(stage);
    wait_briefly().await;
    assert_eq!(clone.url(), url);
    assert!(reqwest::get(&url).await.is_ok());
    drop(clone);
    eventually(async || reqwest::get(&url).await.is_err()).await;
}
