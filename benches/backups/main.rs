//! Measures what backups take from a host and how fast they are, with the agent as hosts get it, a
//! real engine and the sandbox's S3 on loopback. No machine is booted.
//!
//!     cargo bench --bench backups -- [--rounds N] [--report FILE]
//!
//! With a file, the figures of each round are written there as JSON, and `sandbox bench` adds them
//! to its report. The bench ends within minutes and writes only to its own temporary folders.

mod clients;
mod data;
mod figures;
mod pipe;
mod process;
mod restoring;
mod round;

use figures::Figures;
use std::error::Error;
use std::time::Duration;

pub type Outcome<T> = Result<T, Box<dyn Error>>;

/// More than any round takes, the restore included.
const ROUND: Duration = Duration::from_secs(600);

#[tokio::main(worker_threads = 2)]
async fn main() -> Outcome<()> {
    let mut rounds: u32 = 2;
    let mut report = None;
    let mut words = std::env::args().skip(1).filter(|word| word != "--bench");
    while let Some(word) = words.next() {
        match word.as_str() {
            "--rounds" => rounds = words.next().ok_or("--rounds wants a number")?.parse()?,
            "--report" => report = Some(words.next().ok_or("--report wants a file")?),
            other => return Err(format!("{other} is not understood").into()),
        }
    }
    end_after(ROUND * rounds);
    let mut figures = Figures::default();
    for at in 1..=rounds {
        println!("── round {at} of {rounds}");
        // A gigabyte is filled and restored once.
        round::run(&mut figures, at == 1).await?;
    }
    if let Some(report) = report {
        std::fs::write(report, serde_json::to_string_pretty(&figures)?)?;
    }
    Ok(())
}

/// Ends this process after a limit. The kernel then kills what the process started.
fn end_after(limit: Duration) {
    std::thread::spawn(move || {
        std::thread::sleep(limit);
        eprintln!("not done after {} minutes", limit.as_secs() / 60);
        std::process::exit(1);
    });
}
