//! Tests of the common crate against the real AWS SDK and the real HTTP client.

/// The record store, on an embedded DynamoDB.
mod certificates;
mod challenge_store;
/// The Circle client, against a server whose replies a test chooses.
mod circle;
/// Signatures that AWS rejects because of their time.
mod clock_skew;
/// Connections that the server closes, and clocks that jump.
mod connections;
/// Lambda's events, ordinary and odd.
mod events;
/// Forged webhooks, against a second implementation of the signature check.
mod forgery;
/// The layers of the crate's modules.
mod layers;
/// Properties that hold for any input.
mod properties;
/// The cache of public keys, and the signature check.
mod public_keys;
/// The limits per user, on an embedded DynamoDB.
mod rate_limit;
/// The calls about subscriptions.
mod subscriptions;
/// The server and the platform of the tests.
mod support;
/// Every text that callers and their users read, in one snapshot.
mod texts;
/// The rules of a record against the conditions of its writes.
mod transitions;
