//! What the functions of circle-pin-reset share: challenges and their records, Circle's API and webhooks,
//! callers and their errors.

pub mod api_key;
pub mod challenge;
pub mod challenge_store;
pub mod circle;
pub mod clock;
pub mod config;
pub mod identity;
pub mod platform;
pub mod problem;
pub mod random;
pub mod rate_limit;
pub mod request;
pub mod response;
pub mod secrets;
pub mod telemetry;
pub mod webhook;
