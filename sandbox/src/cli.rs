//! The command line: arguments, and which room each verb is in.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::addon::{Engine, Profile};
use crate::paths::Paths;

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

/// How the sandbox is raised.
#[derive(Debug, Clone, Args)]
pub struct Settings {
    /// Factor on the platform's delays, such as a dyno's boot; 1 is as slow as the real one
    #[arg(long, default_value_t = 1.0, value_name = "FACTOR", value_parser = time_scale)]
    pub time_scale: f64,
    /// Whether the hosted add-on speaks TLS
    #[arg(long, value_enum, default_value_t = Switch::On, value_name = "SWITCH")]
    pub addon_tls: Switch,
    /// What the hosted add-on is; fetched once if it is not this computer's own
    #[arg(long, value_enum, default_value_t = Engine::Redis7, value_name = "ENGINE")]
    pub addon_engine: Engine,
    /// What the add-on's host lets its renter do
    #[arg(long, value_enum, default_value_t = Profile::Default, value_name = "PROFILE")]
    pub addon_profile: Profile,
    /// Milliseconds of a round trip between what `sandbox run` runs and everything else; 80 is another continent
    #[arg(long, default_value_t = 0, value_name = "MS", value_parser = clap::value_parser!(u64).range(..=10_000))]
    pub rtt: u64,
    /// Do not create the demo app and its add-on
    #[arg(long)]
    pub no_app: bool,
}

/// On or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    On,
    Off,
}

fn time_scale(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(factor) if factor.is_finite() && factor >= 0.0 => Ok(factor),
        _ => Err("a number that is not negative, such as 0.1".to_owned()),
    }
}

impl Settings {
    /// The same settings as arguments.
    pub fn as_arguments(&self) -> Vec<String> {
        let switch = if self.addon_tls == Switch::On { "on" } else { "off" };
        let mut arguments = vec![
            format!("--time-scale={}", self.time_scale),
            format!("--addon-tls={switch}"),
            format!("--addon-engine={}", self.addon_engine.name()),
            format!("--addon-profile={}", self.addon_profile.name()),
            format!("--rtt={}", self.rtt),
        ];
        arguments.extend(self.no_app.then(|| "--no-app".to_owned()));
        arguments
    }
}

/// Parses, runs, tells the exit code: 0 done, 1 failed, 64 usage.
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
    // One TLS implementation for every client and server in this process; a second installation changes nothing.
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

/// The runtime that each verb blocks on.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Runtime::new().context("start the asynchronous runtime")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_survive_the_way_to_the_supervisor() {
        let given = [
            "sandbox",
            "up",
            "--time-scale",
            "0.25",
            "--addon-tls",
            "off",
            "--addon-engine=redis-6.2",
            "--addon-profile=no-pause",
            "--rtt=80",
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
            (passed.time_scale, passed.addon_tls, passed.rtt, passed.no_app),
            (0.25, Switch::Off, 80, true)
        );
        assert_eq!(
            (passed.addon_engine, passed.addon_profile),
            (Engine::Redis62, Profile::NoPause)
        );
    }

    #[test]
    fn a_negative_time_scale_is_a_usage_error() {
        assert!(Arguments::try_parse_from(["sandbox", "up", "--time-scale=-1"]).is_err());
    }
}
