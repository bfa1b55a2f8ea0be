//! How the look at a host reads what systemd says of its units.

use super::host::templates;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

/// As `systemctl show` answers, for a unit in each state.
const SHOWN: &str = "Id=runs.service
ActiveState=active
SubState=running
UnitFileState=enabled

Id=loads.service
ActiveState=activating
SubState=start
UnitFileState=enabled

Id=ended.service
ActiveState=activating
SubState=auto-restart
UnitFileState=enabled

Id=queued.service
ActiveState=activating
SubState=auto-restart-queued
UnitFileState=enabled

Id=refused.service
ActiveState=activating
SubState=start-pre
UnitFileState=enabled

Id=unwanted.service
ActiveState=activating
SubState=condition
UnitFileState=disabled

Id=gave-up.service
ActiveState=failed
SubState=failed
UnitFileState=enabled

Id=absent.service
ActiveState=inactive
SubState=dead
UnitFileState=
";

#[test]
fn a_unit_that_systemd_is_about_to_start_again_does_not_run() {
    let folder = tempfile::tempdir().unwrap();
    let stub = folder.path().join("systemctl");
    std::fs::write(&stub, format!("#!/bin/sh\ncat <<'SHOWN'\n{SHOWN}SHOWN\n")).unwrap();
    std::fs::set_permissions(&stub, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap());
    let mut look = Command::new("bash")
        .arg("-s")
        .env("PATH", path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let script = std::fs::read_to_string(templates().join("facts.sh")).unwrap();
    let mut asked = look.stdin.take().unwrap();
    asked
        .write_all(format!("{script}unit runs.service\nend\n").as_bytes())
        .unwrap();
    drop(asked);
    let said = String::from_utf8(look.wait_with_output().unwrap().stdout).unwrap();
    let units: Vec<&str> = said.lines().filter(|line| line.starts_with("unit ")).collect();
    assert_eq!(
        units,
        [
            "unit runs.service enabled active",
            "unit loads.service enabled activating",
            "unit ended.service enabled restarting",
            "unit queued.service enabled restarting",
            "unit refused.service enabled restarting",
            "unit unwanted.service disabled restarting",
            "unit gave-up.service enabled failed",
            "unit absent.service absent inactive",
        ]
    );
}
