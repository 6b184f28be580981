//! The whole service on one machine.
//!
//! It serves everything that the functions use in the cloud on loopback: Circle's API, the HTTP API with its
//! JWT check, DynamoDB with its stream, Secrets Manager, an event bus, and an issuer of tokens for signed-in users.

pub mod activity;
mod aws_json;
pub mod circle_simulator;
pub mod demo;
pub mod dynamodb;
pub mod embedded_metrics;
pub mod environment;
pub mod event_bus;
pub mod facts;
mod handlers;
pub mod http_api;
pub mod incidents;
mod interval;
pub mod invocation;
pub mod issuer;
mod lambda_endpoint;
pub mod live;
pub mod log;
pub mod row;
mod rs256;
pub mod running;
mod scheduler;
pub mod secrets;
pub mod secrets_manager;
mod server;
mod sources;
pub mod stack;
pub mod story;
pub mod stream;
mod token_bucket;
mod web;

/// This crate and the crates of the functions, by their names in log lines. Only these may log below WARN.
pub const CRATES: [&str; 9] = [
    "announce_challenges",
    "create_challenge",
    "create_token",
    "get_challenge",
    "get_pin",
    "local",
    "manage_subscription",
    "receive_webhook",
    "reconcile_challenges",
];
