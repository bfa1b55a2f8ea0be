//! Processes that end with the test that started them.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Starts a process that the kernel kills together with this one; what it prints is appended to a file.
pub fn spawn(command: &mut Command, output: &Path) -> Child {
    let file = File::options().append(true).create(true).open(output).unwrap();
    bounded(command)
        .stdin(Stdio::null())
        .stdout(file.try_clone().unwrap())
        .stderr(file)
        .spawn()
        .unwrap()
}

/// The same command, whose process must not outlive a test that was killed.
pub fn bounded(command: &Command) -> Command {
    let mut wrapped = Command::new("setpriv");
    wrapped
        .args(["--pdeathsig", "KILL", "--"])
        .arg(command.get_program())
        .args(command.get_args())
        .envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    wrapped
}

/// Kills the process, as a crash would. Does nothing if there is none.
pub fn kill(child: &mut Option<Child>) {
    if let Some(mut child) = child.take() {
        let _ = child.kill();
        let _ = child.wait();
    }
}
