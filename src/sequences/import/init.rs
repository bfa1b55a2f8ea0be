//! `infra import init`: a first import.yml from the schema, for a person to change.

use super::setup::database;
use crate::effects::postgres::{Session, schema};
use crate::model::error::{Error, ExitCode, Result};
use crate::model::files;
use crate::model::import::{ColumnKind, Origin, Place, Relation, TimeKind};
use crate::model::size;
use crate::sequences::arguments::ImportInit;
use crate::sequences::context::Context;
use serde_json::json;
use std::fmt::Write;
use std::time::Duration;

pub async fn run(context: &Context, arguments: &ImportInit) -> Result<ExitCode> {
    let shown = arguments.file.display();
    if arguments.file.exists() {
        return Err(Error::usage(format!("write {shown}: there is one already"))
            .hint("move it away, or name another file with --file"));
    }
    let origin = Origin {
        config_var: Some(arguments.config_var.clone()).filter(|_| arguments.url_env.is_none()),
        url_env: arguments.url_env.clone(),
        tls_pin: arguments.tls_pin,
    };
    let session = database(context, &origin, Duration::from_secs(60))
        .await?
        .connect()
        .await?;
    let mut tables = Vec::new();
    for (schema, name) in schema::tables(&session).await? {
        tables.push(describe(&session, schema, name).await?);
    }
    let text = file(&origin, &tables);
    files::replace(&arguments.file, &text).map_err(|error| Error::failed(format!("write {shown}")).because(error))?;
    let names: Vec<&str> = tables.iter().map(|(name, _)| name.as_str()).collect();
    context.ui.report(
        json!({ "file": arguments.file, "tables": names }),
        [format!(
            "wrote {shown} with {} tables: read it, change it, then run `infra import plan`",
            tables.len()
        )],
    );
    Ok(ExitCode::Done)
}

async fn describe(session: &Session, schema: String, name: String) -> Result<(String, Relation)> {
    let label = if schema == "public" {
        name.clone()
    } else {
        format!("{schema}.{name}")
    };
    let relation = schema::relation(session, &Place::Table { schema, name }).await?;
    Ok((label, relation))
}

fn file(origin: &Origin, tables: &[(String, Relation)]) -> String {
    let mut text = String::from(
        "# Which tables become which keys of Redis. docs/import.md describes every field.\n\
         # A first draft: remove what the app does not need, and name keys as the app reads them.\n\n",
    );
    let pin = origin
        .tls_pin
        .map(|pin| format!(", tls_pin: '{}'", pin.0))
        .unwrap_or_default();
    let _ = match (&origin.config_var, &origin.url_env) {
        (_, Some(name)) => writeln!(text, "source: {{url_env: {name}{pin}}}"),
        (name, None) => writeln!(
            text,
            "source: {{config_var: {}{pin}}}",
            name.as_deref().unwrap_or_default()
        ),
    };
    text.push_str("# `hosted` is the Redis that the app uses now, `master` the pair's master.\ntarget: {redis: hosted}\n\ntables:\n");
    let mut used = 0;
    for (name, relation) in tables {
        let columns: Vec<String> = relation
            .columns
            .iter()
            .map(|column| format!("{} {}", column.name, plain_type(&column.type_name)))
            .collect();
        let _ = writeln!(
            text,
            "# {name}: about {} rows; columns: {}",
            size::count(relation.rows),
            columns.join(", ")
        );
        if relation.primary_key.is_empty() || relation.primary_key.iter().any(|key| !is_name(key)) {
            let _ = writeln!(
                text,
                "# It has no primary key that a template can name: write a `query` for it, with `key_columns`.\n"
            );
            continue;
        }
        used += 1;
        table(&mut text, name, relation);
    }
    if used == 0 {
        text.push_str("[]\n");
    }
    text
}

fn table(text: &mut String, name: &str, relation: &Relation) {
    let keys: Vec<String> = relation
        .primary_key
        .iter()
        .map(|key| format!("{{{{ {key} }}}}"))
        .collect();
    let prefix = name.replace('.', ":");
    let _ = writeln!(text, "- table: {}", quoted(name));
    let _ = writeln!(text, "  key: {}", quoted(&format!("{prefix}:{}", keys.join(":"))));
    let others: Vec<&str> = relation
        .columns
        .iter()
        .filter(|column| column.kind != ColumnKind::Unsupported)
        .map(|column| column.name.as_str())
        .collect();
    let _ = writeln!(text, "  type: hash");
    let fields: Vec<String> = others.iter().map(|name| quoted(name)).collect();
    let _ = writeln!(text, "  fields: [{}]", fields.join(", "));
    for column in relation
        .columns
        .iter()
        .filter(|column| column.kind == ColumnKind::Unsupported)
    {
        let _ = writeln!(
            text,
            "  # {} is left out: {} has no encoding",
            column.name,
            plain_type(&column.type_name)
        );
    }
    let times = relation.columns.iter().filter(|column| {
        matches!(
            column.kind,
            ColumnKind::Time(TimeKind::Timestamp | TimeKind::TimestampTz)
        )
    });
    for column in times {
        let _ = writeln!(text, "  # expires_at: {}", quoted(&column.name));
    }
    text.push('\n');
}

/// Returns a type without the catalogue's schema and quotes.
fn plain_type(name: &str) -> String {
    name.replace("\"pg_catalog\".", "").replace('"', "")
}

/// Returns true if a template can name the column.
fn is_name(column: &str) -> bool {
    let mut letters = column.chars();
    letters
        .next()
        .is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
        && letters.all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
