//! The service end to end: each test starts its own local stack on free ports and drives it over HTTP.

mod calls; // how often the table is called
mod early_webhooks; // webhooks before the record that they are about
mod failures; // why a challenge failed, as callers are told
mod flow; // sessions, a changed and a restored PIN, tokens that expire
mod idempotency; // repeated requests
mod intake; // webhooks before they are read: address, size, method
mod outages; // Circle or the table is down
mod pin_states; // users for whom no challenge is made
mod polling; // what webhooks did not say
mod rotation; // a new API key while requests are under way
mod signatures; // which webhooks are Circle's
mod webhooks; // what each message does to its record

/// A DynamoDB whose calls can be counted and kept from it.
mod dynamodb_proxy;

/// The running service, and an app that uses it.
mod support;
