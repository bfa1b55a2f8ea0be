//! Makes bases: hourly by a timer, at a timeline's beginning, and on demand. The engine writes one
//! with a fork; the agent checks it, compresses it and puts it in parts, the commit record last.

use crate::bucket::{Bucket, Refusal};
use crate::clock;
use crate::engine::{Engine, Look};
use crate::memory::has_base;
use crate::parts;
use crate::settings::Settings;
use crate::shared::{Shared, Wanted};
use crate::spool::{second_name, write_durably};
use anyhow::{Context, Result, bail};
use infra_agent::digest;
use infra_agent::manifest::{FOLDER, Manifest};
use infra_agent::name::{self, COMMIT, Class};
use infra_agent::pauses::Pauses;
use infra_agent::rdb;
use infra_agent::record::{Commit, Part, Position, SCHEMA_VERSION};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
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

/// The parts of a base that were put.
struct Put {
    parts: Vec<Part>,
    plain_sha256: String,
}

/// Where to send the answer to a request for a base.
pub type Request = Sender<Result<Commit, String>>;

/// The newest day and month that have a base of their class.
#[derive(Default, Deserialize, Serialize)]
struct Classes {
    day: String,
    month: String,
}

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

    /// Gives a file a second name, which keeps it whatever the engine does meanwhile.
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

    /// Puts the previous base again, under a class that never expires.
    fn keep_for_ever(&self, last: &Commit, end: Instant) -> Result<()> {
        let file = self.settings.home.join("previous.rdb");
        if last.class == Class::Kept.name() || !file.exists() {
            return Ok(());
        }
        let place = self.place(Class::Kept, &last.timeline, &last.generation);
        let put = self.put(&place, &file, end)?;
        if put.plain_sha256 != last.plain_sha256 {
            bail!("{} is not the base that was put before", file.display());
        }
        let kept = Commit {
            place,
            class: Class::Kept.name().into(),
            bytes: put.parts.iter().map(|part| part.bytes).sum(),
            parts: put.parts,
            ..last.clone()
        };
        self.commit(kept, end).map(drop)
    }

    fn place(&self, class: Class, timeline: &str, generation: &str) -> String {
        format!("{}/{}/{timeline}/{generation}", self.settings.prefix, class.name())
    }

    fn put(&self, place: &str, file: &Path, end: Instant) -> Result<Put> {
        let mut parts = Vec::new();
        let plain_sha256 = parts::each(file, |body, plain_bytes| {
            let part = Part {
                name: name::part(parts.len()),
                sha256: digest::of(body),
                bytes: body.len() as u64,
                plain_bytes,
            };
            self.put_one(&format!("{place}/{}", part.name), body, end)?;
            parts.push(part);
            Ok(())
        })?;
        Ok(Put { parts, plain_sha256 })
    }

    /// Puts the commit record, after all parts.
    fn commit(&self, mut commit: Commit, end: Instant) -> Result<Commit> {
        commit.finished = clock::text(Timestamp::now());
        self.put_one(&format!("{}/{COMMIT}", commit.place), &json(&commit)?, end)?;
        Ok(commit)
    }

    fn put_one(&self, key: &str, body: &[u8], end: Instant) -> Result<()> {
        let mut pauses = Pauses::doubling(Duration::from_millis(200), Duration::from_secs(15)).until(end);
        loop {
            match self.bucket.put(key, body) {
                Ok(()) => return Ok(()),
                Err(Refusal::Final(why)) => bail!("{why}"),
                Err(Refusal::Passing(why)) => {
                    self.shared.trouble("base", Some(why.clone()));
                    if !pauses.again() {
                        bail!("{why}, until the time was over");
                    }
                }
            }
        }
    }

    /// Returns the class of a base: the first one of a day or month is kept longer.
    fn class(&self, started: Timestamp) -> (Class, Classes) {
        let mut classes: Classes = fs::read(self.settings.home.join("classes.json"))
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok())
            .unwrap_or_default();
        let class = choose_class(&clock::text(started), &mut classes);
        (class, classes)
    }
}

fn json(value: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec_pretty(value).context("write a record")
}

fn choose_class(started: &str, classes: &mut Classes) -> Class {
    let (day, month) = (started[..10].to_string(), started[..7].to_string());
    let first_of_month = day.ends_with("-01") && classes.month != month;
    let first_of_day = classes.day != day;
    classes.day = day;
    if first_of_month {
        classes.month = month;
        Class::Monthly
    } else if first_of_day {
        Class::Daily
    } else {
        Class::Hourly
    }
}

/// Returns the bytes of memory that a fork may use, by /proc/meminfo.
fn available(meminfo: &str) -> u64 {
    meminfo
        .lines()
        .filter_map(|line| {
            line.strip_prefix("MemAvailable:")
                .or_else(|| line.strip_prefix("SwapFree:"))
        })
        .filter_map(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok())
        .sum::<u64>()
        * 1024
}

/// Refuses a fork without memory for half of the data again, which a busy engine copies meanwhile.
/// Measured with 268 MB of data: 93 MB at 5,000 writes a second, 221 MB at 20,000.
fn room_for_a_fork(used: u64, available: u64) -> Result<()> {
    let needed = used / 2 + (32 << 20);
    if available < needed {
        bail!(
            "{} MiB of memory are free, a fork beside {} MiB of data may need {}: lower maxmemory or take a bigger instance",
            available >> 20,
            used >> 20,
            needed >> 20
        );
    }
    Ok(())
}

fn without_secrets(redis_conf: &str) -> String {
    const SECRET: [&str; 3] = ["masterauth", "requirepass", "tls-key-file-pass"];
    redis_conf
        .lines()
        .map(|line| match line.split_whitespace().next() {
            Some(name) if SECRET.contains(&name.to_ascii_lowercase().as_str()) => {
                format!("# {name} is not kept here\n")
            }
            _ => format!("{line}\n"),
        })
        .collect()
}

/// Removes clear passwords, which begin with `>` or `<`. Digests of passwords stay.
fn without_passwords(users_acl: &str) -> String {
    users_acl
        .lines()
        .map(|line| {
            let words: Vec<&str> = line
                .split_whitespace()
                .filter(|word| !word.starts_with(['>', '<']))
                .collect();
            words.join(" ") + "\n"
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_base_of_a_day_or_month_is_kept_longer() {
        let mut classes = Classes::default();
        let mut choose = |text: &str| choose_class(text, &mut classes).name();
        assert_eq!(
            [
                choose("2026-11-30T10:00:00Z"),
                choose("2026-11-30T11:00:00Z"),
                choose("2026-12-01T00:00:00Z"),
                choose("2026-12-01T01:00:00Z"),
                choose("2026-12-02T00:00:00Z"),
            ],
            ["daily", "hourly", "monthly", "hourly", "daily"]
        );
    }

    #[test]
    fn no_fork_without_enough_memory() {
        assert_eq!(
            available("MemTotal: 9 kB\nMemAvailable:  100 kB\nSwapFree:  28 kB\n"),
            128 << 10
        );
        assert!(room_for_a_fork(400 << 20, 300 << 20).is_ok());
        let error = room_for_a_fork(400 << 20, 200 << 20).unwrap_err().to_string();
        assert!(error.contains("232") && error.contains("bigger instance"), "{error}");
    }

    #[test]
    fn no_password_is_kept_with_the_settings() {
        let conf = without_secrets("port 0\nmasterauth \"geheim\"\nMASTERAUTH geheim\ndir /d\n");
        assert!(
            !conf.contains("geheim") && conf.contains("port 0") && conf.contains("dir /d"),
            "{conf}"
        );
        let users = without_passwords("user app on >geheim #00ff ~* +@all\n");
        assert_eq!(users, "user app on #00ff ~* +@all\n");
    }
}
