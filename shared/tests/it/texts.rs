use std::fmt::Write;

use shared::failure::FailureReason;
use shared::problem::{Cause, Code, user_message};
use strum::IntoEnumIterator;
use time::macros::datetime;

use crate::support::NOON;

/// To change a text, edit it where it stands in `src`, then accept the new snapshot with `INSTA_UPDATE=always cargo test -p
/// shared texts`.
#[test]
fn every_text_that_callers_and_users_read() {
    let mut texts = String::new();
    for code in Code::iter() {
        writeln!(texts, "{} {} {}", code.as_str(), code.status().as_u16(), code.title()).unwrap();
        for cause in Cause::iter().filter(|cause| cause.code() == code) {
            writeln!(texts, "  detail: {}", cause.detail()).unwrap();
        }
        let message = user_message(code, None, NOON);
        let dated = user_message(code, Some(datetime!(2026-01-01 12:29:59 UTC)), NOON);
        if dated != message {
            writeln!(texts, "  user at a known time: {}", dated.as_deref().unwrap()).unwrap();
        }
        writeln!(texts, "  user: {}", message.as_deref().unwrap_or("none")).unwrap();
    }
    for reason in FailureReason::iter() {
        writeln!(texts, "failure {}\n  user: {}", reason.as_str(), reason.message()).unwrap();
    }
    insta::assert_snapshot!("texts", texts);
}

#[test]
fn every_code_has_a_cause() {
    for code in Code::iter() {
        assert!(Cause::iter().any(|cause| cause.code() == code), "{code:?}");
    }
}
