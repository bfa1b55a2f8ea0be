//! The records that lie beside the data: where a timeline begins, and what a base holds.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

pub const SCHEMA_VERSION: u32 = 2;

/// A stretch of log that one run of the engine wrote in one role to files that only grew.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub struct Timeline {
    pub schema_version: u32,
    /// Its name: when it began, on which host, in which run of the engine.
    pub id: String,
    pub host: String,
    pub run_id: String,
    /// Redis's own word: `master` or `slave`.
    pub role: String,
    pub version: String,
    /// UTC, RFC 3339.
    pub started_at: String,
    /// The position at which the first segment begins.
    pub start: Position,
    /// The timeline that this one continues, and where; `None` if it begins with a base of its own.
    pub parent: Option<Parent>,
    /// The missing part of the log before it, with the reason; `None` if no part is known to be missing.
    pub gap: Option<Gap>,
}

/// A place in the log.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The engine's number of the increment.
    pub increment: u64,
    /// Bytes.
    pub offset: u64,
}

#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub struct Parent {
    pub timeline: String,
    /// The files do not hold what the parent has after this.
    pub up_to: Position,
}

#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub struct Gap {
    /// The last second that was shipped, since 1970; 0 if none was.
    pub after: i64,
    pub why: String,
}

/// The record of a base: its contents and its place in the log. It is put after the parts.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub struct Commit {
    pub schema_version: u32,
    /// Key of the folder that holds the parts and this record.
    pub place: String,
    /// `hourly`, `daily`, `monthly` or `kept`.
    pub class: String,
    pub timeline: String,
    pub generation: String,
    pub host: String,
    /// Redis's own word: `master` or `slave`.
    pub role: String,
    pub version: String,
    pub run_id: String,
    pub replication_id: String,
    /// Replication offset right before the base was begun: the base holds at least this.
    pub offset: u64,
    /// The position at which the log continues after the base.
    pub start: Position,
    /// The first second, since 1970, that can be restored with it.
    pub covers_from: i64,
    pub rdb_version: u32,
    /// Keys that were read back from the base.
    pub keys: u64,
    /// Keys per database when the base was begun.
    pub keyspace: BTreeMap<String, u64>,
    pub parts: Vec<Part>,
    /// The size of all parts together, compressed.
    pub bytes: u64,
    pub plain_sha256: String,
    pub plain_bytes: u64,
    /// UTC, RFC 3339.
    pub started: String,
    pub finished: String,
    /// How many keys the base before had, if this one has less than a tenth of them.
    pub fell_from: Option<u64>,
    /// redis.conf of that time, without the password of the server that it follows.
    pub redis_conf: String,
    /// users.acl of that time: digests of passwords, no passwords.
    pub users_acl: String,
}

#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub struct Part {
    pub name: String,
    /// The SHA-256 of the object, in hexadecimal.
    pub sha256: String,
    pub bytes: u64,
    pub plain_bytes: u64,
}

/// The agent's report on itself, in `status.json` in its folder.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
pub struct AgentStatus {
    pub schema_version: u32,
    pub version: String,
    /// When this was written, seconds since 1970.
    pub at: i64,
    pub timeline: String,
    /// Everything up to the end of this second is in the bucket; 0 if nothing is yet.
    pub shipped_until: i64,
    pub shipped: Position,
    /// Segments and bytes that wait on the disk.
    pub backlog_pieces: u64,
    pub backlog_bytes: u64,
    /// Objects that were put since the agent started.
    pub puts: u64,
    /// The newest gap, if there is one.
    pub gap: Option<Gap>,
    pub troubles: Vec<String>,
    /// The data that the newest full copy replaced on this host, if it is still kept.
    #[serde(default)]
    pub kept: Option<Kept>,
    /// The disk of the agent's folder, which is the engine's too; `None` from an older agent.
    #[serde(default)]
    pub disk: Option<Disk>,
}

/// Bytes of a file system.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub struct Disk {
    pub free: u64,
    pub all: u64,
}

/// The AOF set that a full copy replaced.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub struct Kept {
    /// When it was replaced, seconds since 1970.
    pub at: i64,
    pub bytes: u64,
    /// On the host; it holds an `appendonlydir`.
    pub folder: String,
}

/// The copy's report on itself, in its `status.json`.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
pub struct CopyStatus {
    pub schema_version: u32,
    pub version: String,
    /// When this was written, seconds since 1970.
    pub at: i64,
    /// Host and port that it copies.
    pub source: String,
    pub source_run_id: String,
    pub connected: bool,
    pub phase: CopyPhase,
    /// Whole sweeps of the source's present process.
    pub sweeps: u64,
    /// Keys of the source that this sweep has looked at, and all of them.
    pub keys_read: u64,
    pub keys: u64,
    /// Bytes of values that were read since the copy started.
    pub bytes: u64,
    pub last_sweep: Option<SweepReport>,
    /// When the last whole sweep ended, seconds since 1970.
    pub last_sweep_at: i64,
    /// The reason why the newest attempt failed, until one succeeds.
    pub trouble: Option<String>,
    /// `None` from a copy that watches nothing.
    #[serde(default)]
    pub watch: Option<WatchReport>,
}

/// The activity of the copy, for programs.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum CopyPhase {
    /// No sweep of the source's process has ended yet.
    #[default]
    First,
    /// Sweep after sweep.
    Following,
    /// A sweep that somebody waits for.
    Asked,
    /// It writes nothing, as it was asked to.
    Holding,
    /// A newer copy has another word.
    #[serde(other)]
    Other,
}

impl CopyPhase {
    pub fn of(sweeps: u64) -> Self {
        if sweeps == 0 {
            CopyPhase::First
        } else {
            CopyPhase::Following
        }
    }
}

/// What a whole sweep found.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
pub struct SweepReport {
    /// The source's process; empty if it does not say.
    pub source_run_id: String,
    pub keys: u64,
    /// Keys that were written, since they were new or other than at the sweep before.
    pub changed: u64,
    pub deleted: u64,
    /// Deletions that were not applied, because they are more than a tenth of the keys.
    pub held: u64,
    /// Keys that source or master refused, and the first of them.
    pub refused: u64,
    pub first_refused: Option<String>,
    /// Bytes of the largest key, as far as the source says.
    pub largest: u64,
    /// Keys that were copied in parts, since they are large.
    #[serde(default)]
    pub in_parts: u64,
    /// Keys that were read by their types, since the master does not know the source's format.
    #[serde(default)]
    pub by_type: u64,
    /// Large keys that changed whenever they were read: the master has a mixture until the next sweep.
    #[serde(default)]
    pub unsettled: u64,
    /// Members of large keys that were copied one by one, since they were written.
    #[serde(default)]
    pub members: u64,
    /// Keys that were left out by their names.
    #[serde(default)]
    pub left_out: u64,
    /// True if the functions were read too.
    pub functions: bool,
    /// By how much the master's clock is ahead of the source's; `None` if one does not say.
    pub clock_ms: Option<i64>,
    /// How long it took.
    pub ms: u64,
    /// `None` from a copy that watches nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watch: Option<WatchReport>,
}

/// The copy's knowledge of the source's writes.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
pub struct WatchReport {
    pub kind: WatchKind,
    /// The reason why there is no watch.
    pub why: Option<String>,
    /// Another one after each break; empty without a watch.
    pub id: String,
    /// A sweep that began within it has ended, so every key that is not marked has been copied.
    pub whole: bool,
    /// Keys that were written and not yet copied again.
    pub marked: u64,
    /// Requests that may have changed something, up to the last barrier.
    pub writes: u64,
    /// When the last of them ran, microseconds since 1970 by the source's clock.
    pub last_write_us: Option<u64>,
    /// How long the last barrier took.
    pub barrier_us: Option<u64>,
    /// Requests and bytes that were read.
    pub lines: u64,
    pub bytes: u64,
    /// How often a watch broke since the copy started.
    pub breaks: u64,
    /// Keys written since this was asked for; `None` if they may be any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recorded: Option<Vec<RecordedKey>>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum WatchKind {
    #[default]
    None,
    Monitor,
    /// A newer copy has another word.
    #[serde(other)]
    Other,
}

#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub struct RecordedKey {
    pub database: u32,
    /// In base64: names are bytes.
    pub name: String,
}

/// The tunnel's report on itself, in its `status.json`.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub struct TunnelStatus {
    pub schema_version: u32,
    pub version: String,
    /// When this was written, seconds since 1970.
    pub at: i64,
    /// Host and port that it leads to.
    pub source: String,
    /// Since when the newest open connection stands, seconds since 1970; `None` without one.
    pub connected_since: Option<i64>,
    /// The address of that connection.
    pub address: Option<String>,
    /// Connections that were opened since the tunnel started.
    pub opened: u64,
    /// The reason why the newest attempt failed or the newest connection ended.
    pub trouble: Option<Trouble>,
}

#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub struct Trouble {
    /// When it began, seconds since 1970.
    pub since: i64,
    pub obstacle: Obstacle,
    /// One sentence.
    pub why: String,
}

impl Obstacle {
    /// Returns true if further attempts meet it too, until somebody changes something.
    pub fn stays(self) -> bool {
        match self {
            Obstacle::CertificateChanged
            | Obstacle::AuthorityUnknown
            | Obstacle::NameDiffers
            | Obstacle::Expired
            | Obstacle::KeySize
            | Obstacle::CertificateRefused => true,
            Obstacle::Name
            | Obstacle::Refused
            | Obstacle::NoAnswer
            | Obstacle::Tls
            | Obstacle::Ended
            | Obstacle::Other => false,
        }
    }
}

/// The kind of a trouble, for programs.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Obstacle {
    /// The name does not resolve.
    Name,
    /// The address refuses the connection, or closes it before TLS has begun.
    Refused,
    /// The address does not answer.
    NoAnswer,
    /// Another leaf than the pinned one.
    CertificateChanged,
    /// No trusted authority issued the certificate.
    AuthorityUnknown,
    /// The certificate is for other names.
    NameDiffers,
    /// The certificate has ended, or has not begun.
    Expired,
    /// The certificate has an RSA key whose signatures are not verified.
    KeySize,
    /// The certificate cannot be verified, or the server lacks its key.
    CertificateRefused,
    /// TLS fails for another reason.
    Tls,
    /// An open connection ended at the source's side.
    Ended,
    /// A newer tunnel has another word.
    #[serde(other)]
    Other,
}
