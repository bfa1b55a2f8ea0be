//! One thin file per verb, which calls one sequence. No AWS call, shell text or parsing here.

pub mod cli;
mod policy;
mod promote;
mod switch_app;
mod unlock;

use crate::commands::cli::{Cli, Verb};
use crate::effects::interrupt::Interrupt;
use crate::model::error::{Error, ExitCode, Kind, Result};
use crate::model::size;
use crate::sequences::arguments::{Color, Common, Up};
use crate::sequences::context::Context;
use crate::sequences::{backup, check, down, import, redis_cli, restore, rolling, rotation, ssh, status, up, verify};
use crate::ui::{Ui, UiOptions, document};
use serde_json::{Value, json};
use std::io::IsTerminal;
use std::time::Duration;

/// Time that a command gets to release its lock after its timeout.
const RELEASING: Duration = Duration::from_secs(6);
/// Time that a cutover gets after its timeout, since it may first have to go back to the source.
const GOING_BACK: Duration = Duration::from_secs(120);

/// Runs the command line and returns the exit code. Results go through [`Ui`], an error to stderr.
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
    let mut context = Context::new(cli.common, ui, interrupt.clone())?;
    if let Verb::Up(Up { agent: Some(agent), .. }) = &cli.verb {
        context.agent = Some(agent.clone());
    }
    let stopping = match cli.verb {
        Verb::Promote(_) | Verb::SwitchApp(_) | Verb::Resize(_) | Verb::Replace(_) | Verb::Upgrade(_) => GOING_BACK,
        _ => RELEASING,
    };
    // An interactive session has no timeout.
    let timeout = match &cli.verb {
        Verb::Ssh(_) | Verb::RedisCli(_) => Duration::MAX,
        Verb::Import(verb) => verb.timeout(timeout),
        _ => timeout,
    };
    // On the heap, since the largest command decides how large it is.
    let work = Box::pin(async {
        match cli.verb {
            Verb::Check(arguments) => check::run(&context, &arguments).await,
            Verb::Up(arguments) => up::run(&context, &arguments).await,
            Verb::Status(arguments) => status::run(&context, &arguments).await,
            Verb::Verify(arguments) => verify::run(&context, &arguments).await,
            Verb::Promote(arguments) => promote::run(&context, &arguments).await,
            Verb::SwitchApp(arguments) => switch_app::run(&context, &arguments).await,
            Verb::Backup(verb) => backup::run(&context, &verb).await,
            Verb::Restore(arguments) => restore::run(&context, &arguments).await,
            Verb::Import(verb) => import::run(&context, &verb).await,
            Verb::Resize(arguments) => rolling::resize::run(&context, &arguments).await,
            Verb::Replace(arguments) => rolling::replace::run(&context, &arguments).await,
            Verb::Upgrade(arguments) => rolling::upgrade::run(&context, &arguments).await,
            Verb::Rotate(arguments) => rotation::run::run(&context, &arguments).await,
            Verb::Unlock(arguments) => unlock::run(&context, &arguments).await,
            Verb::Down(arguments) => down::run(&context, &arguments).await,
            Verb::Policy(arguments) => policy::run(&context, &arguments).await,
            Verb::Ssh(arguments) => ssh::run(&context, &arguments).await,
            Verb::RedisCli(arguments) => redis_cli::run(&context, &arguments).await,
        }
    });
    within(timeout, stopping, &interrupt, work).await
}

/// Runs `work` until it ends or times out. After the timeout it is asked to stop, as by a signal:
/// it finishes what must not stay half done and releases the lock. After `stopping` it is dropped.
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

/// Prints an error; with `--json` also on stdout, unless the command's result is already there.
fn report(ui: &Ui, error: &Error) -> ExitCode {
    eprintln!("{}", told(ui, error));
    if ui.json() && !ui.gave_data() {
        ui.data(as_json(error).to_string());
    }
    error.kind().exit_code()
}

fn told(ui: &Ui, error: &Error) -> String {
    let chain = error.chain();
    let mut lines = vec![format!("{} cannot {}", ui.paint("31;1", "error:"), chain[0])];
    lines.extend(chain[1..].iter().map(|cause| format!("  because: {cause}")));
    lines.extend(
        error
            .next_step()
            .map(|hint| format!("  {} {hint}", ui.paint("36", "next:"))),
    );
    lines.join("\n")
}

fn as_json(error: &Error) -> Value {
    let (chain, kind) = (error.chain(), error.kind());
    document(json!({
        "error": { "kind": kind.name(), "exit_code": kind.exit_code() as u8, "message": chain[0], "causes": &chain[1..], "next": error.next_step() },
    }))
}

fn wants_color(choice: Color, terminal: bool) -> bool {
    match choice {
        Color::Always => true,
        Color::Never => false,
        Color::Auto => std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) && terminal,
    }
}

/// Shows our own steps for `-v` and `-vv`, never those of libraries: the AWS client logs secrets.
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
mod tests;
