//! Incidents with events.

use serde_json::json;

use super::PlayError;
use super::scene::{DEAD_END, Scene};
use crate::dynamodb::CHALLENGES_TABLE;
use crate::stream::Stream;

pub(super) async fn not_published(scene: &Scene) -> Result<(), PlayError> {
    let mut stream = Stream::of(scene.sources.database.clone(), CHALLENGES_TABLE)?;
    let (functions, user) = (scene.functions().await?, scene.user().await?);
    scene.challenge(&functions, &user).await?;
    scene.say("Another copy of announce-challenges reads the change, and does not reach EventBridge.");
    let cut_off = scene.functions_with(&[("AWS_ENDPOINT_URL_EVENTBRIDGE", DEAD_END)]).await?;
    let failed = cut_off.announce(scene, stream.take()?).await?;
    scene.say(format!("Records that Lambda would retry: {failed}."));
    Ok(())
}

pub(super) async fn unreadable_change(scene: &Scene) -> Result<(), PlayError> {
    scene.say("The stream has a record without an image.");
    let failed = scene.functions().await?.announce(scene, vec![json!({ "eventName": "INSERT" })]).await?;
    scene.say(format!("Records that Lambda would retry: {failed}. The record is in the queue."));
    Ok(())
}
