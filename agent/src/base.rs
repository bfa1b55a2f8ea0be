//! Makes bases: hourly by a timer, at a timeline's beginning, and on demand. The engine writes one
//! with a fork; the agent checks it, compresses it and puts it in parts, the commit record last.

mod class;
mod fork;
mod put;
mod redact;

use crate::bucket::Bucket;
use crate::clock;
use crate::engine::{Engine, Look};
use crate::memory::has_base;
use crate::settings::Settings;
use crate::shared::{Shared, Wanted};
use crate::spool::{second_name, write_durably};
use anyhow::{Context, Result, bail};
use class::Classes;
use fork::{available, room_for_a_fork};
use infra_agent::manifest::{FOLDER, Manifest};
use infra_agent::name::Class;
use infra_agent::pauses::Pauses;
use infra_agent::rdb;
use infra_agent::record::{Commit, Position, SCHEMA_VERSION};
use jiff::Timestamp;
use redact::{without_passwords, without_secrets};
use serde::Serialize;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

/// Limit for one base, from the fork to the commit record.
const BASE: Duration = Duration::from_secs(2700);
/// The second name of a base that the engine wrote on demand, in the agent's folder.
const BASE_FILE: &str = "base.rdb";
/// Limit for following the log to where the base begins.
const REACHED: Duration = Duration::from_secs(60);

pub struct Bases {
    pub settings: Settings,
    pub engine: Engine,
    pub bucket: Arc<Bucket>,
    pub shared: Arc<Shared>,
}

/// Where to send the answer to a request for a base.
pub type Request = Sender<Result<Commit, String>>;

/// A base's file, and what is known of it.
struct Found {
    file: PathBuf,
    timeline: String,
    start: Position,
    /// The base serves no second before this one, nor before the one in which it was made.
    not_before: Option<i64>,
    look: Look,
    started: Timestamp,
}

impl Bases {
    pub fn run(&mut self, requests: &Receiver<Request>) {
        // A timeline's first base may be in the bucket already.
        if let Some(last) = self.last() {
            self.shared.change(|state| {
                state.based.insert(last.timeline);
            });
        }
        loop {
            match requests.recv_timeout(Duration::from_millis(500)) {
                Ok(answer) => {
                    let made = self.rewrite();
                    self.tell(&made);
                    let _ = answer.send(made.map_err(|error| format!("{error:#}")));
                }
                Err(RecvTimeoutError::Timeout) => self.what_is_wanted(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn what_is_wanted(&mut self) {
        let (wanted, needed) = {
            let mut state = self.shared.lock();
            let wanted = state
                .base_wanted
                .take()
                .filter(|wanted| !state.based.contains(&wanted.timeline));
            (wanted, std::mem::take(&mut state.base_needed))
        };
        let made = match (&wanted, needed) {
            (Some(wanted), _) => self.adopt(wanted),
            (None, true) => self.rewrite(),
            (None, false) => return,
        };
        self.tell(&made);
        if made.is_err() {
            // Tries again later, unless something newer is wanted by then.
            std::thread::sleep(Duration::from_secs(10));
            self.shared.change(|state| match wanted {
                // A timeline that continues the wanted one needs its base as well.
                Some(wanted) => {
                    state.base_wanted.get_or_insert(wanted);
                }
                None => state.base_needed = true,
            });
        }
    }

    /// Reports the result in `status`, and in `failed.json` for a later look at the host.
    fn tell(&self, made: &Result<Commit>) {
        let failed = self.settings.home.join("failed.json");
        match made {
            Ok(commit) => {
                self.shared.trouble("base", None);
                let _ = fs::remove_file(failed);
                println!(
                    "base {}: {} keys, {} bytes ({} uncompressed) in {} parts",
                    commit.place,
                    commit.keys,
                    commit.bytes,
                    commit.plain_bytes,
                    commit.parts.len()
                );
            }
            Err(error) => {
                // The link would keep the file's space after the engine has removed its own name.
                let _ = fs::remove_file(self.settings.home.join(BASE_FILE));
                let what = format!("{error:#}");
                let text = serde_json::json!({"at": clock::text(Timestamp::now()), "error": what}).to_string();
                if let Err(error) = write_durably(&failed, text.as_bytes()) {
                    eprintln!("infra-agent: base: {error:#}");
                }
                self.shared.trouble("base", Some(what));
            }
        }
    }

    /// Returns the newest base of this host.
    fn last(&self) -> Option<Commit> {
        serde_json::from_slice(&fs::read(self.settings.home.join("last.json")).ok()?).ok()
    }

    fn manifest(&self) -> Result<Manifest> {
        Manifest::read(&self.settings.data).context("read the engine's list of its files")
    }

    /// Has the engine write a base now, and puts it.
    fn rewrite(&mut self) -> Result<Commit> {
        let end = Instant::now() + BASE;
        let started = Timestamp::now();
        let look = self.settled(end, "an earlier base, or loading, goes on")?;
        if !look.log_enabled {
            bail!("the engine's append-only log is off");
        }
        let memory = fs::read_to_string("/proc/meminfo").context("read /proc/meminfo")?;
        room_for_a_fork(look.used_memory, available(&memory))?;
        let before = self.manifest()?.base;
        self.engine.rewrite()?;
        // The new increment is listed with the old base until the new base is whole. Listed
        // together, it is known to continue the last one.
        let listed = self.manifest()?;
        if listed.base == before {
            self.shared.change(|state| {
                let numbers: Vec<u64> = listed.increments.iter().map(|file| file.sequence).collect();
                state.joints.extend(numbers.windows(2).map(|pair| (pair[0], pair[1])));
            });
        }
        let after = self.settled(end, "the engine is still writing the base")?;
        if after.run_id != look.run_id {
            bail!("the engine restarted meanwhile");
        }
        let manifest = self.manifest()?;
        let (Some(base), Some(first)) = (&manifest.base, manifest.increments.first()) else {
            bail!("the engine lists no base");
        };
        if !after.last_rewrite_ok || manifest.base == before {
            bail!("the engine could not write the base: see its log");
        }
        let file = self.keep(&self.settings.data.join(FOLDER).join(&base.name))?;
        let start = Position {
            increment: first.sequence,
            offset: 0,
        };
        // The timeline is that of the increment's beginning: the role may have changed since.
        let Some(reached) = self
            .shared
            .wait(REACHED, |state| state.start(start.increment, &look.run_id))
        else {
            let trouble = self.shared.lock().troubles.get("log").cloned();
            bail!(
                "the log was not followed to where the base begins: {}",
                trouble.as_deref().unwrap_or("it was not reached in time")
            );
        };
        self.finish(
            &Found {
                file,
                timeline: reached.timeline,
                start,
                not_before: reached.second,
                look,
                started,
            },
            end,
        )
    }

    /// Puts the base that a timeline begins with, as the engine left it on the disk.
    fn adopt(&mut self, wanted: &Wanted) -> Result<Commit> {
        let look = self.engine.look()?;
        let found = Found {
            file: wanted.file.clone(),
            timeline: wanted.timeline.clone(),
            start: wanted.start,
            // Earlier seconds do not count: the files may be from a restore or from another server.
            not_before: Some(wanted.began),
            look,
            started: Timestamp::now(),
        };
        self.finish(&found, Instant::now() + BASE)
    }

    /// Gives a file a second name, so that it stays when the engine removes its own name.
    fn keep(&self, file: &Path) -> Result<PathBuf> {
        let kept = self.settings.home.join(BASE_FILE);
        second_name(file, &kept)?;
        Ok(kept)
    }

    fn settled(&mut self, end: Instant, what: &str) -> Result<Look> {
        let mut pauses = Pauses::even(Duration::from_millis(200)).until(end);
        loop {
            let look = self.engine.look()?;
            if !look.loading && !look.copying && !look.forked {
                return Ok(look);
            }
            if !pauses.again() {
                bail!("not done after {} minutes: {what}", BASE.as_secs() / 60);
            }
        }
    }

    fn finish(&mut self, found: &Found, end: Instant) -> Result<Commit> {
        let mut file = File::open(&found.file).with_context(|| format!("open {}", found.file.display()))?;
        let header = rdb::header(&mut file).context("the file is no base: its first bytes are not those of a base")?;
        let (class, classes) = self.class(found.started);
        let generation = clock::name(found.started);
        let place = self.place(class, &found.timeline, &generation);
        let redis_conf = without_secrets(&fs::read_to_string(&self.settings.config_file).context("read redis.conf")?);
        let users_acl = without_passwords(&fs::read_to_string(&self.settings.users_file).context("read users.acl")?);
        // The check comes before any put, so that no damaged base reaches the bucket.
        let keys = rdb::count(&self.settings.rdb_check, &found.file)?;
        let before = self.last();
        let fell_from = before
            .as_ref()
            .map(|last| last.keys)
            .filter(|before| keys < before / 10);
        if let (Some(_), Some(last)) = (fell_from, &before) {
            self.keep_for_ever(last, end)
                .context("keep the base from before the fall of the number of keys")?;
        }
        let put = self.put(&place, &found.file, end)?;
        let commit = Commit {
            schema_version: SCHEMA_VERSION,
            place,
            class: class.name().into(),
            timeline: found.timeline.clone(),
            generation,
            host: self.settings.label.clone(),
            role: found.look.role.clone(),
            version: found.look.version.clone(),
            run_id: found.look.run_id.clone(),
            replication_id: found.look.replication_id.clone(),
            offset: found.look.offset,
            start: found.start,
            covers_from: header.created.unwrap_or(0).max(found.not_before.unwrap_or(0)),
            rdb_version: header.version,
            keys,
            keyspace: found.look.keyspace.clone(),
            bytes: put.parts.iter().map(|part| part.bytes).sum(),
            plain_sha256: put.plain_sha256,
            plain_bytes: put.parts.iter().map(|part| part.plain_bytes).sum(),
            parts: put.parts,
            started: clock::text(found.started),
            finished: String::new(),
            fell_from,
            redis_conf,
            users_acl,
        };
        let commit = self.commit(commit, end)?;
        // The base is remembered last: a crash in between costs one more base and forgets none.
        let home = &self.settings.home;
        write_durably(&home.join("classes.json"), &json(&classes)?)?;
        fs::rename(&found.file, home.join("previous.rdb")).context("keep the base for the next one")?;
        write_durably(&home.join("last.json"), &json(&commit)?)?;
        has_base(home, &commit.timeline)?;
        self.shared.change(|state| {
            state.based.insert(commit.timeline.clone());
        });
        if let Some(before) = fell_from {
            self.shared.trouble(
                "keys",
                Some(format!(
                    "the newest base has {keys} keys, the one before it had {before}; that one is kept under `kept/`"
                )),
            );
        } else {
            self.shared.trouble("keys", None);
        }
        Ok(commit)
    }

    /// Returns the class of a base: the first one of a day or month is kept longer.
    fn class(&self, started: Timestamp) -> (Class, Classes) {
        let mut classes: Classes = fs::read(self.settings.home.join("classes.json"))
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok())
            .unwrap_or_default();
        let class = class::choose(&clock::text(started), &mut classes);
        (class, classes)
    }
}

fn json(value: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec_pretty(value).context("write a record")
}
