//! Both servers, a folder with the files, and the program.

use redis::{Connection, Value};
use serde_json::Value as Json;
use std::cell::RefCell;
use std::path::PathBuf;
use std::process::{Child, Command};
use tempfile::TempDir;
use testkit::postgres::Postgres;
use testkit::{free_port, processes, programs, waiting};

pub struct Rig {
    pub postgres: Postgres,
    redis: Child,
    port: u16,
    connection: RefCell<Connection>,
    folder: TempDir,
}

/// The output of the program and its exit code; -1 if it was killed.
pub struct Answer {
    pub code: i32,
    /// Stdout and stderr.
    pub text: String,
    pub json: Json,
}

impl Rig {
    pub fn start() -> Rig {
        Rig::on(Postgres::start())
    }

    pub fn on(postgres: Postgres) -> Rig {
        let folder = tempfile::tempdir().unwrap();
        let port = free_port();
        let mut command = Command::new("redis-server");
        command.args(["--bind", "127.0.0.1", "--save", "", "--port", &port.to_string()]);
        command.current_dir(folder.path());
        let redis = processes::spawn(&mut command, &folder.path().join("redis.log"));
        let client = redis::Client::open(format!("redis://127.0.0.1:{port}")).unwrap();
        waiting::until("redis-server answers", || client.get_connection().is_ok());
        let connection = RefCell::new(client.get_connection().unwrap());
        std::fs::write(folder.path().join("root.pem"), postgres.authority()).unwrap();
        let infra = "name: demo\nregion: eu-west-1\nsource: {url_env: REDIS_URL}\n\
            app: {platform: command, name: demo, commands: {read: 'true', set: 'true', verify: 'true'}}\n";
        std::fs::write(folder.path().join("infra.yml"), infra).unwrap();
        Rig {
            postgres,
            redis,
            port,
            connection,
            folder,
        }
    }

    pub fn redis_url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes import.yml with these tables.
    pub fn mapping(&self, tables: &str) {
        self.mapping_with("", tables);
    }

    pub fn mapping_with(&self, more: &str, tables: &str) {
        let text = format!("source: {{url_env: DATABASE_URL}}\ntarget: {{redis: hosted}}\n{more}\ntables:\n{tables}\n");
        std::fs::write(self.path("import.yml"), text).unwrap();
    }

    pub fn infra(&self, arguments: &[&str]) -> Answer {
        self.infra_with(arguments, &[])
    }

    /// Runs `infra import` with further variables.
    pub fn infra_with(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Answer {
        let output = self.command(arguments, variables).output().unwrap();
        let stdout = String::from_utf8(output.stdout).unwrap();
        Answer {
            code: output.status.code().unwrap_or(-1),
            json: serde_json::from_str(&stdout).unwrap_or_default(),
            text: format!("{stdout}{}", String::from_utf8(output.stderr).unwrap()),
        }
    }

    pub fn command(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Command {
        let mut command = Command::new(programs::built("infra"));
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("DATABASE_URL", self.postgres.url())
            .env("REDIS_URL", self.redis_url())
            .env("SSL_CERT_FILE", self.path("root.pem"))
            // No test asks the address at which instances of AWS find their credentials.
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .envs(variables.iter().copied())
            .current_dir(self.folder.path())
            .arg("import")
            .args(arguments);
        command
    }

    /// Runs a command of Redis, words separated by spaces.
    pub fn redis(&self, words: &str) -> Value {
        let mut command = redis::Cmd::new();
        for word in words.split_whitespace() {
            command.arg(word);
        }
        command.query(&mut *self.connection.borrow_mut()).unwrap()
    }

    pub fn redis_text(&self, words: &str) -> String {
        redis::from_redis_value(self.redis(words)).unwrap()
    }

    pub fn redis_query<T: redis::FromRedisValue>(&self, command: &redis::Cmd) -> T {
        command.query(&mut *self.connection.borrow_mut()).unwrap()
    }

    /// Returns shell words that run a statement in PostgreSQL.
    pub fn shell_sql(&self, statement: &str) -> String {
        format!(
            "psql -X -q -v ON_ERROR_STOP=1 '{}' -c \"{statement}\" </dev/null",
            self.postgres.url()
        )
    }

    /// Returns shell words that run a command of Redis.
    pub fn shell_redis(&self, command: &str) -> String {
        format!("redis-cli -p {} {command} >/dev/null", self.port)
    }

    /// Returns everything that the catalogue says of tables, types, slots and publications.
    pub fn catalogue(&self) -> String {
        self.postgres.superuser_sql(
            "SELECT oid, relname, relkind, relnamespace, reltype, relowner, relhasindex, relchecks, relacl FROM pg_class ORDER BY 1;\
             SELECT attrelid, attnum, attname, atttypid FROM pg_attribute ORDER BY 1, 2;\
             SELECT oid, typname FROM pg_type ORDER BY 1; SELECT oid, proname FROM pg_proc ORDER BY 1;\
             SELECT oid, rolname, rolconfig FROM pg_roles ORDER BY 1; SELECT * FROM pg_db_role_setting;\
             SELECT slot_name FROM pg_replication_slots; SELECT pubname FROM pg_publication;",
        )
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        let _ = self.redis.kill();
        let _ = self.redis.wait();
    }
}
