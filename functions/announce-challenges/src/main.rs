//! The Lambda binary: wiring only.

use lambda_runtime::service_fn;
use shared::platform::Platform;

use announce_challenges::{AnnounceChallenges, handle};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    let function = AnnounceChallenges::new(&Platform::start(env!("CARGO_CRATE_NAME"))?)?;
    lambda_runtime::run(service_fn(|event| handle(&function, event))).await
}
