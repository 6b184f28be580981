//! The Lambda binary: wiring only.

use lambda_http::service_fn;
use shared::platform::Platform;

use get_pin::{GetPin, handle};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    let function = GetPin::new(&Platform::start().await)?;
    function.warm_up().await;
    lambda_http::run(service_fn(|request| handle(&function, request))).await
}
