//! Tables that are refused, and keys that are known to be distinct.

use super::*;
use crate::model::import::TimeKind;

pub fn relation() -> Relation {
    let column = |name: &str, kind: ColumnKind| Column {
        name: name.into(),
        type_name: format!("{kind:?}").to_lowercase(),
        kind,
    };
    Relation {
        columns: vec![
            column("id", ColumnKind::Integer),
            column("name", ColumnKind::Text),
            column("small", ColumnKind::Integer),
            column("at", ColumnKind::Time(TimeKind::TimestampTz)),
            column("tags", ColumnKind::Array(Box::new(ColumnKind::Text), ',')),
            column("place", ColumnKind::Unsupported),
        ],
        primary_key: vec!["id".into()],
        unique: vec![vec!["id".into()]],
        rows: 10,
        bytes: 8192,
    }
}

fn checked(table: &str) -> Result<Shape> {
    let text = format!("source: {{url_env: A}}\ntarget: {{url_env: B}}\ntables: [{{{table}}}]\n");
    let mapping = Mapping::parse(&text).unwrap();
    Shape::new(&mapping, &mapping.tables[0], &relation())
}

pub fn shape(table: &str) -> Shape {
    checked(table).unwrap()
}

#[test]
fn a_misspelt_column_is_named_with_the_nearest_right_one() {
    for (table, wrong, near) in [
        ("table: t, key: 'm:{{ idx }}', type: string, value: name", "idx", "id"),
        (
            "table: t, key: 'm:{{ id }}', type: string, value: namex",
            "namex",
            "name",
        ),
        (
            "table: t, key: 'm:{{ id }}', type: hash, fields: [id, tagx]",
            "tagx",
            "tags",
        ),
        (
            "table: t, key_columns: [smallx], key: 'm:{{ id }}', type: set, value: id",
            "smallx",
            "small",
        ),
        (
            "table: t, key: 'm:{{ id }}', type: set, value: id, columns: {namx: {null: empty}}",
            "namx",
            "name",
        ),
    ] {
        let error = checked(table).unwrap_err();
        assert!(error.chain().join(" ").contains(wrong), "{error:#}");
        assert_eq!(error.next_step(), Some(format!("did you mean {near}?").as_str()));
    }
}

#[test]
fn types_that_do_not_fit_are_refused_by_name() {
    for (table, named) in [
        ("table: t, key: 'm:{{ id }}', type: list, value: name", "name"),
        (
            "table: t, key: 'm:{{ id }}', type: sorted_set, value: id, score: name",
            "name",
        ),
        (
            "table: t, key: 'm:{{ id }}', type: sorted_set, value: tags, score: id",
            "tags",
        ),
        ("table: t, key: 'm:{{ id }}', type: string, value: place", "place"),
        (
            "table: t, key: 'm:{{ id }}', type: string, value: id, expires_at: name",
            "name",
        ),
        (
            "table: t, key: 'm:{{ name }}', type: set, value: id, expires_at: at",
            "several rows",
        ),
        ("table: t, key: 'm:{{ id ', type: string, value: id, name: 'x{{'", "key"),
    ] {
        let error = checked(table).unwrap_err();
        assert!(error.chain().join(" ").contains(named), "{error:#} should name {named}");
    }
}

#[test]
fn keys_are_distinct_if_they_hold_a_unique_key_unambiguously() {
    for (table, distinct, readable) in [
        ("table: t, key: 'm:{{ id }}', type: string, value: name", true, true),
        ("table: t, key: 'm:{{ name }}', type: string, value: id", false, true),
        (
            "table: t, key: 'm:{{ id }}:{{ name }}', type: string, value: name",
            true,
            true,
        ),
        (
            "table: t, key: 'm:{{ id }}{{ name }}', type: string, value: name",
            false,
            false,
        ),
        (
            "table: t, key: 'm:{{ id }}1{{ small }}', type: string, value: name",
            false,
            false,
        ),
        (
            "table: t, key: 'm:{{ id | upper }}', type: string, value: name",
            false,
            false,
        ),
        ("table: t, key: 'm:{{ name }}', type: set, value: id", true, true),
        ("table: t, key: 'm:{{ id }}', type: set, value: tags", true, true),
    ] {
        let shape = shape(table);
        assert_eq!((shape.is_distinct, shape.is_readable), (distinct, readable), "{table}");
    }
}
