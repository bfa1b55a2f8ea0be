//! Removes a half command or transaction from the log's end, before the engine starts.
//!
//! The engine does that too. But if a command within a transaction is torn, it leaves the beginning
//! of the transaction, and takes what is written next for a part of it. Seen with Redis 7.0.15.

use crate::settings::Settings;
use anyhow::{Context, Result};
use infra_agent::manifest::{FILE, FOLDER, Manifest};
use infra_agent::scan::{Boundary, Scanner};
use std::fs::File;
use std::io::Read;

pub fn mend(settings: &Settings) -> Result<()> {
    let folder = settings.data.join(FOLDER);
    let path = folder.join(FILE);
    let text = match std::fs::read_to_string(&path) {
        // This step does not decide whether an engine without a log may start.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        text => text.with_context(|| format!("read {}", path.display()))?,
    };
    let manifest = Manifest::parse(&text).with_context(|| format!("understand {}", path.display()))?;
    let Some(last) = manifest.increments.last() else {
        return Ok(());
    };
    let path = folder.join(&last.name);
    let doing = || format!("mend {}", path.display());
    let mut file = File::options().read(true).write(true).open(&path).with_context(doing)?;
    let mut scanner = Scanner::at(Boundary::default());
    let mut block = vec![0; 1 << 20];
    loop {
        let read = file.read(&mut block).with_context(doing)?;
        if read == 0 {
            break;
        }
        // Damage in the middle needs a person. The engine refuses such a log.
        if let Err(malformed) = scanner.feed(&block[..read]) {
            eprintln!("infra-agent: {}: {malformed}", path.display());
            return Ok(());
        }
    }
    let torn = scanner.offset() - scanner.boundary().offset;
    if torn > 0 {
        file.set_len(scanner.boundary().offset).with_context(doing)?;
        file.sync_all().with_context(doing)?;
        println!(
            "infra-agent: {torn} bytes at the end of {} were no whole transaction and are cut off",
            path.display()
        );
    }
    Ok(())
}
