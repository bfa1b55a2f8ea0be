//! How a column's value is written: its text in PostgreSQL's form, and its encoding, to bytes.

use super::array::{self, Element};
use super::time::{self, Moment};
use crate::model::import::{BoolForm, BytesForm, ColumnKind, Encodings, NullForm, TimeForm, TimeKind};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;

/// The encoding of one column.
#[derive(Clone, Debug)]
pub struct Encoding {
    pub kind: ColumnKind,
    null: NullForm,
    null_word: String,
    time: TimeForm,
    bytes: BytesForm,
    bool: BoolForm,
}

impl Encoding {
    pub fn new(kind: ColumnKind, chosen: &Encodings) -> Self {
        Encoding {
            kind,
            null: chosen.null.unwrap_or_default(),
            null_word: chosen.null_word.clone().unwrap_or_default(),
            time: chosen.time.unwrap_or_default(),
            bytes: chosen.bytes.unwrap_or_default(),
            bool: chosen.bool.unwrap_or_default(),
        }
    }

    /// Returns true if PostgreSQL reads the encoded text as the same value again.
    pub fn is_readable(&self) -> bool {
        match &self.kind {
            ColumnKind::Integer | ColumnKind::Uuid | ColumnKind::Text | ColumnKind::Enum | ColumnKind::Numeric => true,
            ColumnKind::Bool => self.bool != BoolForm::Digits,
            ColumnKind::Time(_) => matches!(self.time, TimeForm::Iso8601 | TimeForm::Postgres),
            ColumnKind::Float
            | ColumnKind::Bytes
            | ColumnKind::Json
            | ColumnKind::Array(..)
            | ColumnKind::Unsupported => false,
        }
    }

    /// Returns the bytes of a value; `None` if NULL is left out.
    pub fn encode(&self, text: Option<&str>) -> Result<Option<Vec<u8>>, String> {
        let Some(text) = text else {
            return Ok(self.null());
        };
        self.bytes_of(&self.kind, text).map(Some)
    }

    /// Returns each element of an array, without those that are left out.
    pub fn elements(&self, text: Option<&str>) -> Result<Vec<Vec<u8>>, String> {
        let ColumnKind::Array(inner, separator) = &self.kind else {
            return Ok(self.encode(text)?.into_iter().collect());
        };
        let Some(text) = text else {
            return Ok(Vec::new());
        };
        let mut elements = Vec::new();
        for element in read_array(text, *separator)? {
            match element {
                Element::Null => elements.extend(self.null()),
                Element::Text(text) => elements.push(self.bytes_of(inner, &text)?),
                Element::Array(items) => elements.push(self.array_as_json(inner, &items)?.into_bytes()),
            }
        }
        Ok(elements)
    }

    /// Appends a value in JSON; returns false if NULL is left out.
    pub fn json(&self, text: Option<&str>, out: &mut String) -> Result<bool, String> {
        match (text, self.null) {
            (Some(text), _) => out.push_str(&self.json_of(&self.kind, text)?),
            (None, NullForm::Absent) => return Ok(false),
            (None, NullForm::Empty) => out.push_str("null"),
            (None, NullForm::Word) => out.push_str(&quoted(&self.null_word)),
        }
        Ok(true)
    }

    fn null(&self) -> Option<Vec<u8>> {
        match self.null {
            NullForm::Absent => None,
            NullForm::Empty => Some(Vec::new()),
            NullForm::Word => Some(self.null_word.clone().into_bytes()),
        }
    }

    fn bytes_of(&self, kind: &ColumnKind, text: &str) -> Result<Vec<u8>, String> {
        Ok(match kind {
            ColumnKind::Bool => self.bool_text(text).into(),
            ColumnKind::Time(kind) => self.time_text(text, *kind)?.into_bytes(),
            ColumnKind::Bytes => match self.bytes {
                BytesForm::Raw => raw_bytes(text)?,
                BytesForm::Hex => hex_digits(text)?.into(),
                BytesForm::Base64 => BASE64_STANDARD.encode(raw_bytes(text)?).into_bytes(),
            },
            ColumnKind::Array(inner, separator) => {
                let items = read_array(text, *separator)?;
                self.array_as_json(inner, &items)?.into_bytes()
            }
            ColumnKind::Integer
            | ColumnKind::Float
            | ColumnKind::Numeric
            | ColumnKind::Json
            | ColumnKind::Enum
            | ColumnKind::Uuid
            | ColumnKind::Text => text.into(),
            ColumnKind::Unsupported => return Err("its type has no text that is a whole value".into()),
        })
    }

    fn bool_text(&self, text: &str) -> &'static str {
        match (self.bool, text == "t") {
            (BoolForm::Words, true) => "true",
            (BoolForm::Words, false) => "false",
            (BoolForm::Digits, true) => "1",
            (BoolForm::Digits, false) => "0",
            (BoolForm::Letters, true) => "t",
            (BoolForm::Letters, false) => "f",
        }
    }

    fn time_text(&self, text: &str, kind: TimeKind) -> Result<String, String> {
        let number = |unit: i64| match time::parse(text, kind)? {
            Moment::At(at) => Ok(at.as_millisecond().div_euclid(1000 / unit).to_string()),
            Moment::Always | Moment::Never => Err(format!("{text} is no number of seconds")),
        };
        match self.time {
            TimeForm::Iso8601 => time::iso8601(text, kind),
            TimeForm::Postgres => Ok(text.to_owned()),
            TimeForm::Seconds => number(1),
            TimeForm::Milliseconds => number(1000),
        }
    }

    fn json_of(&self, kind: &ColumnKind, text: &str) -> Result<String, String> {
        let is_number = || !matches!(text, "NaN" | "Infinity" | "-Infinity");
        Ok(match kind {
            ColumnKind::Json => text.to_owned(),
            ColumnKind::Bool => (if text == "t" { "true" } else { "false" }).to_owned(),
            ColumnKind::Integer | ColumnKind::Float | ColumnKind::Numeric if is_number() => text.to_owned(),
            ColumnKind::Time(kind) => match self.time {
                TimeForm::Seconds | TimeForm::Milliseconds => self.time_text(text, *kind)?,
                TimeForm::Iso8601 | TimeForm::Postgres => quoted(&self.time_text(text, *kind)?),
            },
            ColumnKind::Bytes => match self.bytes {
                BytesForm::Hex => quoted(hex_digits(text)?),
                BytesForm::Raw | BytesForm::Base64 => quoted(&BASE64_STANDARD.encode(raw_bytes(text)?)),
            },
            ColumnKind::Array(inner, separator) => self.array_as_json(inner, &read_array(text, *separator)?)?,
            ColumnKind::Integer
            | ColumnKind::Float
            | ColumnKind::Numeric
            | ColumnKind::Enum
            | ColumnKind::Uuid
            | ColumnKind::Text => quoted(text),
            ColumnKind::Unsupported => return Err("its type has no text that is a whole value".into()),
        })
    }

    fn array_as_json(&self, inner: &ColumnKind, items: &[Element]) -> Result<String, String> {
        let mut out = String::from("[");
        for (at, item) in items.iter().enumerate() {
            if at > 0 {
                out.push(',');
            }
            match item {
                Element::Null => out.push_str("null"),
                Element::Text(text) => out.push_str(&self.json_of(inner, text)?),
                Element::Array(items) => out.push_str(&self.array_as_json(inner, items)?),
            }
        }
        out.push(']');
        Ok(out)
    }
}

fn read_array(text: &str, separator: char) -> Result<Vec<Element>, String> {
    array::parse(text, separator).ok_or_else(|| format!("{text:?} is no array"))
}

fn hex_digits(text: &str) -> Result<&str, String> {
    text.strip_prefix("\\x")
        .ok_or_else(|| "its bytes are not in hexadecimal".into())
}

fn raw_bytes(text: &str) -> Result<Vec<u8>, String> {
    hex::decode(hex_digits(text)?).map_err(|error| error.to_string())
}

/// Returns a text as a string of JSON.
pub fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(kind: ColumnKind, chosen: &str, text: Option<&str>) -> Option<String> {
        let chosen: Encodings = serde_yaml::from_str(chosen).unwrap();
        let bytes = Encoding::new(kind, &chosen).encode(text).unwrap();
        bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    #[test]
    fn null_is_absent_empty_or_a_word() {
        assert_eq!(encoded(ColumnKind::Text, "{}", None), None);
        assert_eq!(encoded(ColumnKind::Text, "{null: empty}", None).as_deref(), Some(""));
        let word = encoded(ColumnKind::Text, "{null: word, null_word: nil}", None);
        assert_eq!(word.as_deref(), Some("nil"));
    }

    #[test]
    fn each_kind_has_its_encodings() {
        let array = || ColumnKind::Array(Box::new(ColumnKind::Integer), ',');
        let time = || ColumnKind::Time(TimeKind::TimestampTz);
        for (kind, chosen, text, expected) in [
            (ColumnKind::Bool, "{}", "t", "true"),
            (ColumnKind::Bool, "{bool: digits}", "f", "0"),
            (ColumnKind::Bool, "{bool: letters}", "t", "t"),
            (ColumnKind::Bytes, "{}", "\\x6869", "hi"),
            (ColumnKind::Bytes, "{bytes: hex}", "\\x6869", "6869"),
            (ColumnKind::Bytes, "{bytes: base64}", "\\x6869", "aGk="),
            (time(), "{}", "1969-12-31 23:59:59.5+00", "1969-12-31T23:59:59.5Z"),
            (time(), "{time: seconds}", "1969-12-31 23:59:59.5+00", "-1"),
            (time(), "{time: milliseconds}", "1969-12-31 23:59:59.5+00", "-500"),
            (
                time(),
                "{time: postgres}",
                "1969-12-31 23:59:59.5+00",
                "1969-12-31 23:59:59.5+00",
            ),
            (array(), "{}", "{1,NULL}", "[1,null]"),
            (ColumnKind::Numeric, "{}", "1.50", "1.50"),
        ] {
            let found = encoded(kind.clone(), chosen, Some(text));
            assert_eq!(found.as_deref(), Some(expected), "{kind:?} {chosen}");
        }
    }

    #[test]
    fn numbers_that_json_does_not_know_are_strings() {
        let encoding = Encoding::new(ColumnKind::Float, &Encodings::default());
        for (text, expected) in [("1.5", "1.5"), ("NaN", "\"NaN\""), ("-Infinity", "\"-Infinity\"")] {
            let mut out = String::new();
            assert!(encoding.json(Some(text), &mut out).unwrap());
            assert_eq!(out, expected);
        }
    }
}
