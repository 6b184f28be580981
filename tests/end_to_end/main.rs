//! The service end to end: each test starts its own local stack on free ports and drives it over HTTP.

/// The running service, and an app that uses it.
mod support;
