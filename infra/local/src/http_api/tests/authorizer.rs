use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::*;

fn rejected(description: &str) -> (u16, Vec<(String, String)>, String) {
    let header = format!(r#"Bearer scope="" error="invalid_token" error_description="{description}""#);
    gateway_error(401, &[("www-authenticate", &header)], "Unauthorized")
}

async fn try_token(fixture: &Fixture, token: &str) -> (u16, Vec<(String, String)>, String) {
    let request = fixture.request("GET", "/challenges/1").header("authorization", format!("Bearer {token}"));
    parts_of(request.send().await.unwrap()).await
}

#[tokio::test]
async fn valid_token_is_accepted_on_every_authorized_route() {
    let fixture = Fixture::new(in_process(|_| async { ok("accepted") })).await;
    for route in ROUTES.iter().filter(|route| route.authorized) {
        let path = route.path.replace("{challengeId}", "1");
        let response = fixture.signed_in(route.method.as_str(), &path).send().await.unwrap();
        assert_eq!(response.text().await.unwrap(), "accepted");
        let response = fixture.request(route.method.as_str(), &path).send().await.unwrap();
        let no_token = gateway_error(401, &[("www-authenticate", "Bearer")], "Unauthorized");
        assert_eq!(parts_of(response).await, no_token);
    }
    let open = ROUTES.iter().filter(|route| !route.authorized).map(|route| route.function);
    assert!(open.clone().count() == 2 && open.clone().all(|function| function == "receive-webhook"));
}

#[tokio::test]
async fn scheme_is_optional_and_case_insensitive() {
    let fixture = Fixture::new(in_process(|_| async { ok("accepted") })).await;
    let token = fixture.token();
    for value in [token.clone(), format!("bearer {token}"), format!("BEARER  {token}")] {
        let response = fixture.request("GET", "/challenges/1").header("authorization", &value).send();
        assert_eq!(response.await.unwrap().status(), 200, "{value}");
    }
    for (value, expected) in [
        ("Bearer ", gateway_error(401, &[("www-authenticate", "Bearer")], "Unauthorized")),
        ("Basic dXNlcjpwYXNz", rejected("the token is malformed")),
        ("Bearer nonsense", rejected("the token is malformed")),
        ("Bearer a.b.c", rejected("the token is malformed")),
        ("Bearer \u{fc}", rejected("the token is malformed")),
    ] {
        let response = fixture.request("GET", "/challenges/1").header("authorization", value).send();
        assert_eq!(parts_of(response.await.unwrap()).await, expected, "{value}");
    }
}

#[tokio::test]
async fn claims_are_checked_with_the_stacks_clock() {
    let fixture = Fixture::new(in_process(|_| async { ok("accepted") })).await;
    let now = fixture.clock.now().unix_timestamp();
    let good = fixture.issuer.claims("user-12345", AUDIENCE, HOUR);
    let with = |changes: Value| {
        let mut claims = good.clone();
        for (name, value) in changes.as_object().unwrap() {
            match value {
                Value::Null => claims.as_object_mut().unwrap().remove(name),
                value => claims.as_object_mut().unwrap().insert(name.clone(), value.clone()),
            };
        }
        fixture.issuer.sign(&claims)
    };
    for changes in [
        json!({}),
        json!({ "aud": ["other", AUDIENCE] }),
        json!({ "aud": null, "client_id": AUDIENCE }),
        json!({ "exp": now + 1, "nbf": now, "iat": null }),
        json!({ "sub": null }),
    ] {
        assert_eq!(try_token(&fixture, &with(changes.clone())).await.0, 200, "{changes}");
    }
    for (changes, reason) in [
        (json!({ "iss": "https://elsewhere.example.com" }), "the token has an invalid issuer"),
        (json!({ "iss": null }), "the token has an invalid issuer"),
        (json!({ "aud": "other" }), "the token does not have a valid audience"),
        (json!({ "aud": ["other"] }), "the token does not have a valid audience"),
        (json!({ "aud": null }), "the token does not have a valid audience"),
        (json!({ "aud": "other", "client_id": AUDIENCE }), "the token does not have a valid audience"),
        (json!({ "exp": now }), "the token has expired"),
        (json!({ "exp": null }), "the token has expired"),
        (json!({ "exp": "later" }), "a time in the token is not a number"),
        (json!({ "nbf": now + 1 }), "the token is not valid yet"),
        (json!({ "iat": now + 1 }), "the token was issued in the future"),
    ] {
        assert_eq!(try_token(&fixture, &with(changes.clone())).await, rejected(reason), "{changes}");
    }
    let token = fixture.token();
    fixture.clock.advance(HOUR);
    assert_eq!(try_token(&fixture, &token).await, rejected("the token has expired"));
}

#[tokio::test]
async fn only_signatures_of_the_issuer_are_accepted() {
    let fixture = Fixture::new(in_process(|_| async { ok("accepted") })).await;
    let claims = fixture.issuer.claims("user-12345", AUDIENCE, HOUR);
    let bad_signature = rejected("the token has an invalid signature");
    assert_eq!(try_token(&fixture, &fixture.issuer.forge(&claims)).await, bad_signature);

    let token = fixture.token();
    let [header, payload, signature] = token.split('.').collect::<Vec<_>>()[..] else {
        panic!("a token has three parts")
    };
    let part = |json: Value| URL_SAFE_NO_PAD.encode(json.to_string());
    let mut other = claims.clone();
    other["sub"] = "somebody-else".into();
    let altered = format!("{header}.{}.{signature}", part(other));
    assert_eq!(try_token(&fixture, &altered).await, bad_signature);

    for (header, reason) in [
        (json!({ "alg": "none" }), "the token is malformed"),
        (json!({ "alg": "HS256", "kid": "demo-issuer-key" }), "the token is not signed with RS256"),
        (json!({ "alg": "RS256" }), "the token has no key id"),
        (json!({ "alg": "RS256", "kid": "another" }), "the token's key is unknown"),
    ] {
        let token = format!("{}.{payload}.{signature}", part(header.clone()));
        assert_eq!(try_token(&fixture, &token).await, rejected(reason), "{header}");
    }
}

#[tokio::test]
async fn keys_are_cached_for_two_hours() {
    let fixture = Fixture::new(in_process(|_| async { ok("accepted") })).await;
    let token = fixture.issuer.token("user-12345", AUDIENCE, 24 * HOUR);
    assert_eq!(try_token(&fixture, &token).await.0, 200);
    let Fixture { api, issuer, clock, client, .. } = fixture;
    issuer.stop().await;
    clock.advance(2 * HOUR);
    let again = || client.get(format!("{}/challenges/1", api.url())).bearer_auth(&token).send();
    assert_eq!(again().await.unwrap().status(), 200);
    clock.advance(Duration::from_secs(1));
    let unreachable = rejected("OIDC discovery endpoint communication error");
    assert_eq!(parts_of(again().await.unwrap()).await, unreachable);
}
