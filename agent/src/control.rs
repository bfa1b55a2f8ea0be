//! Serves requests on a socket that only root can open: one word in, one line of JSON out.

use crate::base::Request;
use anyhow::{Context, Result, bail};
use infra_agent::pauses::Pauses;
use infra_agent::record::Commit;
use serde::{Deserialize, Serialize};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

const STARTING: Duration = Duration::from_secs(15);

#[derive(Deserialize, Serialize)]
enum Answer {
    #[serde(rename = "ok")]
    Made(Box<Commit>),
    #[serde(rename = "error")]
    Failed(String),
}

/// Serves until the process ends.
pub fn serve(path: &Path, bases: &Sender<Request>) -> Result<()> {
    // Only root can enter the agent's folder, so the socket needs no mode of its own.
    let _ = std::fs::remove_file(path);
    let listener = UnixListener::bind(path).with_context(|| format!("listen on {}", path.display()))?;
    for stream in listener.incoming() {
        let Ok(stream) = stream else { continue };
        let bases = bases.clone();
        std::thread::spawn(move || {
            if let Err(error) = answer(stream, &bases) {
                eprintln!("infra-agent: answer a request: {error:#}");
            }
        });
    }
    Ok(())
}

fn answer(mut stream: UnixStream, bases: &Sender<Request>) -> Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut word = String::new();
    BufReader::new((&stream).take(64)).read_line(&mut word)?;
    let answer = match word.trim() {
        "base" => {
            let (sender, receiver) = channel();
            bases.send(sender).context("ask for a base")?;
            match receiver.recv() {
                Ok(Ok(commit)) => Answer::Made(Box::new(commit)),
                Ok(Err(error)) => Answer::Failed(error),
                Err(_) => Answer::Failed("the agent ended".into()),
            }
        }
        other => Answer::Failed(format!("{other:?} is not understood")),
    };
    writeln!(stream, "{}", serde_json::to_string(&answer)?)?;
    Ok(())
}

/// Asks the running agent for a base, and waits for it.
pub fn ask_for_base(path: &Path) -> Result<Commit> {
    let mut pauses = Pauses::even(Duration::from_millis(200)).until(Instant::now() + STARTING);
    let mut stream = loop {
        match UnixStream::connect(path) {
            Ok(stream) => break stream,
            // The agent may be about to start.
            Err(_) if pauses.again() => {}
            Err(error) => {
                return Err(error).with_context(|| {
                    format!("reach the agent at {}: is infra-agent.service running?", path.display())
                });
            }
        }
    };
    stream.write_all(b"base\n").context("ask the agent")?;
    let mut line = String::new();
    BufReader::new(stream)
        .read_line(&mut line)
        .context("hear from the agent")?;
    if line.is_empty() {
        bail!("the agent ended before it answered");
    }
    match serde_json::from_str(&line).context("understand the agent")? {
        Answer::Made(commit) => Ok(*commit),
        Answer::Failed(error) => bail!("{error}"),
    }
}
