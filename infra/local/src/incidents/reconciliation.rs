//! Incidents that reconciliation finds. Webhooks are lost in all of them.

use std::time::Duration;

use uuid::Uuid;

use super::PlayError;
use super::scene::{FIRST_CHECK, Functions, Scene};
use super::webhooks::enter_pin;
use crate::circle_simulator::Fault;

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// The default of ABANDON_AFTER_DAYS.
const ABANDON_AFTER: Duration = Duration::from_secs(7 * 24 * 3600);

/// Functions whose reconciliation runs at a pace that nobody has to wait for, and so many new challenges.
async fn challenges<const N: usize>(scene: &Scene) -> Result<(Functions, [Uuid; N]), PlayError> {
    scene.say("Circle's webhooks are lost.");
    scene.circle().set_knobs(|knobs| knobs.lose_webhooks = u32::MAX);
    let functions = scene.functions_with(&[("CIRCLE_CALLS_PER_SECOND", "50")]).await?;
    let mut ids = [Uuid::nil(); N];
    for id in &mut ids {
        *id = scene.challenge(&functions, &scene.user().await?).await?;
    }
    Ok((functions, ids))
}

/// A fault of the calls that ask for this challenge.
fn of_challenge(id: Uuid, status: u16, code: i32) -> Fault {
    let path = Some(format!("/v1/w3s/user/challenges/{id}"));
    Fault { path, status: Some(status), code: Some(code), ..Fault::default() }
}

pub(super) async fn lost_webhooks(scene: &Scene) -> Result<(), PlayError> {
    let (functions, [id]) = challenges(scene).await?;
    scene.say("The user changes the PIN.");
    enter_pin(scene, id)?;
    scene.reconcile_after(FIRST_CHECK, &functions).await
}

pub(super) async fn checks_fail(scene: &Scene) -> Result<(), PlayError> {
    let (functions, [id]) = challenges(scene).await?;
    scene.say("Circle responds with 500 when it is asked for the challenge.");
    scene.break_circle(of_challenge(id, 500, -1));
    scene.reconcile_after(FIRST_CHECK, &functions).await
}

pub(super) async fn abandoned_after_failed_checks(scene: &Scene) -> Result<(), PlayError> {
    let (functions, [id]) = challenges(scene).await?;
    scene.say("Circle says that the user is disabled when it is asked for the challenge.");
    scene.break_circle(of_challenge(id, 403, 155_109));
    for time in [ABANDON_AFTER + HOUR, DAY] {
        scene.reconcile_after(time, &functions).await?;
    }
    Ok(())
}

pub(super) async fn abandoned_as_not_found(scene: &Scene) -> Result<(), PlayError> {
    // Circle finds the others, so that most checks find their challenge.
    let (functions, [lost, _, _]) = challenges(scene).await?;
    scene.say("Circle does not know one of the challenges.");
    scene.break_circle(of_challenge(lost, 404, 155_116));
    // Circle has to say so three times, over a day.
    for time in [FIRST_CHECK, 7 * HOUR, 7 * HOUR, 7 * HOUR, 7 * HOUR] {
        scene.reconcile_after(time, &functions).await?;
    }
    Ok(())
}

pub(super) async fn abandoned_by_the_user(scene: &Scene) -> Result<(), PlayError> {
    let (functions, [_]) = challenges(scene).await?;
    scene.say("The user walks away.");
    scene.reconcile_after(ABANDON_AFTER + HOUR, &functions).await
}

pub(super) async fn most_not_found(scene: &Scene) -> Result<(), PlayError> {
    let (functions, [_, _, _, _, _]) = challenges(scene).await?;
    scene.say("Circle says that it does not know the users.");
    let path = Some("/v1/w3s/users/token".to_owned());
    scene.break_circle(Fault { path, status: Some(404), code: Some(155_102), ..Fault::default() });
    scene.reconcile_after(FIRST_CHECK, &functions).await
}
