//! Restores everything from the bucket as `infra restore` does, with the program of the hosts.

use crate::Outcome;
use crate::figures::Figures;
use infra::effects::backup::catalogue::Wish;
use infra::effects::backup::{load, restore};
use infra_agent::rebuild::{Built, Plan};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use testkit::backups::{ENV, World};

/// Objects that are read at once, as in `infra restore`.
const PARALLEL: usize = 8;

/// Runs the agent for the build: its library within this bench is not compiled for speed.
pub async fn measure(figures: &mut Figures, world: &World) -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    let begun = Instant::now();
    let catalogue = world.catalogue().await;
    let choice = restore::choose(&catalogue, &Wish::Latest)?;
    let plan = restore::plan(&world.bucket, ENV, &choice, PARALLEL).await?;
    let planned_s = begun.elapsed().as_secs_f64();
    let built = build(&world.program, &plan, folder.path())?;
    let built_s = begun.elapsed().as_secs_f64();
    let loaded = load::load(folder.path(), Duration::from_secs(120)).await?;
    let all_s = begun.elapsed().as_secs_f64();
    let load_s = all_s - built_s;
    println!(
        "  restore: {} keys, {} MB of base, {} MB of log; catalogue and plan {planned_s:.2} s, download and build {:.2} s, load {load_s:.2} s",
        loaded.keys,
        built.base_bytes >> 20,
        built.log_bytes >> 20,
        built_s - planned_s,
    );
    let there: u64 = world.ask(&["DBSIZE"]).parse()?;
    if loaded.keys != there {
        return Err(format!("{} keys were restored, the engine has {there}", loaded.keys).into());
    }
    figures.restore_1gb_ratio.push(all_s / load_s);
    figures.restore_1gb_s.push(all_s);
    Ok(())
}

fn build(program: &Path, plan: &Plan, folder: &Path) -> Outcome<Built> {
    let mut child = Command::new(program)
        .arg("rebuild")
        .arg(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let plan = serde_json::to_vec(plan)?;
    child.stdin.take().ok_or("no way to tell the plan")?.write_all(&plan)?;
    let output = child.wait_with_output()?;
    if !output.status.success() {
        return Err("the data folder could not be built".into());
    }
    let said = String::from_utf8(output.stdout)?;
    Ok(serde_json::from_str(said.lines().last().unwrap_or_default())?)
}
