//! The command line: the arguments, and the module of each verb.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::paths::Paths;
use crate::settings::{Settings, runtime};

/// A local cloud on this computer: AWS APIs, real machines behind them, and no way out.
#[derive(Parser)]
#[command(name = "sandbox", version, max_term_width = 120)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Raise the sandbox and leave it running
    Up(Settings),
    /// Show its parts and machines; fails if one of them is dead
    Status {
        /// Print one JSON document
        #[arg(long)]
        json: bool,
    },
    /// Remove the sandbox: processes, machines, network, mounts and files; the cache stays
    Down,
    /// Run a command with the variables that lead AWS and Heroku clients into the sandbox
    Run {
        /// The command and its arguments
        #[arg(
            required = true,
            trailing_var_arg = true,
            allow_hyphen_values = true,
            value_name = "CMD"
        )]
        command: Vec<OsString>,
    },
    /// Build the machines' image and the Python environment into the cache, and stop there
    Image,
    #[command(flatten)]
    App(crate::demo::Command),
    /// Tell the whole story: raise, fill, move the app, reboot the replica, judge the ledgers, remove
    Demo(crate::story::Arguments),
    /// Measure: how long the commands take, how long the source is fenced, at several rates of writing
    Bench(crate::bench::Arguments),
    /// The process that `up` leaves running
    #[command(hide = true)]
    Supervise(Settings),
}

/// Parses the arguments, runs the verb and returns the exit code: 0 done, 1 failed, 64 usage.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() {
                ExitCode::from(64)
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    // One TLS implementation serves the whole process. Installing it again changes nothing.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match run(arguments.verb) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("sandbox: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(verb: Verb) -> Result<ExitCode> {
    let paths = Paths::from_environment()?;
    match verb {
        Verb::Up(settings) => crate::up::up(&paths, &settings),
        Verb::Status { json } => crate::status::status(&paths, json),
        Verb::Down => crate::down::down(&paths),
        Verb::Run { command } => crate::run::run(&paths, &command),
        Verb::Image => crate::up::prepare(&paths).map(|()| ExitCode::SUCCESS),
        Verb::App(command) => runtime()?.block_on(command.run()),
        Verb::Demo(arguments) => crate::story::run(&arguments),
        Verb::Bench(arguments) => crate::bench::run(&arguments),
        Verb::Supervise(settings) => crate::supervisor::supervise(&paths, &settings),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addon::{Engine, Profile, Tls};
    use crate::source::Source;

    #[test]
    fn settings_survive_the_way_to_the_supervisor() {
        let given = [
            "sandbox",
            "up",
            "--time-scale",
            "0.25",
            "--source=cloud",
            "--addon-tls",
            "off",
            "--addon-engine=redis-6.2",
            "--addon-profile=no-pause",
            "--rtt=80",
            "--addon-postgres",
            "--knobs",
            "--no-app",
        ];
        let Verb::Up(settings) = Arguments::try_parse_from(given).unwrap().verb else {
            panic!("not up")
        };
        let again = ["sandbox".to_owned(), "supervise".to_owned()]
            .into_iter()
            .chain(settings.as_arguments());
        let Verb::Supervise(passed) = Arguments::try_parse_from(again).unwrap().verb else {
            panic!("not supervise")
        };
        assert_eq!(
            (
                passed.time_scale,
                passed.addon_tls,
                passed.rtt,
                passed.no_app,
                passed.knobs
            ),
            (0.25, Some(Tls::Off), 80, true, true)
        );
        assert_eq!(
            (passed.addon_engine, passed.addon_profile, passed.addon_postgres),
            (Some(Engine::Redis62), Some(Profile::NoPause), true)
        );
        assert_eq!(passed.source, Source::Cloud);
        assert_eq!(passed.rented(), settings.rented());
    }

    #[test]
    fn a_negative_time_scale_is_a_usage_error() {
        assert!(Arguments::try_parse_from(["sandbox", "up", "--time-scale=-1"]).is_err());
    }
}
