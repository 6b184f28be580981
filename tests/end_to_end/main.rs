//! The service end to end: each test starts its own local stack on free ports and drives it over HTTP.

mod failures; // why a challenge failed, as callers are told
mod flow; // sessions, a changed and a restored PIN, tokens that expire
mod idempotency; // repeated requests
mod pin_states; // users for whom no challenge is made
mod polling; // what webhooks did not say

/// The running service, and an app that uses it.
mod support;
