//! Dates as Circle writes them, in RFC 3339.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;

/// A date as in Circle's resources, to the second.
pub(super) fn date(instant: OffsetDateTime) -> String {
    let whole = instant.replace_nanosecond(0).unwrap_or(instant);
    whole.format(&Rfc3339).expect("a year below 10000 can be formatted")
}

/// A date as in Circle's webhooks, always with nine decimals.
pub(super) fn timestamp(instant: OffsetDateTime) -> String {
    instant
        .format(format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:9]Z"))
        .expect("any date can be formatted")
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
}
