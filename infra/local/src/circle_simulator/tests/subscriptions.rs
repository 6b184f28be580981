use super::*;

const PATH: &str = "/v2/notifications/subscriptions";

#[tokio::test]
async fn subscription_can_be_created_read_changed_and_deleted() {
    let stage = Stage::new().await;
    let receiver = Receiver::start().await;
    let body = json!({"endpoint": receiver.url, "notificationTypes": ["challenges.*"]});
    let created = stage.post(PATH, &body).await;
    let mut subscription = created.body["data"].clone();
    let id = subscription["id"].as_str().unwrap().to_owned();
    let expected = json!({
        "id": id, "name": "Subscription 1", "endpoint": receiver.url, "enabled": true,
        "notificationTypes": ["challenges.*"], "restricted": true,
        "createDate": "2026-01-01T12:00:00Z", "updateDate": "2026-01-01T12:00:00Z",
    });
    assert_eq!((created.status, &subscription), (200, &expected));
    assert_eq!(receiver.heads(), 1);
    let test_message = &receiver.wait_for(1).await[0];
    assert_eq!(
        (&test_message["notificationType"], &test_message["notification"], &test_message["subscriptionId"]),
        (&json!("webhooks.test"), &json!({"hello": "world"}), &json!(id))
    );

    let listed = stage.get(PATH, None).await;
    assert_eq!((listed.status, listed.body), (200, json!({"data": [subscription]})));
    let one = stage.get(&format!("{PATH}/{id}"), None).await;
    assert_eq!((one.status, one.body), (200, json!({"data": subscription})));

    stage.circle.advance_clock(Duration::from_secs(60));
    let patch = json!({"name": "renamed", "enabled": false});
    let patched = stage.call(&format!("PATCH {PATH}/{id}"), None, Some(&patch)).await;
    subscription["name"] = json!("renamed");
    subscription["enabled"] = json!(false);
    subscription["updateDate"] = json!("2026-01-01T12:01:00Z");
    assert_eq!((patched.status, patched.body), (200, json!({"data": subscription})));
    assert_eq!(receiver.heads(), 2);

    let deleted = stage.call(&format!("DELETE {PATH}/{id}"), None, None).await;
    assert_eq!((deleted.status, deleted.body), (204, json!("")));
    assert_eq!(stage.get(&format!("{PATH}/{id}"), None).await.error(), (404, 2));
    assert_eq!(stage.call(&format!("DELETE {PATH}/{id}"), None, None).await.error(), (404, 2));
    let gone = stage.call(&format!("PATCH {PATH}/{id}"), None, Some(&patch)).await;
    assert_eq!(gone.error(), (404, 2));
    assert_eq!(stage.get(&format!("{PATH}/abc"), None).await.error(), (400, 2));
}

#[tokio::test]
async fn subscription_without_types_is_unrestricted() {
    let stage = Stage::new().await;
    let receiver = Receiver::start().await;
    let created = stage.post(PATH, &json!({"endpoint": receiver.url})).await;
    assert_eq!(created.body["data"]["notificationTypes"], json!(["*"]));
    assert_eq!(created.body["data"]["restricted"], false);
}

#[tokio::test]
async fn invalid_subscriptions_are_rejected() {
    let stage = Stage::new().await;
    let receiver = Receiver::start().await;
    assert_eq!(stage.post(PATH, &json!({})).await.error(), (400, 1));
    for endpoint in ["http://example.com/webhooks", "nonsense"] {
        assert_eq!(stage.post(PATH, &json!({"endpoint": endpoint})).await.error(), (400, 2));
    }
    for types in [json!([]), json!(["challenges.changepin"]), json!(["challenge.*"]), json!("*"), json!(null)]
    {
        let body = json!({"endpoint": receiver.url, "notificationTypes": types});
        assert_eq!(stage.post(PATH, &body).await.error(), (400, 2), "{types}");
    }
    assert_eq!(receiver.heads(), 0);
    for status in [204, 302, 405, 500] {
        receiver.respond_with(status);
        assert_eq!(stage.post(PATH, &json!({"endpoint": receiver.url})).await.error(), (400, 2), "{status}");
    }
    assert_eq!(stage.post(PATH, &json!({"endpoint": "http://127.0.0.1:1/"})).await.error(), (400, 2));
    assert_eq!(stage.circle.subscriptions(), Vec::<Value>::new());
    assert_eq!(receiver.messages(), Vec::<Value>::new());
}

#[tokio::test]
async fn change_needs_name_and_enabled_and_a_reachable_endpoint_unless_it_disables() {
    let stage = Stage::new().await;
    let receiver = stage.subscribed().await;
    let id = stage.circle.subscriptions()[0]["id"].as_str().unwrap().to_owned();
    let patch = |body: Value| {
        let request = stage.request(&format!("PATCH {PATH}/{id}"), None, Some(&body));
        reply(request)
    };
    assert_eq!(patch(json!({"name": "x"})).await.error(), (400, 1));
    assert_eq!(patch(json!({"enabled": true})).await.error(), (400, 1));
    assert_eq!(patch(json!({"name": "x", "enabled": "yes"})).await.error(), (400, 2));
    receiver.respond_with(500);
    assert_eq!(patch(json!({"name": "x", "enabled": true})).await.error(), (400, 2));
    assert_eq!(patch(json!({"name": "x", "enabled": false})).await.status, 200);
}

#[tokio::test]
async fn public_keys_are_p_256_and_stay_available_after_a_rotation() {
    let stage = Stage::new().await;
    let (old, _) = stage.circle.sign(b"");
    let get = |id: String| {
        let stage = &stage;
        async move { stage.get(&format!("/v2/notifications/publicKey/{id}"), None).await }
    };
    let before = get(old.to_string()).await;
    assert_eq!(before.status, 200);
    let data = &before.body["data"];
    assert_eq!((&data["id"], &data["algorithm"]), (&json!(old), &json!("ECDSA_SHA_256")));
    assert_eq!(data["createDate"], "2026-01-01T12:00:00Z");
    let der = STANDARD.decode(data["publicKey"].as_str().unwrap()).unwrap();
    assert_eq!(der.len(), 91, "a SubjectPublicKeyInfo of an uncompressed P-256 point");
    let new = stage.circle.rotate_signing_key();
    assert_eq!(stage.circle.sign(b"").0, new);
    assert_eq!(get(old.to_string()).await.body, before.body);
    assert_ne!(get(new.to_string()).await.body["data"]["publicKey"], data["publicKey"]);
    assert_eq!(get(new_id().to_string()).await.error(), (404, 2));
    assert_eq!(get("abc".to_owned()).await.error(), (400, 2));
}
