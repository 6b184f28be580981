use super::*;
use crate::circle_simulator::{ControlError, Expiry, FactorStatus, PinEntry};

fn set(pin: FactorStatus, security_questions: FactorStatus) -> UserChange {
    UserChange {
        pin_status: Some(pin),
        security_question_status: Some(security_questions),
        ..UserChange::default()
    }
}

#[tokio::test]
async fn challenge_is_pending_until_the_user_opens_it() {
    let stage = Stage::with_user().await;
    let token = stage.token(USER).await;
    let created = stage.change_pin(&token).await;
    assert_eq!(created.status, 201);
    let id = challenge_id(&created);
    let path = format!("/v1/w3s/user/challenges/{id}");
    let challenge = json!({"id": id, "type": "CHANGE_PIN", "status": "PENDING", "correlationIds": []});
    let read = stage.get(&path, Some(&token)).await;
    assert_eq!((read.status, read.body), (200, json!({"data": {"challenge": challenge}})));
    assert_eq!(stage.circle.start_challenge(id).unwrap().status, "IN_PROGRESS");
    assert_eq!(stage.get(&path, Some(&token)).await.body["data"]["challenge"]["status"], "IN_PROGRESS");
    assert_eq!(stage.restore_pin(&token).await.status, 201);
}

#[tokio::test]
async fn used_idempotency_key_returns_the_first_challenge_even_if_the_user_is_locked_now() {
    let stage = Stage::with_user().await;
    let token = stage.token(USER).await;
    let body = json!({"idempotencyKey": new_id()});
    let first = stage.call("PUT /v1/w3s/user/pin", Some(&token), Some(&body)).await;
    stage.circle.put_user(USER, set(FactorStatus::Locked, FactorStatus::Locked)).unwrap();
    let again = stage.call("PUT /v1/w3s/user/pin", Some(&token), Some(&body)).await;
    assert_eq!((first.status, again.status), (201, 200));
    assert_eq!(first.body, again.body);
    let elsewhere = stage.call("POST /v1/w3s/user/pin/restore", Some(&token), Some(&body)).await;
    assert_eq!((elsewhere.status, elsewhere.body), (200, first.body));
    assert_eq!(stage.circle.challenges().len(), 1);
}

#[tokio::test]
async fn concurrent_calls_with_one_idempotency_key_create_one_challenge() {
    let stage = Stage::with_user().await;
    let token = stage.token(USER).await;
    let body = json!({"idempotencyKey": new_id()});
    let calls = (0..20).map(|_| stage.call("PUT /v1/w3s/user/pin", Some(&token), Some(&body)));
    let replies = futures_util::future::join_all(calls).await;
    assert_eq!(replies.iter().filter(|reply| reply.status == 201).count(), 1);
    assert_eq!(replies.iter().filter(|reply| reply.status == 200).count(), 19);
    assert!(replies.iter().all(|reply| reply.body == replies[0].body));
}

#[tokio::test]
async fn idempotency_key_must_be_a_uuid_v4() {
    let stage = Stage::with_user().await;
    let token = stage.token(USER).await;
    let put = |body: Value| {
        let request = stage.request("PUT /v1/w3s/user/pin", Some(&token), Some(&body));
        reply(request)
    };
    assert_eq!(put(json!({})).await.error(), (400, 1));
    let id = new_id();
    for key in [
        json!("abc"),
        json!("00000000-0000-1000-8000-000000000000"),
        json!(7),
        json!(id.simple()),
        json!(id.braced()),
        json!(id.urn()),
    ] {
        assert_eq!(put(json!({"idempotencyKey": key})).await.error(), (400, 2), "{key}");
    }
}

#[tokio::test]
async fn challenge_creation_checks_circles_preconditions() {
    use FactorStatus::{Enabled, Locked, Unset};
    let stage = Stage::with_user().await;
    let token = stage.token(USER).await;
    let cases = [
        (set(Unset, Enabled), Some(155_110), Some(155_110)),
        (set(Locked, Enabled), Some(155_119), None),
        (set(Enabled, Unset), None, Some(155_111)),
        (set(Enabled, Locked), None, Some(155_120)),
        (set(Locked, Locked), Some(155_119), Some(155_120)),
        (set(Enabled, Enabled), None, None),
    ];
    for (change, change_pin, restore_pin) in cases {
        stage.circle.put_user(USER, change.clone()).unwrap();
        for (reply, code) in
            [(stage.change_pin(&token).await, change_pin), (stage.restore_pin(&token).await, restore_pin)]
        {
            match code {
                Some(code) => assert_eq!(reply.error(), (403, code), "{change:?}"),
                None => assert_eq!(reply.status, 201, "{change:?}"),
            }
        }
    }
}

#[tokio::test]
async fn knob_sets_the_http_status_of_errors_that_circle_does_not_document() {
    let stage = Stage::with_user().await;
    let token = stage.token(USER).await;
    stage.circle.set_knobs(|knobs| knobs.undocumented_error_status = 409);
    stage.circle.put_user(USER, set(FactorStatus::Locked, FactorStatus::Enabled)).unwrap();
    assert_eq!(stage.change_pin(&token).await.error(), (409, 155_119));
}

#[tokio::test]
async fn challenge_of_another_user_is_not_found() {
    let stage = Stage::with_user().await;
    let id = stage.challenge().await;
    stage.circle.put_user("user-2", UserChange::ready()).unwrap();
    let token = stage.token("user-2").await;
    for unknown in [id, new_id()] {
        let path = format!("/v1/w3s/user/challenges/{unknown}");
        assert_eq!(stage.get(&path, Some(&token)).await.error(), (404, 155_116));
    }
    for invalid in ["abc".to_owned(), id.simple().to_string(), id.braced().to_string(), id.urn().to_string()]
    {
        let path = format!("/v1/w3s/user/challenges/{invalid}");
        assert_eq!(stage.get(&path, Some(&token)).await.error(), (400, 2), "{invalid}");
    }
}

#[tokio::test]
async fn open_challenges_are_listed_by_status() {
    let stage = Stage::with_user().await;
    let (pending, started, done) =
        (stage.challenge().await, stage.challenge().await, stage.challenge().await);
    stage.circle.start_challenge(started).unwrap();
    stage.circle.cancel_challenge(done).unwrap();
    let token = stage.token(USER).await;
    let listed = |query: &'static str| {
        let (stage, token) = (&stage, &token);
        async move {
            let reply = stage.get(&format!("/v1/w3s/user/challenges{query}"), Some(token)).await;
            assert_eq!(reply.status, 200);
            let challenges = reply.body["data"]["challenges"].as_array().unwrap().clone();
            challenges.iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        }
    };
    assert_eq!(listed("?status=PENDING").await, [pending.to_string()]);
    assert_eq!(listed("?status=IN_PROGRESS").await, [started.to_string()]);
    assert_eq!(listed("").await, [pending.to_string(), started.to_string()]);
    let wrong = stage.get("/v1/w3s/user/challenges?status=COMPLETE", Some(&token)).await;
    assert_eq!(wrong.error(), (400, 2));
}

#[tokio::test]
async fn correct_pin_completes_the_challenge_and_sets_the_new_pin() {
    let stage = Stage::with_user().await;
    let id = stage.challenge().await;
    assert_eq!(stage.circle.enter_pin(id, PinEntry::typed("000000")).unwrap().status, "IN_PROGRESS");
    assert_eq!(stage.circle.enter_pin(id, PinEntry::wrong()).unwrap().status, "IN_PROGRESS");
    assert_eq!(stage.circle.user(USER).unwrap()["pinDetails"], json!({"failedAttempts": 2}));
    let entry = PinEntry { new_pin: Some("246801".to_owned()), ..PinEntry::typed("135790") };
    assert_eq!(stage.circle.enter_pin(id, entry).unwrap().status, "COMPLETE");
    assert_eq!(stage.circle.user(USER).unwrap()["pinDetails"], json!({"failedAttempts": 0}));
    let next = stage.challenge().await;
    assert_eq!(stage.circle.enter_pin(next, PinEntry::typed("135790")).unwrap().status, "IN_PROGRESS");
    assert_eq!(stage.circle.enter_pin(next, PinEntry::typed("246801")).unwrap().status, "COMPLETE");
}

#[tokio::test]
async fn third_wrong_pin_locks_the_pin_and_fails_every_challenge_until_the_lock_ends() {
    let stage = Stage::with_user().await;
    let (first, second) = (stage.challenge().await, stage.challenge().await);
    stage.circle.enter_pin(first, PinEntry::wrong()).unwrap();
    stage.circle.enter_pin(second, PinEntry::wrong()).unwrap();
    let failed = stage.circle.enter_pin(first, PinEntry::wrong()).unwrap();
    assert_eq!((failed.status, failed.error_code), ("FAILED", Some(155_119)));
    assert_eq!(stage.circle.user(USER).unwrap()["pinStatus"], "LOCKED");
    let other = stage.circle.enter_pin(second, PinEntry::right()).unwrap();
    assert_eq!((other.status, other.error_code), ("FAILED", Some(155_119)));
    let token = stage.token(USER).await;
    let read = stage.get(&format!("/v1/w3s/user/challenges/{first}"), Some(&token)).await;
    let challenge = &read.body["data"]["challenge"];
    assert_eq!((&challenge["status"], &challenge["errorCode"]), (&json!("FAILED"), &json!(155_119)));
    assert!(challenge["errorMessage"].is_string());
    assert_eq!(stage.change_pin(&token).await.error(), (403, 155_119));
    stage.circle.advance_clock(Duration::from_secs(30 * 60));
    let id = challenge_id(&stage.change_pin(&token).await);
    assert_eq!(stage.circle.enter_pin(id, PinEntry::right()).unwrap().status, "COMPLETE");
}

#[tokio::test]
async fn knob_fails_a_challenge_at_the_first_wrong_pin() {
    let stage = Stage::with_user().await;
    stage.circle.set_knobs(|knobs| knobs.wrong_pin_fails_challenge = true);
    let id = stage.challenge().await;
    let failed = stage.circle.enter_pin(id, PinEntry::wrong()).unwrap();
    assert_eq!((failed.status, failed.error_code), ("FAILED", Some(155_112)));
}

#[tokio::test]
async fn security_answers_restore_a_locked_pin() {
    let stage = Stage::with_user().await;
    stage.circle.put_user(USER, set(FactorStatus::Locked, FactorStatus::Enabled)).unwrap();
    let id = challenge_id(&stage.restore_pin(&stage.token(USER).await).await);
    assert_eq!(stage.circle.answer_security_questions(id, false, None).unwrap().status, "IN_PROGRESS");
    let done = stage.circle.answer_security_questions(id, true, Some("246801".to_owned())).unwrap();
    assert_eq!(done.status, "COMPLETE");
    let user = stage.circle.user(USER).unwrap();
    assert_eq!(user["pinStatus"], "ENABLED");
    assert_eq!(user["securityQuestionDetails"], json!({"failedAttempts": 0}));
    let next = stage.challenge().await;
    assert_eq!(stage.circle.enter_pin(next, PinEntry::typed("246801")).unwrap().status, "COMPLETE");
}

#[tokio::test]
async fn third_wrong_answers_lock_the_questions_and_fail_the_challenge() {
    let stage = Stage::with_user().await;
    let id = challenge_id(&stage.restore_pin(&stage.token(USER).await).await);
    for _ in 0..2 {
        assert_eq!(stage.circle.answer_security_questions(id, false, None).unwrap().status, "IN_PROGRESS");
    }
    let failed = stage.circle.answer_security_questions(id, false, None).unwrap();
    assert_eq!((failed.status, failed.error_code), ("FAILED", Some(155_120)));
    assert_eq!(stage.circle.user(USER).unwrap()["securityQuestionStatus"], "LOCKED");
}

#[tokio::test]
async fn knob_fails_a_challenge_at_the_first_wrong_answers() {
    let stage = Stage::with_user().await;
    let token = stage.token(USER).await;
    stage.circle.set_knobs(|knobs| knobs.wrong_answers_fail_challenge = true);
    for code in [155_115, 155_115, 155_120] {
        let id = challenge_id(&stage.restore_pin(&token).await);
        stage.circle.answer_security_questions(id, false, None).unwrap();
        let read = stage.get(&format!("/v1/w3s/user/challenges/{id}"), Some(&token)).await;
        let challenge = &read.body["data"]["challenge"];
        assert_eq!((&challenge["status"], &challenge["errorCode"]), (&json!("FAILED"), &json!(code)));
    }
}

#[tokio::test]
async fn cancelled_and_expired_challenges_are_final() {
    let stage = Stage::with_user().await;
    let cancelled = stage.circle.cancel_challenge(stage.challenge().await).unwrap();
    assert_eq!((cancelled.status, cancelled.error_code), ("FAILED", Some(155_701)));
    let failed = stage.circle.expire_challenge(stage.challenge().await, Expiry::Failed).unwrap();
    assert_eq!((failed.status, failed.error_code), ("FAILED", Some(155_121)));
    let expired = stage.circle.expire_challenge(stage.challenge().await, Expiry::Expired).unwrap();
    assert_eq!((expired.status, expired.error_code), ("EXPIRED", None));
    let again = stage.circle.enter_pin(expired.id, PinEntry::right()).unwrap_err();
    assert_eq!(again, ControlError::Final(format!("challenge {} is already EXPIRED", expired.id)));
    assert!(matches!(stage.circle.start_challenge(new_id()), Err(ControlError::NotFound(_))));
}

#[tokio::test]
async fn expired_challenge_is_reported_in_four_ways() {
    let stage = Stage::with_user().await;
    let receiver = stage.subscribed().await;
    let token = stage.token(USER).await;
    let expired = (200, json!("EXPIRED"), Value::Null);
    let failed = (200, json!("FAILED"), json!(155_121));
    for (expiry, response, webhook) in [
        (Expiry::Expired, expired.clone(), ("EXPIRED", 0)),
        (Expiry::Failed, failed, ("FAILED", 155_121)),
        (Expiry::Mixed, expired, ("FAILED", 155_121)),
        (Expiry::Error, (403, Value::Null, json!(155_121)), ("FAILED", 155_121)),
    ] {
        let received = receiver.messages().len();
        let id = challenge_id(&stage.change_pin(&token).await);
        let view = stage.circle.expire_challenge(id, expiry).unwrap();
        assert_eq!(view.status, if expiry == Expiry::Failed { "FAILED" } else { "EXPIRED" });
        let reply = stage.get(&format!("/v1/w3s/user/challenges/{id}"), Some(&token)).await;
        let challenge = &reply.body["data"]["challenge"];
        let code = if reply.status == 200 { &challenge["errorCode"] } else { &reply.body["code"] };
        assert_eq!((reply.status, challenge["status"].clone(), code.clone()), response, "{expiry:?}");
        let notification = receiver.wait_for(received + 2).await[received + 1]["notification"].clone();
        assert_eq!(
            (&notification["status"], &notification["errorCode"]),
            (&json!(webhook.0), &json!(webhook.1))
        );
        assert_eq!(
            stage.get("/v1/w3s/user/challenges", Some(&token)).await.body["data"]["challenges"],
            json!([])
        );
    }
}

#[tokio::test]
async fn challenges_expire_by_themselves() {
    let stage = Stage::with_user().await;
    let receiver = stage.subscribed().await;
    stage.circle.set_knobs(|knobs| knobs.challenge_lifetime_seconds = 600);
    let token = stage.token(USER).await;
    let (id, done) =
        (challenge_id(&stage.change_pin(&token).await), challenge_id(&stage.change_pin(&token).await));
    stage.circle.enter_pin(done, PinEntry::right()).unwrap();
    receiver.wait_for(5).await;
    let path = format!("/v1/w3s/user/challenges/{id}");
    stage.circle.advance_clock(Duration::from_secs(599));
    assert_eq!(stage.get(&path, Some(&token)).await.body["data"]["challenge"]["status"], "PENDING");
    stage.circle.advance_clock(Duration::from_secs(1));
    assert_eq!(stage.get(&path, Some(&token)).await.error(), (403, 155_121));
    let notification = receiver.wait_for(6).await[5]["notification"].clone();
    assert_eq!((&notification["id"], &notification["errorCode"]), (&json!(id), &json!(155_121)));
    assert!(matches!(stage.circle.start_challenge(id), Err(ControlError::Final(_))));
    assert_eq!(stage.circle.challenge(done).unwrap().status, "COMPLETE");
    wait_briefly().await;
    assert_eq!(receiver.messages().len(), 6, "it expires once");
}

#[tokio::test]
async fn second_start_has_no_effect_and_the_wrong_kind_of_entry_is_rejected() {
    let stage = Stage::with_user().await;
    let id = stage.challenge().await;
    assert!(matches!(stage.circle.answer_security_questions(id, true, None), Err(ControlError::Invalid(_))));
    assert!(matches!(stage.circle.enter_pin(id, PinEntry::default()), Err(ControlError::Invalid(_))));
    assert_eq!(stage.circle.challenge(id).unwrap().status, "PENDING");
    stage.circle.start_challenge(id).unwrap();
    assert_eq!(stage.circle.start_challenge(id).unwrap().status, "IN_PROGRESS");
    stage.circle.put_user("user-2", UserChange::ready()).unwrap();
    let id = challenge_id(&stage.change_pin(&stage.token("user-2").await).await);
    assert!(matches!(stage.circle.enter_pin(id, PinEntry::typed("1")), Err(ControlError::Invalid(_))));
}
