//! The command line: the commands, each with its arguments.

use crate::sequences::arguments::{
    BackupVerb, Check, Common, Down, ImportVerb, Policy, Promote, RedisCli, Replace, Resize, Restore, Rotate, Ssh,
    Status, SwitchApp, Unlock, Up, Upgrade, Verify,
};
use clap::{Parser, Subcommand};

/// Takes an app off a hosted Redis and onto a master and replica of its own, without losing a write.
#[derive(Debug, Parser)]
#[command(
    name = "infra",
    version,
    propagate_version = true,
    arg_required_else_help = true,
    max_term_width = 100
)]
#[command(
    after_help = "The way through:  infra check → infra up → infra verify → infra switch-app → infra status\n\
Exit codes: 0 done, 1 failed, 2 changes pending (--detailed-exitcode), 3 locked by somebody, 4 partly applied: run again, \
5 proof failed, 20 to 24 what `backup verify` found, 64 usage, 130 interrupted."
)]
pub struct Cli {
    #[command(flatten)]
    pub common: Common,
    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Name everything that stands in the way, with its remedy; change nothing but the pin that --pin asks for
    Check(Check),
    /// Make the cloud and the hosts what infra.yml says, and follow the source
    Up(Up),
    /// Show phase, roles, lag, memory, keys, backups and drift
    Status(Status),
    /// Compare source and master both ways: every database, type and expiry
    Verify(Verify),
    /// Let the self-run master take over from the source; later, the replica from the master
    Promote(Promote),
    /// Move the app's Redis URL from the source to the self-run master
    SwitchApp(SwitchApp),
    /// Make, list, prove and drill backups
    #[command(subcommand)]
    Backup(BackupVerb),
    /// Build the data of any covered second in a new place, and prove it
    Restore(Restore),
    /// Write tables of PostgreSQL into Redis, and prove that both are identical
    #[command(subcommand)]
    Import(ImportVerb),
    /// Give both hosts another instance type or larger disks: the replica first, then the other one by a failover
    Resize(Resize),
    /// Make a lost or sick host anew; a living master first hands its role over
    Replace(Replace),
    /// Install newer packages of the engine, and restart or reboot what upgrades ask for: the replica first
    Upgrade(Upgrade),
    /// Replace the password of a user of Redis, or of all, without an error for whoever uses it
    Rotate(Rotate),
    /// Remove the lock of a command that is gone for good, by the id that the refusal shows
    Unlock(Unlock),
    /// Remove what `up` made; backups stay, unless --delete-backups is given
    Down(Down),
    /// Print the least AWS policy that a person or an automatic run needs for this environment, as JSON
    Policy(Policy),
    /// Open a shell on a host, or run a command there
    Ssh(Ssh),
    /// Run redis-cli as the admin user of a host
    RedisCli(RedisCli),
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }
}
