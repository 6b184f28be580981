//! The Lambda binary: wiring only.

use shared::lambda;
use shared::platform::Platform;

use get_challenge::{GetChallenge, handle};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    let function = GetChallenge::new(&Platform::start(env!("CARGO_CRATE_NAME"))?)?;
    function.warm_up().await;
    lambda::run(|request| handle(&function, request)).await
}
