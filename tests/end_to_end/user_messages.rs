/// What the user is told of an error where no time is known, by the error's code; `None` where no user is there
/// to be told.
pub(crate) fn user_message(code: &str) -> Option<&'static str> {
    let message = match code {
        "invalid_body"
        | "body_too_large"
        | "unsupported_media_type"
        | "invalid_challenge_type"
        | "invalid_challenge_id"
        | "invalid_idempotency_key" => {
            "The app has made a mistake. Update it and start again, and contact support if it happens again."
        }
        "invalid_user_token" => "Your session has ended. Start again.",
        "user_token_mismatch" => {
            "Your session belongs to another account. Sign out, sign in again and start again."
        }
        "unauthenticated" => "You are not signed in. Sign in and start again.",
        "invalid_user_id" => "Your account cannot be used with a wallet. Contact support.",
        "user_disabled" => "Your wallet is disabled. Contact support.",
        "user_not_found" => {
            "You have no wallet yet. Set up your wallet first, or contact support if you have one."
        }
        "challenge_not_found" => "What you have started cannot be found. Start again.",
        "pin_not_set" => "You have no PIN yet. Set one first.",
        "security_questions_not_set" => {
            "You have set no security questions, so your PIN cannot be recovered. If you know your PIN, you can change it."
        }
        "pin_locked" => {
            "PIN entry is locked after too many wrong PINs. It opens within 30 minutes. Wait until then, or recover your PIN now if you have set security questions."
        }
        "security_answers_locked" => {
            "Recovery is locked after too many wrong answers to your security questions. Try again later."
        }
        "circle_rate_limited" => "The wallet service is very busy. Try again in a moment.",
        "circle_unavailable" | "storage_unavailable" | "api_key_unavailable" | "timeout" => {
            "The wallet service cannot be reached. Try again in a moment."
        }
        "circle_error" => {
            "Something unexpected went wrong at the wallet service. Try again later, and contact support if it happens again."
        }
        "misconfigured" | "internal" => {
            "The wallet service is out of order. Try again later, and contact support if it stays so."
        }
        "method_not_allowed"
        | "source_not_allowed"
        | "invalid_signature"
        | "unreadable_notification"
        | "public_key_unavailable" => return None,
        _ => panic!("{code} has no message of its own, or one that names a time"),
    };
    Some(message)
}
