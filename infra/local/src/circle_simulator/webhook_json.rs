//! The JSON text of webhooks. Its members are in Circle's order, so it differs from what most serializers would make
//! of it again.

use std::io;

use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

/// The text of a webhook. If `unusual`, it has spaces, and escapes that it does not need.
///
/// Both forms have the same value as JSON, but only the bytes that were sent match the signature.
pub(super) fn text(body: &impl Serialize, unusual: bool) -> Vec<u8> {
    let mut text = Vec::new();
    let written = match unusual {
        false => body.serialize(&mut Serializer::new(&mut text)),
        true => body.serialize(&mut Serializer::with_formatter(&mut text, Unusual)),
    };
    written.expect("a webhook can be written as JSON");
    text
}

/// Writes spaces after colons and commas, and `\u` escapes for dots and for all characters beyond ASCII.
struct Unusual;

impl Formatter for Unusual {
    fn begin_array_value<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        writer.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_key<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        writer.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }

    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        for character in fragment.chars() {
            if character != '.' && character.is_ascii() {
                writer.write_all(&[character as u8])?;
                continue;
            }
            for unit in character.encode_utf16(&mut [0; 2]) {
                write!(writer, "\\u{unit:04x}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn unusual_text_has_spaces_and_escapes_but_the_same_value() {
        let body = json!({"a.b": ["é", 1.5, "😀"], "c": {}});
        let unusual = text(&body, true);
        assert_eq!(
            String::from_utf8(unusual.clone()).unwrap(),
            r#"{"a\u002eb": ["\u00e9", 1.5, "\ud83d\ude00"], "c": {}}"#
        );
        assert_eq!(serde_json::from_slice::<Value>(&unusual).unwrap(), body);
        assert_eq!(text(&body, false), body.to_string().into_bytes());
    }
}
