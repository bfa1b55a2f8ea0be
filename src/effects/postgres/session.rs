//! A session that gives every value as text, in one fixed form.

use super::failure::explain;
use super::text::{CopyRows, literal};
use crate::effects::redis::stream::Stream;
use crate::model::error::{Error, Result};
use crate::model::import::{Row, Text};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage};

/// The forms in which values are printed, whatever the server's own settings are.
const FORMS: &str = "SET DateStyle = 'ISO, YMD'; SET IntervalStyle = iso_8601; SET extra_float_digits = 1; \
SET bytea_output = hex; SET TimeZone = 'UTC'; SET client_encoding = 'UTF8'; SET standard_conforming_strings = on; \
SET idle_in_transaction_session_timeout = 0; SET lock_timeout = '10s'; SET statement_timeout = ";

pub struct Session {
    client: Client,
    place: String,
    driver: JoinHandle<()>,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Session {
    pub(super) async fn establish(
        place: String,
        config: &Config,
        stream: Stream,
        statement_timeout: Duration,
    ) -> Result<Session> {
        let (client, connection) = match config.connect_raw(stream, NoTls).await {
            Ok(established) => established,
            Err(cause) => return Err(explain(format!("log in to {place}"), cause)),
        };
        let driver = tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!("a connection to PostgreSQL ended: {error}");
            }
        });
        let session = Session { client, place, driver };
        let timeout = statement_timeout.as_millis();
        session.run(&format!("{FORMS}{timeout}")).await?;
        Ok(session)
    }

    pub fn place(&self) -> &str {
        &self.place
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// Runs statements whose answers do not matter.
    pub async fn run(&self, statements: &str) -> Result<()> {
        self.client
            .batch_execute(statements)
            .await
            .map_err(|cause| self.explain(cause))
    }

    /// Returns the rows of a statement. They are all in memory: for few rows.
    pub async fn rows(&self, statement: &str) -> Result<Vec<Row>> {
        let answers = self
            .client
            .simple_query(statement)
            .await
            .map_err(|cause| self.explain(cause))?;
        Ok(answers
            .into_iter()
            .filter_map(|answer| match answer {
                SimpleQueryMessage::Row(row) => {
                    let values = (0..row.len()).map(|at| row.get(at).map(str::to_owned));
                    Some(Row {
                        values: values.collect(),
                    })
                }
                _ => None,
            })
            .collect())
    }

    /// Returns the first value of the first row; `None` if there is no row or it is NULL.
    pub async fn value(&self, statement: &str) -> Result<Text> {
        let rows = self.rows(statement).await?;
        Ok(rows
            .into_iter()
            .next()
            .and_then(|row| row.values.into_iter().next().flatten()))
    }

    /// Returns the rows of a SELECT, in the forms that COPY gives. They are all in memory: for few
    /// rows.
    pub async fn copy_all(&self, select: &str) -> Result<Vec<Row>> {
        let mut rows = self.copy(select).await?;
        let mut all = Vec::new();
        while let Some(row) = rows.next().await? {
            all.push(row);
        }
        Ok(all)
    }

    /// Begins to read the rows of a SELECT, one after the other.
    pub async fn copy(&self, select: &str) -> Result<CopyRows> {
        let statement = format!("COPY ({select}) TO STDOUT");
        let stream = self
            .client
            .copy_out(statement.as_str())
            .await
            .map_err(|cause| self.explain(cause))?;
        Ok(CopyRows::new(stream, self.place.clone()))
    }

    /// Sets how long the server may work on one statement.
    pub async fn answer_within(&self, timeout: Duration) -> Result<()> {
        self.run(&format!(
            "SET statement_timeout = {}",
            literal(&timeout.as_millis().to_string())
        ))
        .await
    }

    pub(super) fn explain(&self, cause: tokio_postgres::Error) -> Error {
        explain(format!("read from {}", self.place), cause)
    }
}
