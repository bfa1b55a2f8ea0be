//! One file per verb, each thin: load, look, plan, show, apply, report. No AWS call, no shell text and no parsing here.

mod before;
mod check;
mod context;
mod down;
mod move_app;
mod promote;
mod redis_cli;
mod rehearse;
mod ssh;
mod status;
mod switch_app;
mod up;
mod verify;

pub use context::Context;

use crate::cli::{Cli, Color, Common, Verb};
use crate::error::{Error, ExitCode, Kind, Result};
use crate::interrupt::Interrupt;
use crate::ui::{Ui, UiOptions, size};
use serde_json::json;
use std::io::IsTerminal;
use std::time::Duration;

/// The form of what `--json` prints.
pub const JSON_SCHEMA_VERSION: u32 = 1;
/// How long a command whose time is over may take to give its lock back.
const RELEASING: Duration = Duration::from_secs(6);
/// The same for a cutover, which may have to go back before.
const GOING_BACK: Duration = Duration::from_secs(120);

/// Runs the command line and tells the exit code. Everything that is printed goes through the command's [`Ui`].
pub fn run(cli: Cli) -> ExitCode {
    let ui = Ui::new(UiOptions {
        quiet: cli.common.quiet,
        json: cli.common.json,
        color: wants_color(cli.common.color, std::io::stderr().is_terminal()),
        color_data: wants_color(cli.common.color, std::io::stdout().is_terminal()),
    });
    log_to_stderr(cli.common.verbose);
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return report(&ui, &Error::failed("start the asynchronous runtime").because(error)),
    };
    let result = runtime.block_on(dispatch(cli, ui.clone()));
    // A blocked ssh call must not keep a finished command alive.
    runtime.shutdown_timeout(Duration::from_millis(200));
    match result {
        Ok(code) => code,
        Err(error) => report(&ui, &error),
    }
}

async fn dispatch(cli: Cli, ui: Ui) -> Result<ExitCode> {
    let interrupt = Interrupt::listen()?;
    let Common { timeout, .. } = cli.common;
    let context = Context::new(cli.common, ui, interrupt.clone())?;
    let stopping = match cli.verb {
        Verb::Promote(_) | Verb::SwitchApp(_) => GOING_BACK,
        _ => RELEASING,
    };
    // Whoever has the terminal keeps it for as long as they like.
    let timeout = match cli.verb {
        Verb::Ssh(_) | Verb::RedisCli(_) => Duration::MAX,
        _ => timeout,
    };
    let work = async {
        match cli.verb {
            Verb::Check(arguments) => check::run(&context, &arguments).await,
            Verb::Up(arguments) => up::run(&context, &arguments).await,
            Verb::Status => status::run(&context).await,
            Verb::Verify(arguments) => verify::run(&context, &arguments).await,
            Verb::Promote(arguments) => promote::run(&context, &arguments).await,
            Verb::SwitchApp(arguments) => switch_app::run(&context, &arguments).await,
            Verb::Down(arguments) => down::run(&context, &arguments).await,
            Verb::Ssh(arguments) => ssh::run(&context, &arguments).await,
            Verb::RedisCli(arguments) => redis_cli::run(&context, &arguments).await,
        }
    };
    within(timeout, stopping, &interrupt, work).await
}

/// Runs `work` until it ends or its time is over. It is then asked to stop, as by a signal: what must not stay half done is brought to its end, and
/// the lock is given back. Only what does not stop within `stopping` is dropped where it stands.
async fn within(
    timeout: Duration,
    stopping: Duration,
    interrupt: &Interrupt,
    work: impl Future<Output = Result<ExitCode>>,
) -> Result<ExitCode> {
    let late = || {
        Error::failed(format!("finish within {}", size::duration(timeout)))
            .hint("run the same command again: it goes on where it stopped; --timeout gives it longer")
    };
    let mut work = std::pin::pin!(work);
    if let Ok(result) = tokio::time::timeout(timeout, &mut work).await {
        return result;
    }
    interrupt.request();
    match tokio::time::timeout(stopping, work).await {
        Ok(Err(error)) if error.kind() == Kind::Interrupted => Err(late().because(error)),
        Ok(result) => result,
        Err(_) => Err(late()),
    }
}

/// Prints an error with its causes and its next step; as JSON on stdout too where that was asked for and the command has not given its result there.
fn report(ui: &Ui, error: &Error) -> ExitCode {
    let chain = error.chain();
    let code = error.kind().exit_code();
    eprintln!("{} failed to {}", ui.paint("31;1", "error:"), chain[0]);
    for cause in &chain[1..] {
        eprintln!("  because: {cause}");
    }
    if let Some(hint) = error.next_step() {
        eprintln!("  {} {hint}", ui.paint("36", "next:"));
    }
    if ui.json() && !ui.gave_data() {
        ui.data(
            json!({
                "schema_version": JSON_SCHEMA_VERSION,
                "error": { "kind": error.kind().name(), "exit_code": code as u8, "message": chain[0], "causes": &chain[1..], "next": error.next_step() },
            })
            .to_string(),
        );
    }
    code
}

fn wants_color(choice: Color, terminal: bool) -> bool {
    match choice {
        Color::Always => true,
        Color::Never => false,
        Color::Auto => std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) && terminal,
    }
}

/// `-v` and `-vv` show more of our own steps. Never those of the libraries: at that level the AWS client writes out whole requests, secrets and all.
fn log_to_stderr(verbose: u8) {
    use tracing::level_filters::LevelFilter;
    use tracing_subscriber::filter::Targets;
    use tracing_subscriber::prelude::*;
    let level = match verbose {
        0 => return,
        1 => LevelFilter::INFO,
        _ => LevelFilter::DEBUG,
    };
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_target(false)
        .without_time();
    tracing_subscriber::registry()
        .with(lines)
        .with(Targets::new().with_target("infra", level))
        .init();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_command_whose_time_is_over_is_asked_to_stop_and_ends_in_order() {
        let soon = Duration::from_millis(20);
        let interrupt = Interrupt::never();
        let mut released = false;
        let work = async {
            interrupt.wait().await;
            // Giving back takes a while, and must not be cut off.
            tokio::time::sleep(Duration::from_millis(200)).await;
            released = true;
            Err(Error::interrupted("finish"))
        };
        let error = within(soon, Duration::from_secs(60), &interrupt, work)
            .await
            .unwrap_err();
        assert!(released);
        assert_eq!(error.kind(), Kind::Failed);
        assert!(error.to_string().contains("finish within"), "{error}");

        let deaf = std::future::pending();
        let error = within(soon, soon, &Interrupt::never(), deaf).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Failed);

        let quick = async { Ok(ExitCode::Done) };
        let done = within(Duration::from_secs(60), soon, &Interrupt::never(), quick).await;
        assert_eq!(done.unwrap(), ExitCode::Done);
    }
}
