//! `sandbox up`: builds the cache, starts a supervisor that outlives it, and waits until it is
//! ready.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::fcntl::{Flock, FlockArg};

use crate::environment::{ID_VARIABLE, OPERATOR_VARIABLE};
use crate::paths::{CACHE_VARIABLE, Paths, STATE_VARIABLE};
use crate::record::{Phase, Record};
use crate::settings::{Settings, runtime};
use crate::{cleanup, files, network, tools};

const READY_WITHIN: Duration = Duration::from_secs(90);

/// Raises the sandbox, unless it is up.
pub fn up(paths: &Paths, settings: &Settings) -> Result<ExitCode> {
    let started = Instant::now();
    check("up")?;
    let _lock = lock(paths)?;
    if let Some(record) = Record::read(paths) {
        if record.supervisor_lives() && record.phase != Phase::Failed {
            say(&format!("already up, as {}; end it with `sandbox down`", record.id));
            print_usage(paths)?;
            return Ok(ExitCode::SUCCESS);
        }
        say("found what an earlier sandbox left: removing it");
    }
    network::check_free(paths)?;
    check_state_folder(paths)?;
    let left = runtime()?.block_on(cleanup::sweep(paths, cleanup::Files::Remove));
    if !left.is_empty() {
        bail!(
            "remove what an earlier sandbox left: these would not go:\n  {}",
            left.join("\n  ")
        );
    }
    build_cache(paths)?;
    if !settings.no_app {
        settings.rented().engine.ensure(paths, &|line| say(line))?;
    }
    make_state_folder(paths)?;
    let record = Record::new(format!("sb-{}", crate::random::hex(6)?));
    record.write(paths)?;
    let mut supervisor = start_supervisor(paths, settings, &record.id)?;
    if let Err(error) = wait_until_ready(paths, &mut supervisor) {
        let log = paths.logs().join("supervisor.log");
        let _ = supervisor.kill();
        let left = runtime()?.block_on(cleanup::sweep(paths, cleanup::Files::Keep));
        for thing in left {
            say(&format!("left behind: {thing}"));
        }
        return Err(error.context(format!(
            "raise the sandbox (logs stay in {} until `sandbox down`)",
            log.display()
        )));
    }
    say(&format!("ready after {:.1} s", started.elapsed().as_secs_f64()));
    print_usage(paths)?;
    Ok(ExitCode::SUCCESS)
}

/// Builds what is cached, and nothing else.
pub fn prepare(paths: &Paths) -> Result<()> {
    check("image")?;
    let _lock = lock(paths)?;
    build_cache(paths)?;
    crate::output::line(&format!("{}", crate::image::folder(paths).display()))?;
    Ok(())
}

fn check(verb: &str) -> Result<()> {
    tools::check_root(verb)?;
    tools::check_tools()
}

fn build_cache(paths: &Paths) -> Result<()> {
    crate::image::ensure(paths, &|line| say(line))?;
    crate::aws::ensure_python(paths, &|line| say(line))
}

fn say(line: &str) {
    eprintln!("sandbox: {line}");
}

fn print_usage(paths: &Paths) -> Result<()> {
    say("use it with `sandbox run CMD...`, or in a shell:");
    crate::output::line(&format!(". {}", paths.environment_file().display()))
}

/// Lets one `up` run at a time: a second would take half-built things for leftovers.
fn lock(paths: &Paths) -> Result<Flock<fs::File>> {
    fs::create_dir_all(paths.cache()).with_context(|| format!("make {}", paths.cache().display()))?;
    let file = paths.cache().join("lock");
    let file = fs::File::create(&file).with_context(|| format!("open {}", file.display()))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(lock),
        Err((file, nix::errno::Errno::EWOULDBLOCK)) => {
            say("another `sandbox up` or `sandbox image` is at work: waiting for it");
            Flock::lock(file, FlockArg::LockExclusive)
                .map_err(|(_, error)| error)
                .context("wait for the other one")
        }
        Err((_, error)) => Err(error).context("lock the cache folder"),
    }
}

/// Refuses a state folder with other files, since `down` removes the folder.
fn check_state_folder(paths: &Paths) -> Result<()> {
    let folder = paths.state();
    let Ok(mut entries) = fs::read_dir(folder) else {
        return Ok(());
    };
    if entries.next().is_some() && !paths.state_mark().exists() {
        bail!(
            "the state folder {} holds files that are not the sandbox's: set {STATE_VARIABLE} to a folder of its own",
            folder.display()
        );
    }
    Ok(())
}

fn make_state_folder(paths: &Paths) -> Result<()> {
    files::private_folder(paths.state())?;
    let make = || -> std::io::Result<()> {
        fs::set_permissions(paths.state(), fs::Permissions::from_mode(0o700))?;
        fs::write(paths.state_mark(), "")?;
        for folder in [paths.logs(), paths.machines(), paths.temporary()] {
            fs::create_dir_all(folder)?;
        }
        Ok(())
    };
    make().with_context(|| format!("make the state folder {}", paths.state().display()))
}

fn start_supervisor(paths: &Paths, settings: &Settings, id: &str) -> Result<Child> {
    let (output, errors) = files::log(&paths.logs().join("supervisor.log"))?;
    Command::new(std::env::current_exe().context("find this program's file")?)
        .arg("supervise")
        .args(settings.as_arguments())
        .current_dir("/")
        .env(ID_VARIABLE, id)
        .env(STATE_VARIABLE, paths.state())
        .env(CACHE_VARIABLE, paths.cache())
        .env("PATH", tools::search_path())
        // Temporary files of its children go with the state folder.
        .env("TMPDIR", paths.temporary())
        .env_remove(OPERATOR_VARIABLE)
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors)
        .spawn()
        .context("start the supervisor")
}

fn wait_until_ready(paths: &Paths, supervisor: &mut Child) -> Result<()> {
    let deadline = Instant::now() + READY_WITHIN;
    let mut shown = String::new();
    loop {
        let record = Record::read(paths).context("read the sandbox's record: it is gone; was `sandbox down` run?")?;
        match record.phase {
            Phase::Ready => return Ok(()),
            Phase::Failed => bail!("{}", record.detail),
            Phase::Starting if record.detail != shown => {
                say(&format!("starting: {}", record.detail));
                shown = record.detail;
            }
            Phase::Starting => {}
        }
        if let Some(status) = supervisor.try_wait().context("look after the supervisor")? {
            // The supervisor may have recorded the reason at its end.
            match Record::read(paths) {
                Some(record) if record.phase == Phase::Failed => bail!("{}", record.detail),
                _ => bail!("the supervisor ended with {status} while starting: {shown}"),
            }
        }
        if Instant::now() > deadline {
            bail!(
                "not ready after {} s; it is still starting: {shown}",
                READY_WITHIN.as_secs()
            );
        }
        std::thread::sleep(Duration::from_millis(30));
    }
}
