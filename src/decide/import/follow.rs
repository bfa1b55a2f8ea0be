//! How a table can be followed after its import: by the log of changes, by a column that grows, or not at all.

use super::shape::{PartShape, Shape};
use crate::effects::postgres::changes::{Facts, TableFacts};
use crate::model::import::{Place, Table};

/// How the changes of a table are learnt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// From the log of changes, deletions too.
    Log,
    /// From a column that grows with each change. Deletions are not seen.
    Column,
}

/// Returns how a table is followed, or why it cannot be.
pub fn way(table: &Table, shape: &Shape, facts: &Facts, of_table: Option<&TableFacts>) -> Result<Way, String> {
    if table.grows.is_some() {
        return Ok(Way::Column);
    }
    log(shape, facts, of_table).map(|()| Way::Log)
}

fn log(shape: &Shape, facts: &Facts, of_table: Option<&TableFacts>) -> Result<(), String> {
    if matches!(shape.place, Place::Query(_)) {
        return Err("the log of changes has tables, and this is a query".into());
    }
    if facts.in_recovery {
        return Err("the server is a standby, which has no log of changes of its own".into());
    }
    if facts.wal_level != "logical" {
        return Err(format!("the server's wal_level is {}, not logical", facts.wal_level));
    }
    if !facts.may_replicate {
        return Err("the user of the URL may make no replication slot".into());
    }
    if !facts.may_publish {
        return Err("the user of the URL may make no publication in this database".into());
    }
    let Some(table) = of_table else {
        return Err("there is no such table".into());
    };
    if table.kind != 'r' {
        return Err("it is no ordinary table".into());
    }
    if table.unlogged {
        return Err("it is unlogged: its changes are not in the log".into());
    }
    if !table.owned {
        return Err("the user of the URL does not own it, and only an owner may publish a table".into());
    }
    // PostgreSQL refuses every UPDATE and DELETE of a published table that does not identify its rows.
    if table.identity.is_empty() {
        return Err("it has no primary key, so its updates would fail once it is published".into());
    }
    let missing = lookup(shape)
        .into_iter()
        .map(|at| shape.columns[at].name.as_str())
        .find(|name| !table.identity.iter().any(|column| column == name));
    match missing {
        Some(name) => Err(format!(
            "the log names an old row by {}, and the place of a row in Redis needs {name} too",
            table.identity.join(", ")
        )),
        None => Ok(()),
    }
}

/// Returns the columns that say where a row is in Redis: those of its key, and of its member if others share the key.
pub fn lookup(shape: &Shape) -> Vec<usize> {
    let mut columns: Vec<usize> = shape.template_columns.iter().map(|(_, at)| *at).collect();
    if shape.is_shared() {
        match &shape.part {
            PartShape::Set(member) | PartShape::SortedSet { member, .. } => columns.push(*member),
            PartShape::String(_) | PartShape::Hash(_) | PartShape::Json(_) | PartShape::List(_) => {}
        }
    }
    columns.sort_unstable();
    columns.dedup();
    columns
}

#[cfg(test)]
mod tests {
    use super::super::shape::tests::shape;
    use super::*;

    fn able() -> (Facts, TableFacts) {
        let facts = Facts {
            wal_level: "logical".into(),
            may_replicate: true,
            may_publish: true,
            free_slots: 1,
            in_recovery: false,
            tables: Vec::new(),
        };
        let table = TableFacts {
            kind: 'r',
            owned: true,
            unlogged: false,
            identity: vec!["id".into()],
        };
        (facts, table)
    }

    fn refusal(mapping: &str, change: impl Fn(&mut Facts, &mut TableFacts)) -> Option<String> {
        let (mut facts, mut table) = able();
        change(&mut facts, &mut table);
        log(&shape(mapping), &facts, Some(&table)).err()
    }

    const STRING: &str = "table: t, key: 'm:{{ id }}', type: string, value: name";
    const SET: &str = "table: t, key: 'm:{{ id }}', type: set, value: name";

    #[test]
    fn a_table_that_identifies_its_rows_by_its_key_is_followed_by_the_log() {
        assert_eq!(refusal(STRING, |_, _| {}), None);
        assert_eq!(refusal(SET, |_, table| table.identity.push("name".into())), None);
    }

    #[test]
    fn each_thing_that_the_log_needs_is_named_when_it_is_missing() {
        type Change = fn(&mut Facts, &mut TableFacts);
        let cases: [(Change, &str); 7] = [
            (|facts, _| facts.wal_level = "replica".into(), "wal_level is replica"),
            (|facts, _| facts.may_replicate = false, "no replication slot"),
            (|facts, _| facts.may_publish = false, "no publication"),
            (|facts, _| facts.in_recovery = true, "standby"),
            (|_, table| table.owned = false, "does not own"),
            (|_, table| table.unlogged = true, "unlogged"),
            (|_, table| table.identity.clear(), "updates would fail"),
        ];
        for (change, named) in cases {
            let refused = refusal(STRING, change).unwrap();
            assert!(refused.contains(named), "{refused}");
        }
    }

    #[test]
    fn a_member_that_the_log_does_not_name_is_a_reason_against_it() {
        let refused = refusal(SET, |_, _| {}).unwrap();
        assert!(refused.contains("needs name too"), "{refused}");
    }
}
