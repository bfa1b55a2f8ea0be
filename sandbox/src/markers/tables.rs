//! The app's tables, and the mapping that makes keys of them.

use anyhow::{Context, Result};

use super::Database;

/// The tables of `import.yml`.
pub const MAPPING: &str = "source: {config_var: DATABASE_URL}
target: {redis: hosted}

tables:
- table: users
  key: 'user:{{ id }}'
  type: hash
- table: sessions
  key: 'session:{{ token }}'
  type: string
  value: user_id
- table: markers
  key: 'marker:{{ user_id }}:{{ collection }}'
  type: string
  value: status
- table: stats
  key: 'stats:{{ hour }}'
  type: sorted_set
  value: app
  score: hits
";

/// The hours that have statistics.
pub(super) const HOURS: u64 = 24;

/// How many rows each table has at first.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    pub users: u64,
    pub sessions: u64,
    pub markers: u64,
    pub apps: u64,
}

impl Sizes {
    /// Divides so many rows among the tables.
    fn of(rows: u64) -> Self {
        let rows = rows.max(1_000);
        Sizes {
            users: rows / 5,
            sessions: rows / 10,
            markers: rows * 6 / 10,
            apps: rows / 10 / HOURS,
        }
    }

    /// Counts the rows of the tables as they are now.
    pub(super) async fn read(database: &Database) -> Result<Self> {
        let count = async |what: &str, table: &str| -> Result<u64> {
            let counted = database.run(&format!("SELECT {what} FROM {table}")).await?;
            let counted = counted.context("count the app's rows: no answer")?;
            counted.parse().context("count the app's rows")
        };
        Ok(Sizes {
            users: count("count(*)", "users").await?,
            sessions: count("count(*)", "sessions").await?,
            markers: count("count(*)", "markers").await?,
            apps: count("count(DISTINCT app)", "stats").await?,
        })
    }
}

/// Makes the tables with so many rows in all.
pub async fn fill(database: &Database, rows: u64) -> Result<()> {
    let Sizes {
        users,
        sessions,
        markers,
        apps,
    } = Sizes::of(rows);
    let statements = format!(
        "CREATE TABLE users (id bigint PRIMARY KEY, name text NOT NULL);
CREATE TABLE sessions (token text PRIMARY KEY, user_id bigint NOT NULL);
CREATE TABLE markers (user_id bigint, collection text, status bigint NOT NULL, PRIMARY KEY (user_id, collection));
CREATE TABLE stats (hour text, app text, hits bigint NOT NULL, PRIMARY KEY (hour, app));
INSERT INTO users SELECT n, 'user ' || n FROM generate_series(0, {users} - 1) n;
INSERT INTO sessions SELECT 'token' || n, n FROM generate_series(0, {sessions} - 1) n;
INSERT INTO markers SELECT n, 'timeline', 1 FROM generate_series(0, {markers} - 1) n;
INSERT INTO stats SELECT '2026-01-31T' || h, 'app' || a, 1
 FROM generate_series(0, {HOURS} - 1) h, generate_series(0, {apps} - 1) a;
ANALYZE users, sessions, markers, stats;"
    );
    database.run(&statements).await.context("make the app's tables")?;
    Ok(())
}
