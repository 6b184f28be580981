//! Incidents at Circle, and one of a caller.

use super::PlayError;
use super::scene::Scene;
use crate::circle_simulator::Fault;

/// Circle responds to every call of an app's request with this error.
async fn every_call(scene: &Scene, fault: Fault) -> Result<(), PlayError> {
    let (functions, user) = (scene.functions().await?, scene.user().await?);
    scene.break_circle(fault);
    scene.call(&functions, &user, "POST /challenges").await.map(drop)
}

pub(super) async fn down(scene: &Scene) -> Result<(), PlayError> {
    scene.say("Circle responds to every call with 503.");
    every_call(scene, Fault { status: Some(503), ..Fault::default() }).await
}

pub(super) async fn slow(scene: &Scene) -> Result<(), PlayError> {
    let (functions, user) = (scene.functions().await?, scene.user().await?);
    // The API key is read here, so that only the calls to Circle take time.
    scene.call(&functions, &user, "POST /session-tokens").await?;
    scene.say("Circle takes an hour for each response.");
    scene.break_circle(Fault { delay_ms: 3_600_000, ..Fault::default() });
    let call = scene.call(&functions, &user, "POST /session-tokens");
    scene.hurry_after("POST /v1/w3s/users/token", call).await.map(drop)
}

pub(super) async fn rate_limit(scene: &Scene) -> Result<(), PlayError> {
    scene.say("Circle rejects every call with 429, and asks to wait for an hour.");
    every_call(scene, Fault { status: Some(429), retry_after: Some("3600".into()), ..Fault::default() }).await
}

pub(super) async fn unknown_error(scene: &Scene) -> Result<(), PlayError> {
    scene.say("Circle responds to every call with 400 and code 987654.");
    every_call(scene, Fault { status: Some(400), code: Some(987_654), ..Fault::default() }).await
}

pub(super) async fn wrong_api_key(scene: &Scene) -> Result<(), PlayError> {
    scene.say("Circle responds to every call with 401 and code 4.");
    every_call(scene, Fault { status: Some(401), code: Some(4), ..Fault::default() }).await
}

pub(super) async fn user_flood(scene: &Scene) -> Result<(), PlayError> {
    let (functions, user) = (scene.functions_with(&[("CALL_BURST", "5")]).await?, scene.user().await?);
    scene.say("One user may make five calls at once. The app makes eight.");
    let mut results = Vec::new();
    for _ in 0..8 {
        results.push(scene.request(&functions, &user, "POST /session-tokens").await?.0);
    }
    scene.say_how_often(&results);
    Ok(())
}
