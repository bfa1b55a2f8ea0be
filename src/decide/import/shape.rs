//! A table of `import.yml`, held against the real schema: which columns are read, and what each is
//! for.

use super::template::{Piece, Template};
use super::value::Encoding;
use crate::model::error::{Error, Result};
use crate::model::import::{Column, ColumnKind, Fields, KeyType, Mapping, NullForm, Place, Relation, Table};
use std::collections::BTreeSet;

#[derive(Debug)]
pub struct Shape {
    pub label: String,
    pub place: Place,
    pub database: u32,
    pub kind: KeyType,
    /// The columns that are read; a row has its values in this order.
    pub columns: Vec<Column>,
    pub encodings: Vec<Encoding>,
    /// The columns that tell one row from the others.
    pub key_columns: Vec<usize>,
    pub template: Template,
    /// The template's columns, as it names them.
    pub template_columns: Vec<(String, usize)>,
    pub part: PartShape,
    pub expires_at: Option<usize>,
    keys: Option<String>,
    /// No two rows can become the same key, or the same member of one.
    pub is_distinct: bool,
    /// A key's columns can be read from the key again.
    pub is_readable: bool,
}

#[derive(Clone, Debug)]
pub enum PartShape {
    String(usize),
    /// Names with their columns.
    Hash(Vec<(String, usize)>),
    Json(Vec<(String, usize)>),
    List(usize),
    Set(usize),
    SortedSet {
        member: usize,
        score: usize,
    },
}

impl Shape {
    /// Checks a table against its schema. The error names the first wrong column and the nearest
    /// right name.
    pub fn new(mapping: &Mapping, table: &Table, found: &Relation) -> Result<Shape> {
        let build = || {
            let mut columns = Columns {
                found,
                read: Vec::new(),
            };
            let key_columns = key_columns(table, found, &mut columns)?;
            let template = Template::parse(&table.key).map_err(|why| {
                Error::usage(format!("read its `key` {:?}", table.key))
                    .because(why)
                    .hint("a column stands in it as {{ column }}; docs/import.md shows what else a template can do")
            })?;
            let template_columns: Vec<(String, usize)> = template
                .columns()
                .into_iter()
                .map(|name| columns.named("key", &name).map(|at| (name, at)))
                .collect::<Result<_>>()?;
            let part = part(table, found, &mut columns)?;
            let expires_at = expires_at(table, &mut columns)?;
            for name in table.columns.keys() {
                columns.known("columns", name)?;
            }
            let read = columns.read;
            let encodings: Vec<Encoding> = read
                .iter()
                .map(|column| Encoding::new(column.kind.clone(), &table.encodings(&column.name, &mapping.encode)))
                .collect();
            Ok(Shape {
                label: table.label().to_owned(),
                place: table.place(),
                database: table.database,
                kind: table.kind,
                is_readable: is_readable(&template, &template_columns, &encodings, table),
                is_distinct: is_distinct(&template, &template_columns, &read, &part, found),
                columns: read,
                encodings,
                key_columns,
                template,
                template_columns,
                part,
                expires_at,
                keys: table.keys.clone(),
            })
        };
        build().map_err(|error: Error| error.while_doing(format!("accept the table {}", table.label())))
    }

    /// Returns true if several rows share one key.
    pub fn is_shared(&self) -> bool {
        let column = match self.part {
            PartShape::SortedSet { .. } => return true,
            PartShape::Set(column) => column,
            PartShape::String(_) | PartShape::Hash(_) | PartShape::Json(_) | PartShape::List(_) => return false,
        };
        !matches!(self.columns[column].kind, ColumnKind::Array(..))
    }

    /// Returns the pattern of SCAN that all of its keys match; `*` if nothing is known of them.
    pub fn pattern(&self) -> String {
        self.keys.clone().unwrap_or_else(|| self.template.pattern())
    }

    pub fn key_names(&self) -> Vec<&str> {
        let names = self.key_columns.iter().map(|at| self.columns[*at].name.as_str());
        names.collect()
    }
}

/// The columns of the relation, and those that are read so far.
struct Columns<'a> {
    found: &'a Relation,
    read: Vec<Column>,
}

impl Columns<'_> {
    /// Returns the place of a column among those that are read; adds it if it is new.
    fn named(&mut self, field: &str, name: &str) -> Result<usize> {
        let column = self.known(field, name)?.clone();
        if column.kind == ColumnKind::Unsupported {
            return Err(Error::usage(format!(
                "write the column {name}: its type {} has no encoding here",
                column.type_name
            ))
            .hint("leave the column out, or use a `query` that casts it, such as `to_json(it)`"));
        }
        if let Some(at) = self.read.iter().position(|read| read.name == name) {
            return Ok(at);
        }
        self.read.push(column);
        Ok(self.read.len() - 1)
    }

    fn known(&self, field: &str, name: &str) -> Result<&Column> {
        let columns = &self.found.columns;
        columns.iter().find(|column| column.name == name).ok_or_else(|| {
            let names = columns.iter().map(|column| column.name.as_str());
            let error = Error::usage(format!("find the column {name:?} that `{field}` names: there is none"));
            match nearest(name, names) {
                Some(near) => error.hint(format!("did you mean {near}?")),
                None => error.hint("`infra import init` lists every column of every table"),
            }
        })
    }
}

/// Returns the name that is spelt most like this one, if any is near.
pub fn nearest<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let scored = names.map(|other| (strsim::jaro_winkler(name, other), other));
    let best = scored.max_by(|(one, _), (other, _)| one.total_cmp(other))?;
    (best.0 > 0.75).then_some(best.1)
}

fn key_columns(table: &Table, found: &Relation, columns: &mut Columns) -> Result<Vec<usize>> {
    let names = if table.key_columns.is_empty() {
        &found.primary_key
    } else {
        &table.key_columns
    };
    if names.is_empty() {
        return Err(Error::usage("tell its rows apart: it has no primary key")
            .hint("name the columns that do in `key_columns`"));
    }
    names.iter().map(|name| columns.named("key_columns", name)).collect()
}

fn part(table: &Table, found: &Relation, columns: &mut Columns) -> Result<PartShape> {
    let value = table.value.as_deref().unwrap_or_default();
    Ok(match table.kind {
        KeyType::String => PartShape::String(columns.named("value", value)?),
        KeyType::Hash => PartShape::Hash(fields(table, found, columns)?),
        KeyType::Json => PartShape::Json(fields(table, found, columns)?),
        KeyType::List => {
            let at = columns.named("value", value)?;
            if !matches!(columns.read[at].kind, ColumnKind::Array(..)) {
                return Err(Error::usage(format!("make a list of the column {value}: it is no array")).hint(
                    "a query makes one array of several rows: `SELECT user_id, array_agg(item ORDER BY at) AS items FROM … GROUP BY user_id`",
                ));
            }
            PartShape::List(at)
        }
        KeyType::Set => PartShape::Set(columns.named("value", value)?),
        KeyType::SortedSet => {
            let name = table.score.as_deref().unwrap_or_default();
            let (member, score) = (columns.named("value", value)?, columns.named("score", name)?);
            let kind = &columns.read[score].kind;
            if !matches!(
                kind,
                ColumnKind::Integer | ColumnKind::Float | ColumnKind::Numeric | ColumnKind::Time(_)
            ) {
                return Err(Error::usage(format!(
                    "take the column {name} as a score: it is neither a number nor a time"
                ))
                .hint("name another column in `score`"));
            }
            if matches!(columns.read[member].kind, ColumnKind::Array(..)) {
                return Err(Error::usage(format!(
                    "take the array {value} as members of a sorted set: each needs a score of its own"
                ))
                .hint("use a `query` with `unnest`, which gives a row to each member"));
            }
            PartShape::SortedSet { member, score }
        }
    })
}

fn fields(table: &Table, found: &Relation, columns: &mut Columns) -> Result<Vec<(String, usize)>> {
    let named: Vec<(String, String)> = match &table.fields {
        None => found
            .columns
            .iter()
            .map(|column| (column.name.clone(), column.name.clone()))
            .collect(),
        Some(Fields::Columns(names)) => names.iter().map(|name| (name.clone(), name.clone())).collect(),
        Some(Fields::Named(named)) => named
            .iter()
            .map(|(name, column)| (name.clone(), column.clone()))
            .collect(),
    };
    if named.is_empty() {
        return Err(Error::usage("write its `fields`: there are none"));
    }
    named
        .into_iter()
        .map(|(field, column)| columns.named("fields", &column).map(|at| (field, at)))
        .collect()
}

fn expires_at(table: &Table, columns: &mut Columns) -> Result<Option<usize>> {
    let Some(name) = &table.expires_at else {
        return Ok(None);
    };
    let at = columns.named("expires_at", name)?;
    if !matches!(columns.read[at].kind, ColumnKind::Time(_) | ColumnKind::Integer) {
        return Err(Error::usage(format!(
            "take the column {name} as an expiry: it is neither a time nor a number of seconds since 1970"
        )));
    }
    let is_array = |column: usize| matches!(columns.read[column].kind, ColumnKind::Array(..));
    let shared = match table.kind {
        KeyType::SortedSet => true,
        KeyType::Set => table.value.as_deref().is_some_and(|value| {
            columns
                .read
                .iter()
                .position(|column| column.name == value)
                .is_some_and(|column| !is_array(column))
        }),
        KeyType::String | KeyType::Hash | KeyType::List | KeyType::Json => false,
    };
    if shared {
        return Err(
            Error::usage("let its keys expire: several rows share one key, and each has a time of its own")
                .hint("leave `expires_at` out, or give each row a key of its own"),
        );
    }
    Ok(Some(at))
}

/// Returns true if the texts of the columns can be told apart in a rendered key.
fn is_unambiguous(template: &Template, kind: &dyn Fn(&str) -> Option<bool>) -> bool {
    let Template::Plain(pieces) = template else {
        return false;
    };
    // At most one column may hold any character, since it can be found from both sides.
    let free = pieces.iter().filter(|piece| match piece {
        Piece::Column(name) => kind(name) == Some(false),
        Piece::Literal(_) => false,
    });
    let ends = |literal: &str| {
        let is_outside =
            |letter: Option<char>| letter.is_some_and(|c| !c.is_ascii_alphanumeric() && !"-+._".contains(c));
        is_outside(literal.chars().next()) && is_outside(literal.chars().last())
    };
    let mut named = BTreeSet::new();
    let apart = pieces.windows(2).all(|two| match two {
        [Piece::Column(_), Piece::Column(_)] => false,
        [Piece::Column(_), Piece::Literal(literal)] => ends(literal),
        [Piece::Literal(_), _] | [] | [_] => true,
        [_, _, _, ..] => false,
    });
    let once = pieces.iter().all(|piece| match piece {
        Piece::Column(name) => named.insert(name.clone()),
        Piece::Literal(_) => true,
    });
    apart && once && free.count() <= 1
}

fn is_readable(template: &Template, named: &[(String, usize)], encodings: &[Encoding], table: &Table) -> bool {
    let at = |name: &str| named.iter().find(|(column, _)| column == name).map(|(_, at)| *at);
    let all = named.iter().all(|(_, at)| encodings[*at].is_readable());
    let no_word = table.encode.null != Some(NullForm::Word);
    all && no_word && is_unambiguous(template, &|name| at(name).map(|at| encodings[at].kind.is_plain()))
}

fn is_distinct(
    template: &Template,
    named: &[(String, usize)],
    columns: &[Column],
    part: &PartShape,
    found: &Relation,
) -> bool {
    let at = |name: &str| named.iter().find(|(column, _)| column == name).map(|(_, at)| *at);
    let mut in_identity: BTreeSet<&str> = named.iter().map(|(name, _)| name.as_str()).collect();
    match part {
        PartShape::Set(member) | PartShape::SortedSet { member, .. } => {
            if !matches!(columns[*member].kind, ColumnKind::Array(..)) {
                in_identity.insert(&columns[*member].name);
            }
        }
        PartShape::String(_) | PartShape::Hash(_) | PartShape::Json(_) | PartShape::List(_) => {}
    }
    let is_unique = found
        .unique
        .iter()
        .any(|unique| unique.iter().all(|column| in_identity.contains(column.as_str())));
    is_unique && is_unambiguous(template, &|name| at(name).map(|at| columns[at].kind.is_plain()))
}

#[cfg(test)]
pub(super) mod tests;
