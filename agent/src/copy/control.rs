//! Takes requests on a socket: one line of JSON in, one out.

use crate::pauses::Pauses;
use crate::record::SweepReport;
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

/// How long a copy may take to begin.
const STARTING: Duration = Duration::from_secs(10);

/// The kinds of requests to a copy.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Wish {
    /// A whole sweep that begins now.
    #[default]
    Sweep,
    /// The keys that are marked after a barrier. Fails without a watch that is whole.
    Marked,
    /// A barrier alone. Copies nothing, and ends no hold.
    Look,
}

/// Asks for a whole sweep that begins now, or for less.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
pub struct Request {
    #[serde(default)]
    pub wish: Wish,
    /// Notes down which keys are written from now on.
    #[serde(default)]
    pub record: bool,
    /// How long nothing is written after it, unless somebody asks again.
    #[serde(default)]
    pub hold: Duration,
    /// Deletions apply however many they are.
    #[serde(default)]
    pub accept_deletions: bool,
}

#[derive(Deserialize, Serialize)]
enum Answer {
    #[serde(rename = "ok")]
    Swept(Box<SweepReport>),
    #[serde(rename = "error")]
    Failed(String),
}

/// A request, and where its answer goes.
pub struct Asked {
    pub request: Request,
    answer: Sender<Result<SweepReport, String>>,
}

impl Asked {
    pub fn answer(self, report: Result<SweepReport, String>) {
        // The client that asked may have disconnected.
        let _ = self.answer.send(report);
    }
}

pub fn listen(path: &Path) -> Result<UnixListener> {
    let _ = std::fs::remove_file(path);
    UnixListener::bind(path).with_context(|| format!("listen on {}", path.display()))
}

/// Serves until the process ends.
pub fn serve(listener: &UnixListener, requests: &Sender<Asked>) {
    for stream in listener.incoming().flatten() {
        let requests = requests.clone();
        std::thread::spawn(move || {
            if let Err(error) = answer(&stream, &requests) {
                eprintln!("infra-agent: copy: answer a request: {error:#}");
            }
        });
    }
}

fn answer(mut stream: &UnixStream, requests: &Sender<Asked>) -> Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut line = String::new();
    BufReader::new(stream.take(1024)).read_line(&mut line)?;
    let answer = match serde_json::from_str(&line) {
        Ok(request) => {
            let (sender, receiver) = channel();
            let asked = Asked {
                request,
                answer: sender,
            };
            requests.send(asked).ok().context("ask for a sweep")?;
            match receiver.recv() {
                Ok(Ok(report)) => Answer::Swept(Box::new(report)),
                Ok(Err(error)) => Answer::Failed(error),
                Err(_) => Answer::Failed("the copy ended".into()),
            }
        }
        Err(error) => Answer::Failed(format!("the request is not understood: {error}")),
    };
    writeln!(stream, "{}", serde_json::to_string(&answer)?)?;
    Ok(())
}

/// Asks the running copy for a sweep, and waits for its end. A copy that was let in again a moment
/// ago may first have to see that its old connection is gone, so failures are tried again for a while.
pub fn ask(control: &Path, request: Request) -> Result<SweepReport> {
    let mut pauses = Pauses::even(Duration::from_millis(300)).until(Instant::now() + STARTING);
    loop {
        match ask_once(control, request) {
            // A watch that is not whole is an answer, and an app may wait for it.
            Err(_) if request.wish == Wish::Sweep && pauses.again() => {}
            answered => return answered,
        }
    }
}

fn ask_once(control: &Path, request: Request) -> Result<SweepReport> {
    let mut stream = UnixStream::connect(control).with_context(|| {
        format!(
            "reach the copy at {}: is infra-copy.service running?",
            control.display()
        )
    })?;
    writeln!(stream, "{}", serde_json::to_string(&request)?).context("ask the copy")?;
    let mut line = String::new();
    BufReader::new(stream)
        .read_line(&mut line)
        .context("hear from the copy")?;
    if line.is_empty() {
        bail!("the copy ended before it answered");
    }
    match serde_json::from_str(&line).context("understand the copy")? {
        Answer::Swept(report) => Ok(*report),
        Answer::Failed(error) => bail!("{error}"),
    }
}
