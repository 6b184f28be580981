//! The live view: what happens in the stack, on the terminal.

use std::io::{IsTerminal, Write};

use shared::clock::{AdjustableClock, Clock};
use time::OffsetDateTime;
use time::macros::format_description;

use crate::activity::Activity;
use crate::row::Row;
use crate::story::Story;

/// Whether standard output is a terminal, which the live view needs.
pub fn is_terminal() -> bool {
    std::io::stdout().is_terminal()
}

/// Whether standard output is a terminal that shows colours, and the user has not turned them off (`NO_COLOR`).
pub fn has_colours() -> bool {
    is_terminal() && anstyle_query::term_supports_ansi_color() && !anstyle_query::no_color()
}

/// Prints what happens, until standard output is closed.
pub async fn show(mut activity: Activity, clock: AdjustableClock) {
    let has_colours = has_colours();
    loop {
        let rows: Vec<Row> = activity.next().await.iter().filter_map(Row::of_news).collect();
        let time = clock.now().format(format_description!("[hour]:[minute]:[second]"));
        let time = time.expect("any time can be formatted");
        for row in rows {
            if writeln!(std::io::stdout(), "{}", row.line(&time, has_colours)).is_err() {
                return;
            }
        }
    }
}

/// The story of a challenge: the record, and then what happened.
pub fn story(story: &Story, has_colours: bool) -> String {
    let mut text = String::new();
    match story.record.as_object() {
        // The maps are part of what happened.
        Some(record) => {
            for (name, value) in record.iter().filter(|(_, value)| !value.is_object()) {
                let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                text += &format!("{name:<18}  {value}\n");
            }
        }
        None => text += "The challenge has no record.\n",
    }
    text.push('\n');
    for entry in &story.entries {
        text += &entry.row.line(&precise(entry.at), has_colours);
        text.push('\n');
    }
    text
}

fn precise(at: OffsetDateTime) -> String {
    let time =
        at.format(format_description!("[year]-[month]-[day] [hour]:[minute]:[second].[subsecond digits:3]"));
    time.expect("any time can be formatted")
}
