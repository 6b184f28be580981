//! Incidents with webhooks.

use serde_json::{Value, json};
use uuid::Uuid;

use super::PlayError;
use super::scene::{Functions, Scene};
use crate::circle_simulator::PinEntry;

/// The form of a signature: two numbers, 1 and 1.
const A_SIGNATURE: &str = "MAYCAQECAQE=";

/// More key ids than an instance asks Circle for at once.
const INVENTED_KEY_IDS: usize = 25;

pub(super) async fn unreadable(scene: &Scene) -> Result<(), PlayError> {
    let (functions, id) = (scene.functions().await?, scene.sources.platform.random.uuid());
    let mut message = scene.message(id, "incident-user", "COMPLETE", 0);
    message["notification"]["id"] = Value::Null;
    scene.say("Circle sends a webhook without the id of the challenge.");
    scene.webhook(&functions, &message).await
}

pub(super) async fn forged(scene: &Scene) -> Result<(), PlayError> {
    let (functions, id) = (scene.functions().await?, scene.sources.platform.random.uuid());
    let (key_id, signature) = scene.circle().sign(b"something else");
    let message = scene.message(id, "incident-user", "COMPLETE", 0).to_string();
    scene.say("Somebody sends a webhook with Circle's signature of another message.");
    scene.say(scene.post(&functions, key_id, &signature, &message).await?);
    Ok(())
}

pub(super) async fn other_address(scene: &Scene) -> Result<(), PlayError> {
    let functions = scene.functions_with(&[("CIRCLE_SOURCE_IPS", "192.0.2.1")]).await?;
    let message = scene.message(scene.sources.platform.random.uuid(), "incident-user", "COMPLETE", 0);
    scene.say("Only webhooks from 192.0.2.1 are accepted. One comes from 127.0.0.1.");
    scene.webhook(&functions, &message).await
}

pub(super) async fn unknown_key_ids(scene: &Scene) -> Result<(), PlayError> {
    let functions = scene.functions().await?;
    scene.say(format!("Somebody sends {INVENTED_KEY_IDS} webhooks, each with another key id."));
    let mut results = Vec::new();
    for _ in 0..INVENTED_KEY_IDS {
        let key_id = scene.sources.platform.random.uuid();
        results.push(scene.post(&functions, key_id, A_SIGNATURE, "{}").await?);
    }
    scene.say_how_often(&results);
    Ok(())
}

/// A new challenge, of which Circle has said nothing yet.
async fn requested(scene: &Scene) -> Result<(Functions, Uuid, String), PlayError> {
    scene.circle().set_knobs(|knobs| knobs.lose_webhooks = u32::MAX);
    let (functions, user) = (scene.functions().await?, scene.user().await?);
    let id = scene.challenge(&functions, &user).await?;
    Ok((functions, id, user.id))
}

pub(super) async fn another_user(scene: &Scene) -> Result<(), PlayError> {
    let (functions, id, _) = requested(scene).await?;
    scene.say("Circle reports the challenge as IN_PROGRESS, with the id of another user.");
    scene.webhook(&functions, &scene.message(id, "somebody-else", "IN_PROGRESS", 0)).await
}

pub(super) async fn unrequested(scene: &Scene) -> Result<(), PlayError> {
    let functions = scene.functions().await?;
    let message = scene.message(scene.sources.platform.random.uuid(), "incident-user", "COMPLETE", 0);
    scene.say("Circle reports a challenge that was not created through this API.");
    scene.webhook(&functions, &message).await
}

pub(super) async fn ignored(scene: &Scene) -> Result<(), PlayError> {
    let functions = scene.functions().await?;
    let id = scene.sources.platform.random.uuid();
    let mut message = scene.message(id, "incident-user", "COMPLETE", 0);
    message["notificationType"] = json!("wallets.new");
    scene.say("Circle sends a webhook about a wallet.");
    scene.webhook(&functions, &message).await
}

pub(super) async fn complete_after_failure(scene: &Scene) -> Result<(), PlayError> {
    let (functions, id, user) = requested(scene).await?;
    scene.say("Circle reports the challenge as failed, and then as complete.");
    scene.webhook(&functions, &scene.message(id, &user, "FAILED", 155_112)).await?;
    enter_pin(scene, id)?;
    scene.webhook(&functions, &scene.message(id, &user, "COMPLETE", 0)).await
}

pub(super) async fn conflicting_final_status(scene: &Scene) -> Result<(), PlayError> {
    let (functions, id, user) = requested(scene).await?;
    scene.say("Circle reports the challenge as complete, and then as failed.");
    enter_pin(scene, id)?;
    scene.webhook(&functions, &scene.message(id, &user, "COMPLETE", 0)).await?;
    scene.webhook(&functions, &scene.message(id, &user, "FAILED", 155_112)).await
}

/// The user enters the PIN, so that the simulated Circle agrees with what is reported in the end.
pub(super) fn enter_pin(scene: &Scene, id: Uuid) -> Result<(), PlayError> {
    scene.circle().enter_pin(id, PinEntry::right()).map_err(|error| error.to_string())?;
    Ok(())
}
