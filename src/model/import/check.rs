//! Refuses what cannot be meant, before any server is asked.

use super::fields::{KeyType, Mapping, NullForm, Table};
use crate::model::error::{Error, Result};
use std::collections::BTreeSet;

pub(super) fn check(mapping: &Mapping) -> Result<()> {
    let one = |named: &[bool]| named.iter().filter(|named| **named).count() == 1;
    let source = &mapping.source;
    if !one(&[source.config_var.is_some(), source.url_env.is_some()]) {
        return Err(wrong("`source` needs one of `config_var` and `url_env`")
            .hint("name the app's config var that holds the URL: `source: {config_var: DATABASE_URL}`"));
    }
    let target = &mapping.target;
    if !one(&[target.redis.is_some(), target.url_env.is_some()]) {
        return Err(wrong("`target` needs one of `redis` and `url_env`")
            .hint("`redis: hosted` is the Redis that the app uses now, `redis: master` the pair's master"));
    }
    if !(1..=16).contains(&mapping.limits.parallel) {
        return Err(wrong("`limits.parallel` is not between 1 and 16"));
    }
    if mapping.tables.is_empty() {
        return Err(wrong("`tables` is empty"));
    }
    let mut labels = BTreeSet::new();
    for table in &mapping.tables {
        if !labels.insert(table.label()) {
            return Err(wrong(format!("two of `tables` are called {}", table.label()))
                .hint("give one of them a `name` of its own"));
        }
        check_table(mapping, table)
            .map_err(|error| error.while_doing(format!("accept the table {}", table.label())))?;
    }
    Ok(())
}

fn wrong(message: impl std::fmt::Display) -> Error {
    Error::usage(format!("accept import.yml: {message}")).hint("docs/import.md lists every field of import.yml")
}

fn check_table(mapping: &Mapping, table: &Table) -> Result<()> {
    if table.table.is_some() == table.query.is_some() {
        return Err(wrong("it needs one of `table` or `query`"));
    }
    if table.query.is_some() && table.key_columns.is_empty() {
        return Err(wrong("a query needs `key_columns`, which tell one row from the others"));
    }
    if !table.key.contains("{{") {
        return Err(wrong(format!("its `key` {:?} is the same for every row", table.key))
            .hint("name columns in it: `key: 'marker:{{ user_id }}'`"));
    }
    let whole = matches!(table.kind, KeyType::Hash | KeyType::Json);
    if whole && table.value.is_some() {
        return Err(wrong("a hash or JSON object has `fields`, no `value`"));
    }
    if !whole && table.value.is_none() {
        return Err(wrong("`value` is missing: the column that is written"));
    }
    if !whole && table.fields.is_some() {
        return Err(wrong("only a hash or a JSON object has `fields`"));
    }
    if (table.kind == KeyType::SortedSet) != table.score.is_some() {
        return Err(wrong("a sorted set needs `score`, and nothing else has it"));
    }
    let encodings = std::iter::once(table.encode.or(&mapping.encode));
    let columns = table
        .columns
        .keys()
        .map(|column| table.encodings(column, &mapping.encode));
    if encodings
        .chain(columns)
        .any(|encode| encode.null == Some(NullForm::Word) && encode.null_word.is_none())
    {
        return Err(wrong("`null: word` needs the word in `null_word`"));
    }
    Ok(())
}
