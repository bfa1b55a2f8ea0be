//! The arguments of each command.

use crate::model::secrets::RedisUser;
use crate::model::values::{Pin, Span};
use crate::sequences::cutover::FenceKind;
use clap::{Args, Subcommand, ValueEnum};
use std::path::PathBuf;
use std::time::Duration;

#[derive(Clone, Debug, Args)]
pub struct Common {
    /// Environment: its state, inventory and resources are apart from every other's
    #[arg(
        long,
        global = true,
        default_value = "production",
        env = "INFRA_ENV",
        value_name = "NAME",
        help_heading = "Common options"
    )]
    pub env: String,
    /// File that says what is wanted
    #[arg(
        long,
        global = true,
        default_value = "infra.yml",
        value_name = "FILE",
        help_heading = "Common options"
    )]
    pub config: PathBuf,
    /// Folder that the inventory is written to
    #[arg(
        long,
        global = true,
        default_value = "inventory",
        value_name = "DIR",
        help_heading = "Common options"
    )]
    pub inventory: PathBuf,
    /// Print data as JSON on stdout
    #[arg(long, global = true, help_heading = "Common options")]
    pub json: bool,
    /// Give up on the whole command after this long, such as 90s or 30m
    #[arg(long, global = true, value_parser = duration, default_value = "30m", value_name = "TIME", help_heading = "Common options")]
    pub timeout: Duration,
    /// Say more on stderr; -vv also shows every request
    #[arg(short, long, global = true, action = clap::ArgAction::Count, help_heading = "Common options")]
    pub verbose: u8,
    /// Say nothing on stderr but warnings and errors
    #[arg(
        short,
        long,
        global = true,
        conflicts_with = "verbose",
        help_heading = "Common options"
    )]
    pub quiet: bool,
    /// Colour on stderr and in tables; NO_COLOR is honoured
    #[arg(long, global = true, value_enum, default_value_t = Color::Auto, value_name = "WHEN", help_heading = "Common options")]
    pub color: Color,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Color {
    Auto,
    Always,
    Never,
}

#[derive(Debug, Args)]
pub struct Status {
    /// Exit 1 if there is any finding, for cron and CI; drift and upkeep do not count
    #[arg(long)]
    pub exit_code: bool,
    /// Print the figures for Prometheus instead, for the textfile collector of a node exporter
    #[arg(long)]
    pub metrics: bool,
}

#[derive(Debug, Subcommand)]
pub enum BackupVerb {
    /// Have the master make a base now, and read it back
    Now,
    /// Show bases, the seconds that can be restored, gaps, sizes and cost
    List,
    /// Read every object and prove it: exit 20 stale, 21 gap, 22 checksum, 23 does not load, 24 unreachable
    Verify(VerifyBackups),
    /// Restore a random covered second, load it for real, compare keys of it with the live master, and throw it away
    Drill(Drill),
}

#[derive(Debug, Subcommand)]
pub enum ImportVerb {
    /// Write a first import.yml from the database's schema, with comments
    Init(ImportInit),
    /// Show rows, keys, memory, time and what the import costs the database; change nothing
    Plan(ImportFile),
    /// Write every row whose key is not there yet; leave what the app wrote or deleted
    Run(ImportRun),
    /// Compare every row with its key, and every key with its row: exit 5 if they are not identical
    Verify(ImportVerify),
    /// Bring what changes in PostgreSQL to Redis, until it is ended; run again, it goes on
    Follow(ImportFollow),
    /// Show how far the import is followed, and what that costs the database
    Status(ImportFile),
    /// Compare for the last time, then remove slot and publication from PostgreSQL
    Finish(ImportFinish),
}

impl ImportVerb {
    /// Returns how long the command may take if one comparison, or any other command, may take `timeout`.
    pub fn timeout(&self, timeout: Duration) -> Duration {
        match self {
            ImportVerb::Verify(arguments) => timeout.saturating_add(arguments.watch.unwrap_or_default()),
            ImportVerb::Follow(ImportFollow { once: true, .. }) => timeout,
            ImportVerb::Follow(arguments) => arguments
                .span
                .map_or(Duration::MAX, |span| timeout.saturating_add(span)),
            ImportVerb::Init(_)
            | ImportVerb::Plan(_)
            | ImportVerb::Run(_)
            | ImportVerb::Status(_)
            | ImportVerb::Finish(_) => timeout,
        }
    }
}

#[derive(Debug, Args)]
pub struct ImportFile {
    /// File that says which tables become which keys
    #[arg(long, default_value = "import.yml", value_name = "FILE")]
    pub file: PathBuf,
    /// Only these tables, by their names in the file
    #[arg(value_name = "TABLE")]
    pub tables: Vec<String>,
}

#[derive(Debug, Args)]
pub struct ImportInit {
    /// File to write; one that exists is left
    #[arg(long, default_value = "import.yml", value_name = "FILE")]
    pub file: PathBuf,
    /// The app's config var that holds the database's URL
    #[arg(long, default_value = "DATABASE_URL", value_name = "VAR", conflicts_with = "url_env")]
    pub config_var: String,
    /// Instead: the environment variable of infra itself that holds the URL
    #[arg(long, value_name = "VAR")]
    pub url_env: Option<String>,
    /// Digest of the server's certificate, if no public authority vouches for it
    #[arg(long, value_name = "sha256:HEX")]
    pub tls_pin: Option<Pin>,
}

#[derive(Debug, Args)]
pub struct ImportRun {
    #[command(flatten)]
    pub file: ImportFile,
    /// Replace values that differ by the rows' own, although the app may have written them
    #[arg(long)]
    pub replace: bool,
    /// Begin at the first row, also if an earlier run was killed half way
    #[arg(long)]
    pub restart: bool,
}

#[derive(Debug, Args)]
pub struct ImportFollow {
    #[command(flatten)]
    pub file: ImportFile,
    /// End as soon as everything up to now is followed
    #[arg(long)]
    pub once: bool,
    /// End after this time
    #[arg(long = "for", value_parser = duration, value_name = "TIME")]
    pub span: Option<Duration>,
    /// Pause between two looks, if nothing is left to do
    #[arg(long, value_parser = duration, default_value = "1s", value_name = "TIME")]
    pub pause: Duration,
}

#[derive(Debug, Args)]
pub struct ImportFinish {
    #[command(flatten)]
    pub comparison: ImportComparison,
    /// Set this config var of the app afterwards, such as the one that says where it reads
    #[arg(long, value_name = "NAME=VALUE")]
    pub set: Option<String>,
    /// Do not ask before the app's config var is set
    #[arg(long)]
    pub yes: bool,
    /// Remove slot and publication without a comparison
    #[arg(long, conflicts_with = "set")]
    pub abandon: bool,
}

#[derive(Debug, Args)]
pub struct ImportVerify {
    #[command(flatten)]
    pub comparison: ImportComparison,
    /// Compare again and again for this time, such as 48h, and keep a history: exit 5 if any look found a difference.
    /// Run again after an interruption, it goes on counting
    #[arg(long, value_parser = duration, value_name = "TIME")]
    pub watch: Option<Duration>,
    /// Time from one look of --watch to the next
    #[arg(long, value_parser = duration, default_value = "30m", value_name = "TIME", requires = "watch")]
    pub every: Duration,
    /// Begin a new watch, also if an earlier one was interrupted
    #[arg(long, requires = "watch")]
    pub restart: bool,
}

#[derive(Debug, Args)]
pub struct ImportComparison {
    #[command(flatten)]
    pub file: ImportFile,
    /// Rounds to let differences converge in; later rounds look only at what differed
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: u32,
    /// Pause between two rounds
    #[arg(long, value_parser = duration, default_value = "1s", value_name = "TIME")]
    pub pause: Duration,
    /// How many of the differences to name
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    pub first: u32,
}

#[derive(Debug, Args)]
pub struct VerifyBackups {
    /// Do not have an engine load the newest state
    #[arg(long)]
    pub without_load: bool,
}

#[derive(Debug, Args)]
pub struct Drill {
    /// On this computer, with the redis-server or valkey-server at hand, instead of an instance that is made for it. If none fits, the replica's engine loads it
    #[arg(long)]
    pub local: bool,
    /// The second to restore, such as 2026-11-28T01:02:03Z; default: a random one
    #[arg(long, value_name = "TIME", conflicts_with = "latest")]
    pub at: Option<jiff::Timestamp>,
    /// The newest data that there is
    #[arg(long)]
    pub latest: bool,
}

#[derive(Debug, Args)]
pub struct Restore {
    /// The data as it was at the end of this second, such as 2026-11-28T01:02:03Z
    #[arg(long, value_name = "TIME", group = "what")]
    pub at: Option<jiff::Timestamp>,
    /// The newest data that there is
    #[arg(long, group = "what")]
    pub latest: bool,
    /// A base alone, as `backup list` names it
    #[arg(long, value_name = "ID", group = "what")]
    pub backup: Option<String>,
    /// Data from somewhere else: an RDB file, such as a hosted provider lets you download. It takes the place of the master's data, or goes onto an instance
    #[arg(long, value_name = "FILE", group = "what", conflicts_with_all = ["keys", "shift_ttl", "without_load"])]
    pub from: Option<PathBuf>,
    /// Where: `file DIR`, a data folder on this computer; `instance`, a new one beside the pair; `live`, the master itself; or `pair`, two new hosts in the place of those that are gone
    #[arg(long, num_args = 1..=2, value_names = ["WHERE", "DIR"], required_unless_present_any = ["remove", "from"])]
    pub to: Vec<String>,
    /// End the instances that `--to instance` has made
    #[arg(long, conflicts_with_all = ["what", "to", "keys", "shift_ttl", "without_load"])]
    pub remove: bool,
    /// Only the keys of this pattern, such as 'user:*' (*, ? and [a-z] as in Redis): into the live master beside all that is there, or with `--to file` as a file of commands
    #[arg(long, value_name = "PATTERN")]
    pub keys: Option<String>,
    /// Let keys keep the remaining life that they had at that time, instead of ending when they were to end
    #[arg(long)]
    pub shift_ttl: bool,
    /// Do not have an engine load it
    #[arg(long, conflicts_with_all = ["keys", "shift_ttl"])]
    pub without_load: bool,
    #[command(flatten)]
    pub confirmed: Confirmed,
}

/// Where a restore goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    File(PathBuf),
    Instance,
    Live,
    Pair,
}

impl Restore {
    pub fn target(&self) -> crate::model::error::Result<Target> {
        match self.to.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
            [] | ["live"] if self.from.is_some() => Ok(Target::Live),
            ["instance"] if self.from.is_some() => Ok(Target::Instance),
            _ if self.from.is_some() => Err(crate::model::error::Error::usage("restore an RDB file elsewhere than into the master or onto an instance")
                .hint("leave --to out, or give `--to instance`; a data folder of it is `appendonlydir` with the file as its base, see docs/backups.md")),
            ["file", folder] => Ok(Target::File(folder.into())),
            ["instance"] => Ok(Target::Instance),
            ["live"] => Ok(Target::Live),
            ["pair"] => Ok(Target::Pair),
            ["file"] => Err(crate::model::error::Error::usage("accept --to file: it needs a folder")
                .hint("such as `--to file ./restored`")),
            _ => Err(crate::model::error::Error::usage(format!("accept --to {}", self.to.join(" ")))
                .hint("`--to file DIR` builds a data folder on this computer, `--to instance` on a new one beside the pair, `--to live` puts it in the place of the master's data, `--to pair` onto two new hosts in the place of those that are gone")),
        }
    }
}

#[derive(Debug, Args)]
pub struct Check {
    /// Print the digest of the source's TLS certificate and write it into infra.yml as source.tls_pin
    #[arg(long)]
    pub pin: bool,
    #[command(flatten)]
    pub leave: Leave,
}

#[derive(Clone, Debug, Default, Args)]
pub struct Leave {
    /// An app that may stay on the source although it uses the same Redis; can be given several times
    #[arg(long, value_name = "APP")]
    pub leave: Vec<String>,
}

#[derive(Debug, Args)]
pub struct Up {
    #[command(flatten)]
    pub change: Change,
    /// With --dry-run: exit 2 when there are changes to make
    #[arg(long, requires = "dry_run")]
    pub detailed_exitcode: bool,
    /// The agent for the hosts, and beside it the engine's module; default: INFRA_AGENT, or else infra-agent-x86_64 or infra-agent-aarch64 beside this program
    #[arg(long, value_name = "FILE")]
    pub agent: Option<PathBuf>,
    /// Make a master anew although it would be empty, and the replica would copy that: both hosts' data are given up
    #[arg(long)]
    pub empty_master: bool,
}

#[derive(Clone, Debug, Args)]
pub struct Change {
    /// Print what would be done, and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask before ordinary changes
    #[arg(long, short = 'y')]
    pub yes: bool,
}

#[derive(Debug, Args)]
pub struct Verify {
    /// Rounds to let differences converge in; later rounds look only at the keys that differed
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: u32,
    /// Pause between two rounds
    #[arg(long, value_parser = duration, default_value = "1s", value_name = "TIME")]
    pub pause: Duration,
    /// How many of the differing keys to name
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    pub first: u32,
    /// Compare the pair's master with another Redis, whose URL is in this environment variable
    #[arg(long, value_name = "NAME")]
    pub against: Option<String>,
}

#[derive(Clone, Debug, Args)]
pub struct Confirmed {
    /// Name of the environment's deployment (`name` in infra.yml), instead of being asked for it
    #[arg(long, value_name = "NAME")]
    pub confirm: Option<String>,
    /// Print the steps that would be taken, and take none
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Debug, Args)]
pub struct Promote {
    #[command(flatten)]
    pub confirmed: Confirmed,
    #[command(flatten)]
    pub leave: Leave,
    /// How long the source's writes stay paused for `switch-app` to take over; after that the app uses the source again
    ///
    /// Default: 120s. If the source cannot be paused, the app is stopped instead and stays stopped until
    /// `switch-app`. Then the flag must be given, to confirm that this is wanted.
    #[arg(long, value_parser = duration, value_name = "TIME")]
    pub hold: Option<Duration>,
    /// How to keep writes from the source: pause them there, or stop the app. Default: a pause if the source allows one
    #[arg(long, value_enum, value_name = "KIND")]
    pub fence: Option<FenceKind>,
    /// Follow a source that lost more than a tenth of its keys since it was last compared, although the master would lose them too
    #[arg(long)]
    pub accept_loss: bool,
    /// For a copied source without MONITOR: let the app wait for longer than a minute while all keys are compared
    #[arg(long)]
    pub without_watch: bool,
    /// How long a process that was asked to stop may live on; counts where the app is stopped. Heroku kills it after 30 s
    #[arg(long, value_parser = duration, default_value = "31s", value_name = "TIME")]
    pub grace: Duration,
    /// Rounds in which the full comparison may converge before the fence
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: u32,
    /// The master is gone or no longer works: stop its instance, and promote the replica once EC2 says that it is
    /// stopped
    ///
    /// Writes that the replica has not got are not on it. If EC2 does not say so in time, a network ACL cuts the instance
    /// off, provided that nobody else is in its subnet. If that cannot be proven either, nothing is promoted, and the exit
    /// code is 5.
    #[arg(long, conflicts_with_all = ["hold", "fence", "leave", "accept_loss"])]
    pub force: bool,
    /// With --force: how long the instance may take to stop; it is stopped hard after a fifth of it, and cut off after three
    /// tenths
    #[arg(long, value_parser = duration, default_value = "5m", value_name = "TIME", requires = "force")]
    pub fence_timeout: Duration,
}

#[derive(Debug, Args)]
pub struct SwitchApp {
    #[command(flatten)]
    pub confirmed: Confirmed,
    #[command(flatten)]
    pub leave: Leave,
    /// Try the app's way into its new Redis with a one-off process of its own, and change nothing
    #[arg(long, conflicts_with_all = ["dry_run", "confirm"])]
    pub rehearse: bool,
    /// Go on although the last rehearsal failed
    #[arg(long, conflicts_with = "rehearse")]
    pub without_rehearsal: bool,
    /// Set the app's vars back to the source and follow it again; refused once the new side was written to
    #[arg(long, conflicts_with_all = ["longest_pause", "rounds", "watch", "rehearse"])]
    pub back: bool,
    /// How to keep writes from the source: pause them there, or stop the app. Default: a pause if the source allows one
    #[arg(long, value_enum, value_name = "KIND")]
    pub fence: Option<FenceKind>,
    /// Follow a source that lost more than a tenth of its keys since it was last compared, although the master would lose them too
    #[arg(long)]
    pub accept_loss: bool,
    /// For a copied source without MONITOR: let the app wait for longer than a minute while all keys are compared
    #[arg(long)]
    pub without_watch: bool,
    /// How long a process that was replaced or stopped may live on; the source stays fenced for so long. Heroku kills it after 30 s
    #[arg(long, value_parser = duration, default_value = "31s", value_name = "TIME")]
    pub grace: Duration,
    /// How long the source is watched for late writes once the app has moved
    #[arg(long, value_parser = duration, default_value = "5s", value_name = "TIME")]
    pub watch: Duration,
    /// Longest pause of the source's writes while release and restarts are under way
    #[arg(long, value_parser = duration, default_value = "1h", value_name = "TIME")]
    pub longest_pause: Duration,
    /// Rounds in which the full comparison may converge before the fence
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: u32,
}

#[derive(Debug, Args)]
pub struct Rotate {
    /// Whose password; without a name, everybody's, one after the other
    #[arg(value_enum)]
    pub user: Option<RedisUser>,
    #[command(flatten)]
    pub change: Change,
    /// How long a process that was asked to stop may live on. Heroku kills it after 30 s
    #[arg(long, value_parser = duration, default_value = "31s", value_name = "TIME")]
    pub grace: Duration,
    /// How long one-off processes and others that hold the app's old password may take to go; both passwords are accepted meanwhile
    #[arg(long, value_parser = duration, default_value = "10m", value_name = "TIME")]
    pub wait: Duration,
    /// Disconnect clients that still use the app's old password, if it got into wrong hands
    #[arg(long)]
    pub cut_off: bool,
}

#[derive(Debug, Args)]
pub struct Resize {
    #[command(flatten)]
    pub confirmed: Confirmed,
    /// EC2 instance type; it is written into infra.yml as `hosts.instance_type`. Default: what infra.yml says
    #[arg(long = "type", value_name = "TYPE")]
    pub instance_type: Option<String>,
    /// Size of each disk in GiB; it is written into infra.yml as `hosts.disk_gb`. Default: what infra.yml says
    #[arg(long, value_name = "GB")]
    pub disk_gb: Option<u32>,
}

#[derive(Debug, Args)]
pub struct Replace {
    /// `master`, `replica`, the host's name or its instance id
    #[arg(value_name = "HOST")]
    pub host: String,
    #[command(flatten)]
    pub confirmed: Confirmed,
}

#[derive(Debug, Args)]
pub struct Upgrade {
    #[command(flatten)]
    pub confirmed: Confirmed,
}

#[derive(Debug, Args)]
pub struct Unlock {
    /// The lock's id: a refused command shows it, with its holder, host and time
    #[arg(value_name = "ID")]
    pub id: String,
    /// Do not ask
    #[arg(long, short = 'y')]
    pub yes: bool,
}

#[derive(Debug, Args)]
pub struct Down {
    #[command(flatten)]
    pub confirmed: Confirmed,
    /// Also delete all backups of the deployment; repeat its name
    #[arg(long, value_name = "NAME")]
    pub delete_backups: Option<String>,
}

#[derive(Debug, Args)]
pub struct Policy {
    /// For whom: `operator`, every command; `ci`, those that change neither permissions nor the bucket's protection and take nothing away; `fence`, what `promote --force` needs
    /// in addition to cut off an old master by a network ACL
    #[arg(value_enum, default_value_t = Audience::Operator)]
    pub audience: Audience,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Audience {
    Operator,
    Ci,
    /// In addition to one of the others: cut off an old master by a network ACL
    Fence,
}

#[derive(Debug, Args)]
pub struct Ssh {
    /// Which host
    #[arg(value_enum)]
    pub host: Host,
    /// Lead this port of this computer to the host's exporter of the machine, and the next port to that of the engine, until Ctrl-C
    #[arg(long, value_name = "PORT", conflicts_with = "command", value_parser = clap::value_parser!(u16).range(1..65535))]
    pub exporters: Option<u16>,
    /// Command to run instead of a shell
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

#[derive(Debug, Args)]
pub struct RedisCli {
    /// Which host
    #[arg(value_enum, default_value_t = Host::Master)]
    pub host: Host,
    /// Arguments for redis-cli
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGS")]
    pub arguments: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Host {
    Master,
    Replica,
    /// The newest instance that `infra restore --to instance` has made
    Restored,
}

/// Parses a span of at most a week, such as `90s`, `2m` or `1h`; a bare number is seconds.
fn duration(text: &str) -> Result<Duration, String> {
    let Span(span) = text.parse()?;
    if span > Duration::from_secs(7 * 86_400) {
        return Err(format!("{text:?} is more than a week"));
    }
    Ok(span)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_week_at_most() {
        assert_eq!(duration("90"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("168h"), Ok(Duration::from_secs(7 * 86_400)));
        assert!(duration("169h").is_err() && duration("soon").is_err());
    }
}
