//! What the functions of circle-pin-reset share: challenges and their records, Circle's API and webhooks, callers and
//! their errors.
//!
//! The modules form layers, from the lowest to the highest. A module uses only lower layers; a test checks it.
//!
//! 1. `user_id`, `circle_code`, `clock`, `metric`, `random`, `secrets`: plain values, time and randomness
//! 2. `telemetry`, `user_hash`: log lines and traces, and hashes that stand for users
//! 3. `config`, `failure`, `retry`: settings, failure reasons, when to retry
//! 4. `challenge`, `http_client`: the rules of challenges; the HTTP client
//! 5. `api_key`, `challenge_view`, `dynamodb`, `platform`: the API key in Secrets Manager, challenges as callers see them,
//!    conditional writes; what every function runs on
//! 6. `circle`, `challenge_store`: Circle's API, the records
//! 7. `rate_limit`, `webhook`: limits per user, the signature check
//! 8. `problem`: every error that a caller can receive
//! 9. `request`, `response`: HTTP events and responses
//! 10. `boundary`, `identity`: from a request to a response; who is calling
//! 11. `api`, `lambda`: what every function that callers reach shares; from events to requests

pub mod api;
pub mod api_key;
pub mod boundary;
pub mod challenge;
pub mod challenge_store;
pub mod challenge_view;
pub mod circle;
pub mod circle_code;
pub mod clock;
pub mod config;
pub mod dynamodb;
pub mod failure;
pub mod http_client;
pub mod identity;
pub mod lambda;
pub mod metric;
pub mod platform;
pub mod problem;
pub mod random;
pub mod rate_limit;
pub mod request;
pub mod response;
pub mod retry;
pub mod secrets;
pub mod telemetry;
pub mod user_hash;
pub mod user_id;
pub mod webhook;
