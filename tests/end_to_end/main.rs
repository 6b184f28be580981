//! The service end to end: each test starts its own local stack on free ports and drives it over HTTP.

mod bad_callers; // who may not call, and past which door
mod bad_input; // what a caller can get wrong in a request
mod broken_setup; // AWS fails, keys are rotated, the secret is wrong
mod calls; // how often the table is called
mod circle_failures; // Circle refuses, fails, is slow or talks nonsense
mod early_webhooks; // webhooks before the record that they are about
mod failures; // why a challenge failed, as callers are told
mod flow; // sessions, a changed and a restored PIN, tokens that expire
mod idempotency; // repeated requests
mod limit; // how many challenges one user may ask for
mod local_stack; // the stack that all of this runs on
mod lost_answers; // the table does as told, and its answer is lost
mod outages; // what was missed while something was down, and comes after all
mod pin; // what an app sees of the PIN before it offers anything
mod pin_states; // users for whom no challenge is made
mod polling; // what webhooks did not say
mod problem_codes; // the list of errors in the README
mod reconcile; // what the scheduled function finds out
mod reconcile_failures; // runs that meet an outage, a limit, or a challenge that nobody can read
mod reconcile_scale; // the same with many challenges, and after an outage
mod rotation; // a new API key while requests are under way
mod secrets; // what was secret in a run is nowhere to be read
mod signatures; // which webhooks are taken as Circle's
mod signing_keys; // forgers, and how often Circle is asked for a key
mod subscription_failures; // a deployment that fails, and one that is taken down whatever fails
mod subscriptions; // the webhook's subscription, made and removed with the stack
mod webhooks; // what each message does to its record

/// The function of the deployment, and CloudFormation.
mod deployment;
/// A DynamoDB whose calls can be counted and kept from it.
mod dynamodb_proxy;
/// What is logged, and time that passes by hand.
mod observed;
/// The running service, and an app that uses it.
mod support;
/// What the user of the app is told of each error.
mod user_messages;
