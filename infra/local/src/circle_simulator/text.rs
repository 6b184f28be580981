//! Small readings and writings that several parts need: dates, path segments, query strings.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;

/// An RFC 3339 date as Circle's resources carry it, to the second.
pub(super) fn date(instant: OffsetDateTime) -> String {
    let whole = instant.replace_nanosecond(0).unwrap_or(instant);
    whole.format(&Rfc3339).expect("a date of our era can be written")
}

/// An RFC 3339 date as webhooks carry it, always with nine decimals.
pub(super) fn timestamp(instant: OffsetDateTime) -> String {
    instant
        .format(format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:9]Z"))
        .expect("a date of our era can be written")
}

/// Undoes percent-encoding; `None` where it is broken or hides no UTF-8.
pub(super) fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let high = char::from(bytes.next()?).to_digit(16)?;
            let low = char::from(bytes.next()?).to_digit(16)?;
            decoded.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            decoded.push(byte);
        }
    }
    String::from_utf8(decoded).ok()
}

/// The value of a query parameter.
pub(super) fn query_value(query: Option<&str>, name: &str) -> Option<String> {
    query?
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .find(|(key, _)| *key == name)
        .and_then(|(_, value)| percent_decoded(&value.replace('+', " ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    #[test]
    fn dates_are_to_the_second_and_timestamps_have_nine_decimals() {
        let instant = datetime!(2026-01-02 03:04:05.678 UTC);
        assert_eq!(date(instant), "2026-01-02T03:04:05Z");
        assert_eq!(timestamp(instant), "2026-01-02T03:04:05.678000000Z");
    }

    #[test]
    fn percent_encoding_is_undone_or_refused() {
        assert_eq!(percent_decoded("a%20b%C3%A9").as_deref(), Some("a bé"));
        assert_eq!(percent_decoded("%"), None);
        assert_eq!(percent_decoded("%zz"), None);
        assert_eq!(percent_decoded("%ff"), None);
        assert_eq!(query_value(Some("a=1&status=IN_PROGRESS"), "status").as_deref(), Some("IN_PROGRESS"));
        assert_eq!(query_value(None, "status"), None);
    }
}
