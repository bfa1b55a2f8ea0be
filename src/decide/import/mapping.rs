//! One row as an entry: its key, its value and its expiry.

use super::shape::{PartShape, Shape};
use super::template::{Piece, Template, render};
use super::time::{self, Moment};
use super::value::quoted;
use crate::model::import::{ColumnKind, Entry, Part, Row};
use std::fmt;

/// Says why a row has no place in Redis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The row's key columns with their values.
    pub row: String,
    pub why: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the row {}: {}", self.row, self.why)
    }
}

impl std::error::Error for Refusal {}

impl Shape {
    /// Returns what the row becomes; `None` if its value is NULL and NULL is left out.
    pub fn entry(&self, row: &Row) -> Result<Option<Entry>, Refusal> {
        let refused = |why: String| Refusal {
            row: self.row_name(row),
            why,
        };
        let key = self.key(row).map_err(refused)?;
        let part = self.part(row).map_err(refused)?;
        let Some(part) = part.filter(|part| !part.is_empty()) else {
            return Ok(None);
        };
        Ok(Some(Entry {
            database: self.database,
            key,
            part,
            expires_at: self.expiry(row).map_err(refused)?,
        }))
    }

    /// Returns a row of the columns that are read, from values by name.
    pub fn row(&self, value: impl Fn(&str) -> Option<String>) -> Row {
        let values = self.columns.iter().map(|column| value(&column.name));
        Row {
            values: values.collect(),
        }
    }

    /// Names a row by its key columns, for people.
    pub fn row_name(&self, row: &Row) -> String {
        let named = self.key_columns.iter().map(|at| {
            let value = row.values.get(*at).and_then(Option::as_deref);
            format!("{}={}", self.columns[*at].name, value.unwrap_or("NULL"))
        });
        format!("{} of {}", named.collect::<Vec<_>>().join(" "), self.label)
    }

    /// Renders the key of a row.
    pub fn key(&self, row: &Row) -> Result<Vec<u8>, String> {
        let value = |name: &str| {
            let at = self
                .template_columns
                .iter()
                .find(|(column, _)| column == name)
                .map(|(_, at)| *at);
            let at = at.ok_or_else(|| format!("its key names no column {name}"))?;
            let text = text(row, at).ok_or_else(|| format!("its key needs {name}, which is NULL"))?;
            let bytes = self.encodings[at].encode(Some(text))?;
            Ok::<_, String>((at, bytes.unwrap_or_default()))
        };
        match &self.template {
            Template::Plain(pieces) => {
                let mut key = Vec::with_capacity(48);
                for piece in pieces {
                    match piece {
                        Piece::Literal(text) => key.extend_from_slice(text.as_bytes()),
                        Piece::Column(name) => key.extend_from_slice(&value(name)?.1),
                    }
                }
                Ok(key)
            }
            Template::Engine(tera, names) => {
                let mut values = Vec::new();
                for name in names {
                    let (at, bytes) = value(name)?;
                    let text = String::from_utf8(bytes).map_err(|_| format!("{name} is no text"))?;
                    values.push((name.as_str(), text, self.columns[at].kind == ColumnKind::Integer));
                }
                let values: Vec<_> = values
                    .iter()
                    .map(|(name, text, number)| (*name, text.as_str(), *number))
                    .collect();
                render(tera, &values).map(String::into_bytes)
            }
        }
    }

    /// Returns the texts of the template's columns that a key was made of; `None` if it is not such
    /// a key.
    pub fn columns_of(&self, key: &[u8]) -> Option<Vec<(usize, String)>> {
        let Template::Plain(pieces) = &self.template else {
            return None;
        };
        let mut rest = std::str::from_utf8(key).ok()?;
        let mut pieces = pieces.as_slice();
        let (mut found, mut found_from_end) = (Vec::new(), Vec::new());
        let at = |name: &str| {
            self.template_columns
                .iter()
                .find(|(column, _)| column == name)
                .map(|(_, at)| *at)
        };
        // Columns that hold any character are found last, when the text on both sides is known.
        while let [first, after @ ..] = pieces {
            match first {
                Piece::Literal(text) => rest = rest.strip_prefix(text.as_str())?,
                Piece::Column(name) => {
                    let column = at(name)?;
                    match after.first() {
                        None => {
                            found.push((column, rest.to_owned()));
                            rest = "";
                        }
                        Some(Piece::Literal(next)) if self.columns[column].kind.is_plain() => {
                            let (value, _) = rest.split_once(next.as_str())?;
                            found.push((column, value.to_owned()));
                            rest = &rest[value.len()..];
                        }
                        Some(_) => break,
                    }
                }
            }
            pieces = after;
        }
        while let [before @ .., last] = pieces {
            match last {
                Piece::Literal(text) => rest = rest.strip_suffix(text.as_str())?,
                Piece::Column(name) => {
                    let column = at(name)?;
                    match before.last() {
                        Some(Piece::Literal(previous)) => {
                            let (_, value) = rest.rsplit_once(previous.as_str())?;
                            found_from_end.push((column, value.to_owned()));
                            rest = &rest[..rest.len() - value.len()];
                        }
                        _ => {
                            found_from_end.push((column, rest.to_owned()));
                            rest = "";
                        }
                    }
                }
            }
            pieces = before;
        }
        found.extend(found_from_end);
        rest.is_empty().then_some(found)
    }

    fn part(&self, row: &Row) -> Result<Option<Part>, String> {
        let encode = |at: usize| {
            self.encodings[at]
                .encode(text(row, at))
                .map_err(|why| format!("the column {}: {why}", self.columns[at].name))
        };
        let elements = |at: usize| {
            self.encodings[at]
                .elements(text(row, at))
                .map_err(|why| format!("the column {}: {why}", self.columns[at].name))
        };
        Ok(Some(match &self.part {
            PartShape::String(at) => match encode(*at)? {
                Some(value) => Part::String(value),
                None => return Ok(None),
            },
            PartShape::Hash(fields) => {
                let mut all = Vec::with_capacity(fields.len());
                for (name, at) in fields {
                    if let Some(value) = encode(*at)? {
                        all.push((name.clone().into_bytes(), value));
                    }
                }
                Part::Hash(all)
            }
            PartShape::Json(fields) => Part::String(self.json(row, fields)?.into_bytes()),
            PartShape::List(at) => Part::List(elements(*at)?),
            PartShape::Set(at) => {
                let mut members = elements(*at)?;
                members.sort();
                members.dedup();
                Part::Set(members)
            }
            PartShape::SortedSet { member, score } => {
                let Some(member) = encode(*member)? else {
                    return Ok(None);
                };
                let Some(score) = self.score(row, *score)? else {
                    return Ok(None);
                };
                Part::SortedSet(vec![(member, score)])
            }
        }))
    }

    fn json(&self, row: &Row, fields: &[(String, usize)]) -> Result<String, String> {
        let mut out = String::from("{");
        for (name, at) in fields {
            let before = out.len();
            if before > 1 {
                out.push(',');
            }
            out.push_str(&quoted(name));
            out.push(':');
            let written = self.encodings[*at]
                .json(text(row, *at), &mut out)
                .map_err(|why| format!("the column {name}: {why}"))?;
            if !written {
                out.truncate(before);
            }
        }
        out.push('}');
        Ok(out)
    }

    fn score(&self, row: &Row, at: usize) -> Result<Option<f64>, String> {
        let Some(value) = text(row, at) else {
            return Ok(None);
        };
        let name = &self.columns[at].name;
        if let ColumnKind::Time(kind) = self.columns[at].kind {
            return match time::parse(value, kind)? {
                Moment::At(moment) => Ok(Some(moment.as_microsecond() as f64 / 1e6)),
                Moment::Never => Ok(Some(f64::INFINITY)),
                Moment::Always => Ok(Some(f64::NEG_INFINITY)),
            };
        }
        match value.parse::<f64>() {
            Ok(score) if !score.is_nan() => Ok(Some(score)),
            _ => Err(format!("the column {name}: {value} is no score")),
        }
    }

    /// Returns the member that a row has in a set, from its column alone; `None` if it is no set or the column is NULL.
    pub fn member(&self, row: &Row) -> Option<Part> {
        match &self.part {
            PartShape::Set(_) => self.part(row).ok().flatten(),
            PartShape::SortedSet { member, .. } => {
                let member = self.encodings[*member].encode(text(row, *member)).ok().flatten()?;
                Some(Part::SortedSet(vec![(member, 0.0)]))
            }
            PartShape::String(_) | PartShape::Hash(_) | PartShape::Json(_) | PartShape::List(_) => None,
        }
    }

    fn expiry(&self, row: &Row) -> Result<Option<i64>, String> {
        let Some((at, value)) = self.expires_at.and_then(|at| text(row, at).map(|value| (at, value))) else {
            return Ok(None);
        };
        let name = &self.columns[at].name;
        match self.columns[at].kind {
            ColumnKind::Time(kind) => match time::parse(value, kind)? {
                Moment::At(moment) => Ok(Some(moment.as_millisecond())),
                Moment::Never => Ok(None),
                Moment::Always => Ok(Some(0)),
            },
            _ => {
                let seconds = value.parse::<i64>().ok().and_then(|seconds| seconds.checked_mul(1000));
                seconds
                    .map(Some)
                    .ok_or_else(|| format!("the column {name}: {value} is no time"))
            }
        }
    }
}

fn text(row: &Row, at: usize) -> Option<&str> {
    row.values.get(at).and_then(Option::as_deref)
}

#[cfg(test)]
mod tests {
    use super::super::shape::tests::{relation, shape};
    use super::*;
    use proptest::prelude::*;

    fn row(values: &[Option<&str>]) -> Row {
        Row {
            values: values.iter().map(|value| value.map(str::to_owned)).collect(),
        }
    }

    #[test]
    fn a_row_becomes_a_string_with_its_expiry() {
        let shape = shape("table: t, key: 'm:{{ id }}', type: string, value: name, expires_at: at");
        let entry = shape.entry(&row(&[Some("7"), Some("ada"), Some("2026-01-31 10:15:00.5+00")]));
        let entry = entry.unwrap().unwrap();
        assert_eq!(
            (entry.key.as_slice(), &entry.part),
            (&b"m:7"[..], &Part::String(b"ada".to_vec()))
        );
        assert_eq!(entry.expires_at, Some(1_769_854_500_500));
        assert_eq!(shape.entry(&row(&[Some("7"), None, None])), Ok(None));
    }

    #[test]
    fn a_json_object_leaves_out_null_and_keeps_numbers() {
        let shape = shape("table: t, key: 'm:{{ id }}', type: json, fields: [name, id, tags]");
        let entry = shape
            .entry(&row(&[Some("7"), None, Some("{\"a,\",b}")]))
            .unwrap()
            .unwrap();
        assert_eq!(entry.part, Part::String(br#"{"id":7,"tags":["a,","b"]}"#.to_vec()));
    }

    #[test]
    fn a_null_in_the_key_is_refused_with_the_row() {
        let shape = shape("table: t, key: 'm:{{ name }}', type: string, value: id");
        let refusal = shape.entry(&row(&[Some("7"), None])).unwrap_err();
        assert_eq!(
            refusal.to_string(),
            "the row id=7 of t: its key needs name, which is NULL"
        );
    }

    #[test]
    fn scores_of_times_are_seconds() {
        let shape = shape("table: t, key: 's:{{ name }}', type: sorted_set, value: id, score: at");
        let values = |shape: &Shape| {
            shape.row(|name| {
                Some(match name {
                    "id" => "7".into(),
                    "name" => "ada".into(),
                    _ => "1970-01-01 00:00:01.5+00".to_owned(),
                })
            })
        };
        let entry = shape.entry(&values(&shape)).unwrap().unwrap();
        assert_eq!(entry.part, Part::SortedSet(vec![(b"7".to_vec(), 1.5)]));
    }

    proptest! {
        #[test]
        fn the_columns_of_a_key_are_read_from_it_again(id in any::<i64>(), name in "\\PC{0,12}", small in any::<i16>()) {
            let shape = shape("table: t, key: 'm:{{ id }}:{{ name }}:{{ small }}', type: string, value: name");
            prop_assert!(shape.is_readable);
            let row = shape.row(|column| Some(match column {
                "id" => id.to_string(),
                "name" => name.clone(),
                _ => small.to_string(),
            }));
            let key = shape.key(&row).unwrap();
            let mut read = shape.columns_of(&key).unwrap();
            read.sort();
            let mut expected: Vec<(usize, String)> = shape
                .template_columns
                .iter()
                .map(|(_, at)| (*at, row.values[*at].clone().unwrap()))
                .collect();
            expected.sort();
            prop_assert_eq!(read, expected);
        }
    }

    #[test]
    fn the_relation_of_these_tests_has_every_column_that_they_name() {
        assert!(relation().columns.len() > 4);
    }
}
