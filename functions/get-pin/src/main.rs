//! The Lambda binary: wiring only.

use get_pin::handle;
use shared::api::Api;
use shared::lambda;
use shared::platform::Platform;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    let api = Api::new(&Platform::start(env!("CARGO_CRATE_NAME"))?)?;
    api.warm_up().await;
    lambda::run(|request| handle(&api, request)).await
}
