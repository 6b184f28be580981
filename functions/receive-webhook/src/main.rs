//! The Lambda binary: wiring only.

use shared::lambda;
use shared::platform::Platform;

use receive_webhook::{ReceiveWebhook, handle};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    let function = ReceiveWebhook::new(&Platform::start(env!("CARGO_CRATE_NAME"))?)?;
    function.warm_up().await;
    lambda::run(|request| handle(&function, request)).await
}
