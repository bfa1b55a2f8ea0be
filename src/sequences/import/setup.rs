//! The first look of every verb: the mapping, both servers, and each table held against the real
//! schema.

use crate::decide::import::shape::{Shape, nearest};
use crate::effects::postgres::{Postgres, Reader, Session, schema};
use crate::effects::redis::entries::Entries;
use crate::effects::redis::{Server, Trust};
use crate::model::error::{Doing, Error, Result};
use crate::model::import::{Mapping, Origin, Relation, Target, Which};
use crate::model::role::Role;
use crate::model::secret::Secret;
use crate::sequences::context::Context;
use sha2::{Digest, Sha256};
use std::path::Path;
use std::time::Duration;

/// The mapping with both servers and all tables that were asked for.
pub struct Ready {
    pub mapping: Mapping,
    pub source: Postgres,
    pub target: Server,
    pub tables: Vec<Ground>,
}

/// One table: how its rows are mapped, and how they are read.
pub struct Ground {
    pub shape: Shape,
    pub relation: Relation,
    pub reader: Reader,
    /// The index of the key columns makes ranges of them cheap.
    pub has_ranges: bool,
    /// No index says that the key columns are never NULL.
    may_be_null: bool,
}

impl Ready {
    /// Reads the file, connects, and checks every table before anything is read. `only` names
    /// tables; empty means all.
    pub async fn look(context: &Context, file: &Path, only: &[String]) -> Result<Ready> {
        let mapping = Mapping::load(file)?;
        let labels = || mapping.tables.iter().map(|table| table.label());
        for name in only {
            if !labels().any(|label| label == name) {
                let error = Error::usage(format!("find the table {name:?} in {}", file.display()));
                return Err(match nearest(name, labels()) {
                    Some(near) => error.hint(format!("did you mean {near}?")),
                    None => error.hint(format!("it has {}", labels().collect::<Vec<_>>().join(", "))),
                });
            }
        }
        let source = source(context, &mapping).await?;
        let session = source.connect().await?;
        let mut tables = Vec::new();
        for table in &mapping.tables {
            if only.is_empty() || only.iter().any(|name| name == table.label()) {
                let relation = schema::relation(&session, &table.place()).await?;
                tables.push(Ground::new(
                    Shape::new(&mapping, table, &relation)?,
                    relation,
                    table.ranges,
                ));
            }
        }
        let target = target(context, &mapping.target).await?;
        Ok(Ready {
            mapping,
            source,
            target,
            tables,
        })
    }
}

impl Ready {
    /// Checks that the target takes writes, before anything is read for it.
    pub async fn check_target(&self) -> Result<()> {
        let database = self.tables.first().map_or(0, |ground| ground.shape.database);
        if !Entries::connect(&self.target, database).await?.is_replica().await {
            return Ok(());
        }
        let error = Error::usage(format!("write to the {}: it follows another server", self.target.label));
        Err(match self.mapping.target.redis {
            Some(Which::Master) => error.because("the pair's master follows the hosted Redis until the app is moved").hint(
                "write `target: {redis: hosted}`: what is imported there reaches the master too; or import after `infra switch-app`",
            ),
            _ => error.hint("name the server that it follows in `target`"),
        })
    }

    /// Returns a digest that tells this mapping between these two servers from any other. `more` tells further ones
    /// apart.
    pub fn identity(&self, file: &Path, more: &str) -> Result<String> {
        let text = std::fs::read(file).doing(|| format!("read {}", file.display()))?;
        let mut hasher = Sha256::new();
        hasher.update(&text);
        hasher.update(format!("{} {} {more}", self.source, self.target));
        Ok(hex::encode(hasher.finalize()))
    }
}

impl Ground {
    fn new(shape: Shape, relation: Relation, in_ranges: bool) -> Ground {
        let columns: Vec<&str> = shape.columns.iter().map(|column| column.name.as_str()).collect();
        let keys: Vec<(&str, &str)> = shape
            .key_columns
            .iter()
            .map(|at| (shape.columns[*at].name.as_str(), shape.columns[*at].type_name.as_str()))
            .collect();
        let reader = Reader::new(&shape.place, &columns, &keys);
        let names = shape.key_names();
        let is_unique = relation
            .unique
            .iter()
            .any(|unique| unique.iter().map(String::as_str).eq(names.iter().copied()));
        Ground {
            shape,
            relation,
            reader,
            has_ranges: is_unique || in_ranges,
            may_be_null: !is_unique,
        }
    }

    /// Checks that a row is in one of the ranges, which it is not if a key column is NULL.
    pub async fn check_keys(&self, session: &Session) -> Result<()> {
        if !self.has_ranges || !self.may_be_null || !self.reader.has_null_key(session).await? {
            return Ok(());
        }
        Err(Error::failed(format!(
            "read {} in ranges: a key column of a row is NULL",
            self.shape.label
        ))
        .hint("name columns in `key_columns` that are never NULL, or leave those rows out by a `query` with WHERE"))
    }

    /// Checks that the columns are those that the mapping was checked against.
    pub async fn check_schema(&self, session: &Session) -> Result<()> {
        let now = schema::columns(session, &self.shape.place).await?;
        let label = &self.shape.label;
        for column in &self.shape.columns {
            let (name, known) = (&column.name, &column.type_name);
            let error = match now.iter().find(|found| found.name == *name) {
                Some(found) if found.type_name == *known => continue,
                Some(found) => format!(
                    "go on with {label}: its column {name} was of type {known}, and is {} now",
                    found.type_name
                ),
                None => format!("go on with {label}: it has no column {name} any more"),
            };
            return Err(Error::usage(error)
                .because("the schema was changed meanwhile")
                .hint("correct import.yml if need be, see `infra import plan`, and run the same command again"));
        }
        Ok(())
    }

    /// Returns columns with the types that a cast takes.
    pub fn casts(&self, columns: impl Iterator<Item = usize>) -> Vec<(&str, &str)> {
        columns
            .map(|at| {
                let column = &self.shape.columns[at];
                (column.name.as_str(), column.type_name.as_str())
            })
            .collect()
    }
}

/// Returns the database that the mapping reads.
pub async fn source(context: &Context, mapping: &Mapping) -> Result<Postgres> {
    let (origin, limits) = (&mapping.source, &mapping.limits);
    database(context, origin, limits.statement_timeout.0).await
}

/// Returns a database that the file may not name yet.
pub async fn database(context: &Context, origin: &Origin, statement_timeout: Duration) -> Result<Postgres> {
    let url = url(context, origin.config_var.as_deref(), origin.url_env.as_deref()).await?;
    let trust = origin.tls_pin.map_or(Trust::Public, |pin| Trust::Pin(pin.0));
    Postgres::from_url(&url, trust, statement_timeout)
}

async fn url(context: &Context, config_var: Option<&str>, url_env: Option<&str>) -> Result<Secret> {
    if let Some(name) = url_env {
        return from_environment(name, "postgres:// URL of the database");
    }
    let name = config_var.unwrap_or_default();
    let vars = context.platform.config_vars().await?;
    vars.get(name)?.cloned().ok_or_else(|| {
        Error::usage(format!("read the database's URL: the app has no config var {name}"))
            .hint("correct `source.config_var` in import.yml; `heroku config` lists the app's vars")
    })
}

fn from_environment(name: &str, what: &str) -> Result<Secret> {
    let url = std::env::var(name).map_err(|_| {
        Error::usage(format!(
            "read a URL of import.yml: the environment variable {name} is not set"
        ))
        .hint(format!("set {name} to the {what}"))
    })?;
    Ok(Secret::new(url))
}

/// Returns the Redis that is written.
pub async fn target(context: &Context, target: &Target) -> Result<Server> {
    match (target.redis, &target.url_env) {
        (Some(Which::Hosted), _) => context.source().await,
        (Some(Which::Master), _) => context.environment().await?.pair().await?.server(Role::Master),
        (None, name) => {
            let name = name.as_deref().unwrap_or_default();
            let url = from_environment(name, "redis:// URL of the Redis to write to")?;
            let is_tls = url.expose().trim_start().starts_with("rediss://");
            let trust = target.tls_pin.map_or(Trust::Public, |pin| Trust::Pin(pin.0));
            Server::from_url("target", &url, Some(trust).filter(|_| is_tls))
        }
    }
}
