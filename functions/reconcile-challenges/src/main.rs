//! The Lambda binary: wiring only.

use lambda_runtime::service_fn;
use shared::platform::Platform;

use reconcile_challenges::{ReconcileChallenges, handle};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    let function = ReconcileChallenges::new(&Platform::start(env!("CARGO_CRATE_NAME"))?)?;
    function.warm_up().await;
    lambda_runtime::run(service_fn(|event| handle(&function, event))).await
}
