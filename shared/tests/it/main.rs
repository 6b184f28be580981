//! Tests of the common crate against the real AWS SDK and the real HTTP client.

/// The record store, on an embedded DynamoDB.
mod challenge_store;
/// The Circle client, against a server that answers what a test tells it to.
mod circle;
/// The public-key caches and the signature check.
mod public_keys;
/// The calls about subscriptions.
mod subscriptions;
/// The server, the table, and the platform that tests stand on.
mod support;
