//! Describes a table or query from the catalogue: columns, types, keys and size.

use super::Session;
use super::read::from;
use super::text::{literal, name};
use crate::model::error::{Error, Result};
use crate::model::import::{Column, ColumnKind, Place, Relation, TimeKind};
use tokio_postgres::types::{Kind, Type};

/// Describes a table or query.
pub async fn relation(session: &Session, place: &Place) -> Result<Relation> {
    let mut relation = Relation {
        columns: columns(session, place).await?,
        ..Relation::default()
    };
    if let Place::Table { schema, name: table } = place {
        let table = literal(&format!("{}.{}", name(schema), name(table)));
        keys(session, &table, &mut relation).await?;
        size(session, &table, &mut relation).await?;
    }
    Ok(relation)
}

/// Returns the columns of a table or query. In a transaction, no other session can change them until its end.
pub async fn columns(session: &Session, place: &Place) -> Result<Vec<Column>> {
    let doing = match place {
        Place::Table { schema, name } => format!("describe the table {schema}.{name}"),
        Place::Query(_) => "describe the query".to_owned(),
    };
    let statement = format!("SELECT * FROM {} LIMIT 0", from(place));
    let prepared = session.client().prepare(&statement).await;
    let prepared = prepared.map_err(|cause| session.explain(cause).with_kind(crate::model::error::Kind::Usage));
    let prepared = match prepared {
        Ok(prepared) => prepared,
        Err(error) => return Err(with_nearest(session, place, error).await.while_doing(doing)),
    };
    let columns = prepared.columns().iter().map(|column| Column {
        name: column.name().to_owned(),
        type_name: type_name(column.type_()),
        kind: kind(column.type_()),
    });
    Ok(columns.collect())
}

/// Adds the table that is spelt most like a missing one.
async fn with_nearest(session: &Session, place: &Place, error: Error) -> Error {
    let Place::Table { name, .. } = place else {
        return error;
    };
    let Ok(tables) = tables(session).await else {
        return error;
    };
    let scored = tables
        .iter()
        .map(|(schema, other)| (strsim::jaro_winkler(name, other), schema, other));
    match scored.max_by(|one, other| one.0.total_cmp(&other.0)) {
        Some((score, schema, near)) if score > 0.75 && near != name => {
            error.hint(format!("did you mean {schema}.{near}?"))
        }
        _ => error,
    }
}

/// Lists schema and name of every table that the user may read.
pub async fn tables(session: &Session) -> Result<Vec<(String, String)>> {
    let rows = session
        .rows(
            "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
             WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition \
             AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg\\_%' \
             AND has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT') ORDER BY 1, 2",
        )
        .await?;
    Ok(rows
        .into_iter()
        .filter_map(|row| {
            let mut values = row.values.into_iter();
            Some((values.next()??, values.next()??))
        })
        .collect())
}

async fn keys(session: &Session, table: &str, relation: &mut Relation) -> Result<()> {
    let rows = session
        .rows(&format!(
            "SELECT i.indexrelid::text, i.indisprimary, a.attname FROM pg_index i \
             CROSS JOIN LATERAL unnest(i.indkey[0:i.indnkeyatts - 1]) WITH ORDINALITY AS k(attnum, place) \
             JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum \
             WHERE i.indrelid = {table}::regclass AND i.indisunique AND i.indisvalid AND i.indpred IS NULL \
             AND i.indexprs IS NULL AND NOT EXISTS (SELECT FROM pg_attribute n WHERE n.attrelid = i.indrelid \
             AND n.attnum = ANY(i.indkey[0:i.indnkeyatts - 1]) AND NOT n.attnotnull) ORDER BY i.indexrelid, k.place"
        ))
        .await?;
    let mut index = String::new();
    for row in rows {
        let [Some(of), Some(primary), Some(column)] = row.values.as_slice() else {
            continue;
        };
        if *of != index {
            relation.unique.push(Vec::new());
            index.clone_from(of);
        }
        if let Some(last) = relation.unique.last_mut() {
            last.push(column.clone());
        }
        if primary == "t" {
            relation.primary_key.push(column.clone());
        }
    }
    Ok(())
}

async fn size(session: &Session, table: &str, relation: &mut Relation) -> Result<()> {
    let rows = session
        .rows(&format!(
            "SELECT greatest(reltuples, 0)::bigint, CASE WHEN relkind IN ('r', 'm') THEN pg_table_size(oid) ELSE 0 END \
             FROM pg_class WHERE oid = {table}::regclass"
        ))
        .await?;
    let number = |at: usize| -> u64 {
        let value = rows
            .first()
            .and_then(|row| row.values.get(at)?.as_deref()?.parse().ok());
        value.unwrap_or_default()
    };
    (relation.rows, relation.bytes) = (number(0), number(1));
    Ok(())
}

/// Returns a type as a cast takes it, by its full name.
fn type_name(of: &Type) -> String {
    match of.kind() {
        Kind::Array(inner) => format!("{}[]", type_name(inner)),
        // In the catalogue, `char` and `bit` are other types than in SQL.
        _ => format!("{}.{}", name(of.schema()), name(of.name())),
    }
}

fn kind(of: &Type) -> ColumnKind {
    match of.kind() {
        Kind::Domain(base) => return kind(base),
        Kind::Enum(_) => return ColumnKind::Enum,
        Kind::Array(inner) => {
            let separator = if *inner == Type::BOX { ';' } else { ',' };
            return match kind(inner) {
                ColumnKind::Unsupported => ColumnKind::Unsupported,
                inner => ColumnKind::Array(Box::new(inner), separator),
            };
        }
        Kind::Composite(_) | Kind::Pseudo => return ColumnKind::Unsupported,
        _ => {}
    }
    match *of {
        Type::INT2 | Type::INT4 | Type::INT8 | Type::OID => ColumnKind::Integer,
        Type::FLOAT4 | Type::FLOAT8 => ColumnKind::Float,
        Type::NUMERIC => ColumnKind::Numeric,
        Type::BOOL => ColumnKind::Bool,
        Type::DATE => ColumnKind::Time(TimeKind::Date),
        Type::TIMESTAMP => ColumnKind::Time(TimeKind::Timestamp),
        Type::TIMESTAMPTZ => ColumnKind::Time(TimeKind::TimestampTz),
        Type::BYTEA => ColumnKind::Bytes,
        Type::JSON | Type::JSONB => ColumnKind::Json,
        Type::UUID => ColumnKind::Uuid,
        // Vectors of the catalogue are arrays with another text.
        Type::INT2_VECTOR | Type::OID_VECTOR => ColumnKind::Unsupported,
        _ => ColumnKind::Text,
    }
}
