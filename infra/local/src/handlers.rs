//! The functions that HTTP requests reach, in this process.

use std::collections::HashMap;
use std::sync::Arc;

use create_challenge::CreateChallenge;
use get_challenge::GetChallenge;
use receive_webhook::ReceiveWebhook;
use shared::api::Api;
use shared::config::SettingError;
use shared::platform::Platform;

use crate::http_api::Handler;

/// Starts a copy of each function. The handlers are listed by function name.
pub(crate) fn handlers(platform: &Platform) -> Result<HashMap<&'static str, Handler>, SettingError> {
    /// A handler that calls a function.
    macro_rules! mount {
        ($function:expr, $handle:path) => {{
            let function = Arc::new($function);
            let handler: Handler = Arc::new(move |request| {
                let function = Arc::clone(&function);
                Box::pin(async move {
                    let Ok(response) = $handle(&function, request).await;
                    response
                })
            });
            handler
        }};
    }
    Ok(HashMap::from([
        ("create-token", mount!(Api::new(platform)?, create_token::handle)),
        ("create-challenge", mount!(CreateChallenge::new(platform)?, create_challenge::handle)),
        ("get-challenge", mount!(GetChallenge::new(platform)?, get_challenge::handle)),
        ("get-pin", mount!(Api::new(platform)?, get_pin::handle)),
        ("receive-webhook", mount!(ReceiveWebhook::new(platform)?, receive_webhook::handle)),
    ]))
}
