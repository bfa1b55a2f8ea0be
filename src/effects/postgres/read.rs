//! Rows of a table or query, in ranges of its key columns.

use super::session::Session;
use super::text::{CopyRows, literal, name};
use crate::model::error::Result;
use crate::model::import::{Column, Place, Row, Text};
use serde::{Deserialize, Serialize};

/// The texts of the key columns at an end of a range; that is between rows.
pub type Bounds = Vec<Text>;

/// The rows after one key and up to another, which belongs to it. An end that is missing is open.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Range {
    pub after: Option<Bounds>,
    pub up_to: Option<Bounds>,
}

/// Makes the statements that read one table or query.
#[derive(Clone, Debug)]
pub struct Reader {
    /// As FROM takes it.
    from: String,
    columns: Vec<String>,
    keys: Vec<String>,
    /// The keys' types, as a cast takes them.
    types: Vec<String>,
}

impl Reader {
    pub fn new(place: &Place, columns: &[&str], keys: &[(&str, &str)]) -> Self {
        Reader {
            from: from(place),
            columns: columns.iter().map(|column| name(column)).collect(),
            keys: keys.iter().map(|(key, _)| name(key)).collect(),
            types: keys.iter().map(|(_, cast)| (*cast).to_owned()).collect(),
        }
    }

    /// Begins to read a range, in the order of the keys.
    pub async fn range(&self, session: &Session, range: &Range) -> Result<CopyRows> {
        let order = self.keys.join(", ");
        session.copy(&format!("{} ORDER BY {order}", self.select(range))).await
    }

    /// Begins to read everything, in whatever order is quickest.
    pub async fn all(&self, session: &Session) -> Result<CopyRows> {
        session.copy(&self.select(&Range::default())).await
    }

    /// Returns some rows, those that are read most easily.
    pub async fn first(&self, session: &Session, rows: u64) -> Result<Vec<Row>> {
        session
            .copy_all(&format!("{} LIMIT {rows}", self.select(&Range::default())))
            .await
    }

    /// Returns how many rows the planner expects.
    pub async fn expected(&self, session: &Session) -> Result<u64> {
        let plan = session
            .value(&format!("EXPLAIN {}", self.select(&Range::default())))
            .await?
            .unwrap_or_default();
        let rows = plan.split_once("rows=").map_or("", |(_, rest)| rest);
        let digits = rows.split(' ').next().unwrap_or_default();
        Ok(digits.parse().unwrap_or_default())
    }

    fn select(&self, range: &Range) -> String {
        let keys = self.keys.join(", ");
        let mut conditions = Vec::new();
        if let Some(after) = &range.after {
            conditions.push(format!("({keys}) > ({})", self.values(after)));
        }
        if let Some(up_to) = &range.up_to {
            conditions.push(format!("({keys}) <= ({})", self.values(up_to)));
        }
        let filter = if conditions.is_empty() {
            String::new()
        } else {
            format!(" WHERE {}", conditions.join(" AND "))
        };
        format!("SELECT {} FROM {}{filter}", self.columns.join(", "), self.from)
    }

    /// Returns the key of the row that is `rows` further, in the order of the keys; `None` if fewer
    /// are left.
    pub async fn further(&self, session: &Session, after: Option<&Bounds>, rows: u64) -> Result<Option<Bounds>> {
        let (keys, from) = (self.keys.join(", "), &self.from);
        let filter = after
            .map(|after| format!(" WHERE ({keys}) > ({})", self.values(after)))
            .unwrap_or_default();
        let texts: Vec<String> = self.keys.iter().map(|key| format!("{key}::text")).collect();
        let skipped = rows.saturating_sub(1);
        // The cast stands outside, since ORDER BY would take a column of the result that has the
        // key's name.
        let inner = format!("SELECT {keys} FROM {from}{filter} ORDER BY {keys} OFFSET {skipped} LIMIT 1");
        let statement = format!("SELECT {} FROM ({inner}) AS found", texts.join(", "));
        Ok(session.rows(&statement).await?.into_iter().next().map(|row| row.values))
    }

    /// Returns true if a key column of a row is NULL.
    pub async fn has_null_key(&self, session: &Session) -> Result<bool> {
        let nulls: Vec<String> = self.keys.iter().map(|key| format!("{key} IS NULL")).collect();
        let statement = format!("SELECT 1 FROM {} WHERE {} LIMIT 1", self.from, nulls.join(" OR "));
        Ok(session.value(&statement).await?.is_some())
    }

    /// Returns the rows that have these values in these columns; each of `wanted` has one text a
    /// column.
    pub async fn matching(
        &self,
        session: &Session,
        columns: &[(&str, &str)],
        wanted: &[Vec<String>],
    ) -> Result<Vec<Row>> {
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let statement = format!(
            "SELECT {} FROM {} WHERE {}",
            self.columns.join(", "),
            self.from,
            among(columns, wanted)
        );
        session.copy_all(&statement).await
    }

    /// Returns the largest value of a column; `None` if there are no rows.
    pub async fn largest(&self, session: &Session, column: &str) -> Result<Text> {
        let statement = format!("SELECT max({})::text FROM {}", name(column), self.from);
        session.value(&statement).await
    }

    /// Begins to read the rows whose column is not smaller than a value, less what is taken off it; all rows without one.
    pub async fn since(&self, session: &Session, column: &Column, since: Option<(&str, String)>) -> Result<CopyRows> {
        let filter = since.map_or(String::new(), |(value, back)| {
            let (column, cast) = (name(&column.name), &column.type_name);
            format!(" WHERE {column} >= {}::{cast} - {back}", literal(value))
        });
        session
            .copy(&format!("{}{filter}", self.select(&Range::default())))
            .await
    }

    fn values(&self, bounds: &Bounds) -> String {
        let values = bounds.iter().zip(&self.types).map(|(value, cast)| match value {
            Some(value) => format!("{}::{cast}", literal(value)),
            None => "NULL".to_owned(),
        });
        values.collect::<Vec<_>>().join(", ")
    }
}

/// Returns the condition that columns have one of these values.
///
/// The types stand once, since a cast of each value takes the server longer than looking it up.
fn among(columns: &[(&str, &str)], wanted: &[Vec<String>]) -> String {
    if let [(column, cast)] = columns
        && !cast.ends_with(']')
    {
        let values = wanted.iter().flatten().map(|value| element(value));
        let array = format!("{{{}}}", values.collect::<Vec<_>>().join(","));
        return format!("{} = ANY ({}::{cast}[])", name(column), literal(&array));
    }
    let names: Vec<String> = columns.iter().map(|(column, _)| name(column)).collect();
    let tuples = wanted.iter().enumerate().map(|(at, values)| {
        let values = values.iter().zip(columns).map(|(value, (_, cast))| match at {
            0 => format!("{}::{cast}", literal(value)),
            // The first row says the types of all.
            _ => literal(value),
        });
        format!("({})", values.collect::<Vec<_>>().join(", "))
    });
    let tuples = tuples.collect::<Vec<_>>().join(", ");
    format!("({}) IN (VALUES {tuples})", names.join(", "))
}

/// Returns a text as an element of an array's text.
fn element(value: &str) -> String {
    format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))
}

pub(super) fn from(place: &Place) -> String {
    match place {
        Place::Table { schema, name: table } => format!("{}.{}", name(schema), name(table)),
        Place::Query(query) => format!("({}) AS rows", query.trim().trim_end_matches(';')),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_column_is_looked_up_by_an_array_and_several_by_rows() {
        let one = |value: &str| vec![vec![value.to_owned()]];
        assert_eq!(
            among(&[("name", "text")], &one(r#"a"b\c'd,{}"#)),
            r#""name" = ANY ('{"a\"b\\c''d,{}"}'::text[])"#
        );
        assert_eq!(
            among(&[("id", "integer[]")], &one("{1}")),
            r#"("id") IN (VALUES ('{1}'::integer[]))"#
        );
        let two = [["1", "a"], ["2", "b"]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(
            among(&[("id", "bigint"), ("name", "text")], &two),
            r#"("id", "name") IN (VALUES ('1'::bigint, 'a'::text), ('2', 'b'))"#
        );
    }

    #[test]
    fn a_range_is_open_at_its_beginning_and_closed_at_its_end() {
        let place = Place::Table {
            schema: "public".into(),
            name: "t".into(),
        };
        let reader = Reader::new(&place, &["id", "v"], &[("id", "integer"), ("at", "date")]);
        let bounds = |id: &str| Some(vec![Some(id.to_owned()), Some("2026-01-01".to_owned())]);
        let range = Range {
            after: bounds("1"),
            up_to: bounds("o'9"),
        };
        assert_eq!(
            reader.select(&range),
            "SELECT \"id\", \"v\" FROM \"public\".\"t\" WHERE (\"id\", \"at\") > ('1'::integer, '2026-01-01'::date) \
             AND (\"id\", \"at\") <= ('o''9'::integer, '2026-01-01'::date)"
        );
        assert_eq!(
            reader.select(&Range::default()),
            "SELECT \"id\", \"v\" FROM \"public\".\"t\""
        );
    }
}
