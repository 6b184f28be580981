//! Incidents of the deployment: the secret, the tables, the subscription.

use dynoxide::actions::put_item::PutItemRequest;
use serde_json::{Value, json};

use super::PlayError;
use super::scene::{DEAD_END, Scene};
use crate::circle_simulator::Access;
use crate::dynamodb::CHALLENGES_TABLE;

/// What the schedule sends to `manage-subscription`.
fn check() -> Value {
    json!({ "action": "check-subscription" })
}

/// An app calls functions that do not reach an AWS service.
async fn without(scene: &Scene, endpoint: &str) -> Result<(), PlayError> {
    let (functions, user) = (scene.functions_with(&[(endpoint, DEAD_END)]).await?, scene.user().await?);
    scene.call(&functions, &user, "POST /challenges").await.map(drop)
}

pub(super) async fn secret_unavailable(scene: &Scene) -> Result<(), PlayError> {
    scene.say("The functions start, and do not reach Secrets Manager.");
    without(scene, "AWS_ENDPOINT_URL_SECRETS_MANAGER").await
}

pub(super) async fn table_down(scene: &Scene) -> Result<(), PlayError> {
    scene.say("The functions do not reach DynamoDB.");
    without(scene, "AWS_ENDPOINT_URL_DYNAMODB").await
}

pub(super) async fn unreadable_record(scene: &Scene) -> Result<(), PlayError> {
    let (functions, user) = (scene.functions().await?, scene.user().await?);
    let id = scene.sources.platform.random.uuid();
    scene.say("Something else writes a challenge record, with a status that is a number.");
    let put: PutItemRequest = serde_json::from_value(json!({
        "TableName": CHALLENGES_TABLE,
        "Item": { "challengeId": { "S": id }, "userId": { "S": user.id }, "status": { "N": "7" } },
    }))?;
    scene.sources.database.put_item(put)?;
    scene.call(&functions, &user, &format!("GET /challenges/{id}")).await.map(drop)
}

pub(super) async fn subscription_disabled(scene: &Scene) -> Result<(), PlayError> {
    scene.say("Somebody disables the webhook's subscription at Circle.");
    scene.set_subscription_enabled(false).await?;
    let checked = scene.functions().await?.manage_subscription(scene, check()).await;
    scene.set_subscription_enabled(true).await?;
    scene.say(format!("The hourly check finds {}.", checked?));
    Ok(())
}

pub(super) async fn subscription_not_checked(scene: &Scene) -> Result<(), PlayError> {
    scene.say("The API key loses its right to Circle's webhooks.");
    scene.circle().set_knobs(|knobs| knobs.api_key_webhooks = Access::None);
    let checked = scene.functions().await?.manage_subscription(scene, check()).await?;
    scene.say(format!("The hourly check finds {checked}."));
    Ok(())
}

pub(super) async fn subscription_left_behind(scene: &Scene) -> Result<(), PlayError> {
    scene.say("A stack is deleted, and Circle does not know the id of its subscription.");
    let event = json!({
        "RequestType": "Delete",
        "ResourceType": "Custom::CircleSubscription",
        "PhysicalResourceId": scene.sources.platform.random.uuid(),
    });
    let response = scene.functions().await?.manage_subscription(scene, event).await?;
    scene.say(format!("CloudFormation is told {}, so that the deletion goes on.", response["Status"]));
    Ok(())
}
