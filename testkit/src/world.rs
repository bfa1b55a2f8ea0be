//! A sandbox for one test: raised with an app under load, used by the built `infra`, and taken down even if the test fails.

mod packages;
mod settings;

use crate::access::{self, Keys};
use crate::answers::Answer;
use crate::{programs, secrets, waiting};
use nix::fcntl::{Flock, FlockArg};
use sandbox::demo::ledger::Confirmed;
use serde_json::Value;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub struct World {
    folder: tempfile::TempDir,
    /// Everything that infra ever printed here.
    printed: RefCell<String>,
    /// The words, exit code and content of every answer in JSON.
    json_answers: RefCell<Vec<(String, i32, Value)>>,
    /// Every secret that was looked for, by its name; those of an environment that was removed too.
    secrets: RefCell<BTreeMap<String, String>>,
    /// The engine of the pair, where it is not the default one.
    engine: Cell<Option<&'static str>>,
    /// The keys that infra runs with, if they are not those of the sandbox's operator.
    user: RefCell<Option<Keys>>,
    _turn: Flock<File>,
}

fn sandbox() -> PathBuf {
    programs::built("sandbox")
}

/// There is room for one sandbox on a computer: tests wait for each other, whichever program they are in.
fn turn() -> Flock<File> {
    let file = File::create(access::paths().cache().join("tests.lock")).unwrap();
    Flock::lock(file, FlockArg::LockExclusive).unwrap_or_else(|(_, error)| panic!("{error}"))
}

/// A tenth of the platform's real delays.
const ORDINARY: [&str; 2] = ["--time-scale", "0.1"];

impl World {
    /// Raises the sandbox, fills the add-on and starts the app; at a tenth of the platform's real delays.
    pub fn raise(keys: u32) -> Self {
        Self::raise_as(keys, &ORDINARY)
    }

    /// The same, with the pair's engine by a seed: redis or valkey. Of two tests with neighbouring numbers, each has another one.
    pub fn raise_alternating(keys: u32, number: u64) -> Self {
        Self::raise_alternating_as(keys, number, &ORDINARY)
    }

    /// The same, on a sandbox with these settings.
    pub fn raise_alternating_as(keys: u32, number: u64, settings: &[&str]) -> Self {
        const SEED: &str = "JOURNEY_SEED";
        let given = std::env::var(SEED).ok().and_then(|text| text.parse().ok());
        let now = || {
            SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_secs())
        };
        let seed: u64 = given.unwrap_or_else(now);
        let engine = if (seed % 2) == (number % 2) { "redis" } else { "valkey" };
        println!("the pair runs {engine} by {SEED}={seed}");
        let world = Self::raise_as(keys, settings);
        world.configure_engine(engine);
        world
    }

    /// The same, on a sandbox with these settings.
    pub fn raise_as(keys: u32, settings: &[&str]) -> Self {
        let world = World {
            folder: tempfile::tempdir().unwrap(),
            printed: RefCell::default(),
            json_answers: RefCell::default(),
            secrets: RefCell::default(),
            engine: Cell::default(),
            user: RefCell::default(),
            _turn: turn(),
        };
        world.sandbox(&[&["up"], settings].concat());
        world.sandbox(&["app", "seed", "--keys", &keys.to_string()]);
        world.configure("");
        world.scale(2, 1);
        world.infra(&["check", "--pin"]).exits(0);
        world.infra(&["check"]).exits(0);
        world
    }

    /// Does what a user does by `heroku addons:attach --as` and `addons:detach`.
    pub fn keep_the_addon_under_another_name(&self) {
        let platform = |method: &str, path: &str, body: Value| self.platform(method, path, &body.to_string());
        let attachments: Value =
            serde_json::from_str(&platform("GET", "/apps/demo/addon-attachments", Value::Null)).unwrap();
        let (id, addon) = (&attachments[0]["id"], &attachments[0]["addon"]["name"]);
        platform(
            "POST",
            "/addon-attachments",
            serde_json::json!({ "addon": addon, "app": "demo", "name": "HOSTED_REDIS" }),
        );
        let path = format!("/addon-attachments/{}", id.as_str().unwrap());
        platform("DELETE", &path, serde_json::json!({}));
    }

    /// Lets the app's own check, with one of the mistakes that apps make, be what a rehearsal runs.
    pub fn rehearse_by(&self, mistake: &str) {
        let text = self.infra_yml();
        let old = text.lines().find(|line| line.starts_with("app:")).unwrap();
        let check = format!("{} app check {mistake}", sandbox().display());
        self.edit(old, &format!("app: {{name: demo, rehearse: \"{check}\"}}"));
    }

    pub fn infra(&self, arguments: &[&str]) -> Answer {
        self.infra_under(&[], arguments)
    }

    /// The same, with these variables, as `NAME=VALUE`, also where the sandbox sets them itself.
    pub fn infra_with(&self, variables: &[&str], arguments: &[&str]) -> Answer {
        let mut command = Command::new(sandbox());
        command.args(["run", "env"]).args(variables);
        self.answer(&mut command, arguments)
    }

    /// The same, with these variables where the sandbox has none of their names.
    pub fn infra_under(&self, variables: &[(&str, &str)], arguments: &[&str]) -> Answer {
        let mut command = Command::new(sandbox());
        command.arg("run").env("INFRA_FAULT_LOG", self.fault_log());
        command.envs(variables.iter().copied());
        if let Some(keys) = self.user.borrow().as_ref() {
            // In the place of what `sandbox run` sets; nobody reads them among the arguments.
            let script = "export AWS_ACCESS_KEY_ID=\"$TEST_ID\" AWS_SECRET_ACCESS_KEY=\"$TEST_SECRET\"; unset TEST_ID TEST_SECRET; exec \"$@\"";
            command
                .args(["sh", "-c", script, "sh"])
                .env("TEST_ID", &keys.id)
                .env("TEST_SECRET", &keys.secret);
        }
        self.answer(&mut command, arguments)
    }

    fn answer(&self, command: &mut Command, arguments: &[&str]) -> Answer {
        let output = command
            .arg(programs::built("infra"))
            .args(arguments)
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let answer = Answer::of(arguments, &output);
        if let (true, Some(code), Ok(json)) = (
            arguments.contains(&"--json"),
            answer.code(),
            serde_json::from_str(answer.output()),
        ) {
            let words = arguments.iter().take_while(|word| !word.starts_with('-'));
            let words: Vec<&str> = words.copied().collect();
            self.json_answers.borrow_mut().push((words.join(" "), code, json));
        }
        let mut printed = self.printed.borrow_mut();
        printed.push_str(answer.output());
        printed.push_str(answer.errors());
        answer
    }

    /// Begins a command of infra, whose output nobody reads.
    pub fn begin(&self, arguments: &[&str]) -> Child {
        let mut command = Command::new(sandbox());
        command.arg("run").arg(programs::built("infra")).args(arguments);
        command.current_dir(self.folder.path()).stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// Lets infra run with these keys from now on, or with the operator's again.
    pub fn run_as(&self, keys: Option<Keys>) {
        *self.user.borrow_mut() = keys;
    }

    pub fn status(&self) -> Value {
        self.infra(&["status", "--json"]).exits(0).json()
    }

    /// Every answer in JSON so far: the command's words, its exit code, and what it printed.
    pub fn json_answers(&self) -> Vec<(String, i32, Value)> {
        self.json_answers.borrow().clone()
    }

    /// Returns the file in which a build for tests notes each fault point that it reaches.
    pub fn fault_log(&self) -> PathBuf {
        self.folder.path().join("fault-points.log")
    }

    /// Everything that infra ever printed here.
    pub fn printed(&self) -> String {
        self.printed.borrow().clone()
    }

    /// Returns the folder in which infra runs.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn inventory(&self) -> PathBuf {
        self.folder.path().join("inventory/production.yml")
    }

    pub fn scale(&self, web: u32, worker: u32) {
        self.sandbox(&["app", "scale", &format!("web={web}"), &format!("worker={worker}")]);
    }

    /// Waits until the app has written for a while on its last side, stops it, and holds its ledgers against that side.
    #[track_caller]
    pub fn nothing_was_lost(&self, at_least: u64) {
        self.wait_for_more_writes(at_least);
        self.scale(0, 0);
        let mut confirmed = self.confirmed();
        self.until(Duration::from_secs(30), "the app to stop", || {
            let before = confirmed();
            // A worker puts its long job back up to 3 s after it was told to end.
            std::thread::sleep(Duration::from_secs(4));
            before == confirmed()
        });
        let ledger = self.ledger();
        assert_eq!(
            (&ledger["lost"], &ledger["duplicated"]),
            (&0.into(), &0.into()),
            "{ledger:#}"
        );
        self.scale(2, 1);
    }

    #[track_caller]
    pub fn wait_for_more_writes(&self, more: u64) {
        let mut confirmed = self.confirmed();
        let before = confirmed();
        self.until(Duration::from_secs(60), &format!("{more} more writes"), || {
            confirmed() >= before + more
        });
    }

    /// Returns a counter of the app's confirmed writes. It reads only new lines, while a check of the ledgers takes seconds.
    fn confirmed(&self) -> impl FnMut() -> u64 {
        let mut confirmed = Confirmed::of(&access::state_dir().join("ledger/demo"));
        move || confirmed.count().unwrap()
    }

    pub fn ledger(&self) -> Value {
        self.ledger_since(0)
    }

    /// The same; gaps and errors are those from a time on, in microseconds since 1970.
    pub fn ledger_since(&self, since_us: u64) -> Value {
        let output = Command::new(sandbox())
            .args(["ledger", "check", "--json", "--since", &since_us.to_string()])
            .output()
            .unwrap();
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)))
    }

    /// A shell command, in the folder and with the variables that infra is run with.
    pub fn in_the_sandbox(&self, command: &str) {
        let output = Command::new(sandbox())
            .args(["run", "sh", "-c", command])
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{command}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    /// Returns the sandbox's report of itself.
    pub fn sandbox_status(&self) -> Value {
        let output = Command::new(sandbox()).args(["status", "--json"]).output().unwrap();
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Returns the platform's report.
    pub fn report(&self) -> Value {
        serde_json::from_str(&self.platform("GET", "/_sandbox/report", "{}")).unwrap()
    }

    /// The app's config vars, as the platform tells them.
    pub fn vars(&self) -> BTreeMap<String, String> {
        serde_json::from_str(&self.platform("GET", "/apps/demo/config-vars", "{}")).unwrap()
    }

    pub fn set_var(&self, name: &str, value: &str) {
        self.platform(
            "PATCH",
            "/apps/demo/config-vars",
            &serde_json::json!({ name: value }).to_string(),
        );
    }

    /// A call of the platform's API.
    pub fn platform(&self, method: &str, path: &str, body: &str) -> String {
        let script = "exec curl -sS --fail-with-body -X \"$1\" -d \"$2\" -H 'Content-Type: application/json' -H 'Accept: application/vnd.heroku+json; version=3' \
                      -H \"Authorization: Bearer $HEROKU_API_KEY\" \"$HEROKU_API_URL$3\"";
        let output = Command::new(sandbox())
            .args(["run", "sh", "-c", script, "sh", method, body, path])
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{method} {path}: {} {}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// Looks for every secret that is known now, or was at an earlier look, wherever somebody may read.
    #[track_caller]
    pub fn no_secret_was_shown(&self) {
        self.infra(&["status", "-vv"]);
        let mut known = self.secrets.borrow_mut();
        known.extend(secrets::known(&self.vars()));
        assert!(
            secrets::MUST_BE_KNOWN.iter().all(|name| known.contains_key(*name)),
            "{:?}",
            known.keys()
        );
        let mut places = secrets::places();
        if let Ok(inventory) = std::fs::read_to_string(self.inventory()) {
            assert!(
                places.keys().any(|place| place.contains("state.json")),
                "{:?}",
                places.keys()
            );
            places.insert("the inventory".into(), inventory);
        }
        places.insert("what was printed".into(), self.printed.borrow().clone());
        let shown = secrets::shown(&known, &places);
        assert!(shown.is_empty(), "{shown:#?}");
    }

    #[track_caller]
    pub fn until(&self, patience: Duration, what: &str, holds: impl FnMut() -> bool) {
        // To ask often would take time from the machines.
        waiting::every(Duration::from_millis(200), patience, what, holds);
    }

    #[track_caller]
    pub fn sandbox(&self, arguments: &[&str]) {
        let output = Command::new(sandbox()).args(arguments).output().unwrap();
        assert!(
            output.status.success(),
            "`sandbox {}`: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let down = Command::new(sandbox()).arg("down").output();
        let left = match down {
            Ok(output) if output.status.success() => return,
            Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
            Err(error) => error.to_string(),
        };
        eprintln!("`sandbox down`: {left}");
        assert!(std::thread::panicking(), "something was left behind: {left}");
    }
}
