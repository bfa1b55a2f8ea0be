//! Runs a tool of the system to its end; an error quotes what it said.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// No tool that is run here takes longer than moments; one that hangs must not hang the sandbox.
const DEADLINE: Duration = Duration::from_secs(15);

/// Runs `ip` with these arguments and `script` on its standard input; returns its output.
pub async fn ip(arguments: &[&str], script: &str) -> Result<String> {
    run(Command::new("ip").args(arguments), script).await
}

/// Runs `command` with `input` on its standard input and returns its standard output.
pub async fn run(command: &mut Command, input: &str) -> Result<String> {
    let shown = show(command);
    let finished = tokio::time::timeout(DEADLINE, finish(command, input))
        .await
        .with_context(|| format!("run `{shown}`: not done after {} s", DEADLINE.as_secs()))?
        .with_context(|| format!("run `{shown}`"))?;
    if !finished.status.success() {
        let said = String::from_utf8_lossy(&finished.stderr);
        bail!("run `{shown}`: {}: {}", finished.status, said.trim());
    }
    Ok(String::from_utf8_lossy(&finished.stdout).into_owned())
}

async fn finish(command: &mut Command, input: &str) -> Result<std::process::Output> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // A tool that does not read its input says why on its standard error.
        let _ = stdin.write_all(input.as_bytes()).await;
    }
    Ok(child.wait_with_output().await?)
}

fn show(command: &Command) -> String {
    let command = command.as_std();
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words
        .map(|word| word.to_string_lossy().into_owned())
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_failing_tool_is_quoted() {
        let error = run(Command::new("sh").args(["-c", "echo broken >&2; exit 3"]), "")
            .await
            .unwrap_err();
        let text = format!("{error:#}");
        assert!(text.contains("broken") && text.contains('3'), "{text}");
    }

    #[tokio::test]
    async fn input_reaches_the_tool() {
        assert_eq!(run(&mut Command::new("cat"), "hello").await.unwrap(), "hello");
    }
}
