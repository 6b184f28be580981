//! The service end to end: each test starts its own local stack on free ports and drives it over HTTP.

mod early_webhooks; // webhooks before the record that they are about
mod failures; // why a challenge failed, as callers are told
mod flow; // sessions, a changed and a restored PIN, tokens that expire
mod idempotency; // repeated requests
mod pin_states; // users for whom no challenge is made
mod polling; // what webhooks did not say
mod webhooks; // what each message does to its record

/// The running service, and an app that uses it.
mod support;
