//! The Lambda binary: wiring only.

use lambda_http::service_fn;
use shared::platform::Platform;

use get_challenge::{GetChallenge, handle};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    let function = GetChallenge::new(&Platform::start(env!("CARGO_CRATE_NAME")).await)?;
    function.warm_up().await;
    lambda_http::run(service_fn(|request| handle(&function, request))).await
}
