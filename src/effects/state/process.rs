//! Decides if a process of this computer is certainly dead.
//!
//! A lock is taken away on this answer. Boot, pid namespace, pid and start time identify a process,
//! also if its pid is used again. Values that cannot be read count as alive.

use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

/// Identifies one process among all that ever ran on Linux.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub struct ProcessIdentity {
    pub boot_id: String,
    pub pid_namespace: String,
    pub pid: u32,
    /// Start time in clock ticks after the boot.
    pub started: u64,
}

impl ProcessIdentity {
    /// Returns this process; `None` if the system does not report all fields.
    pub fn own() -> Option<Self> {
        Self::of(std::process::id())
    }

    /// Returns a living process of our own pid namespace.
    pub fn of(pid: u32) -> Option<Self> {
        Some(ProcessIdentity {
            boot_id: boot_id()?,
            pid_namespace: pid_namespace()?,
            pid,
            started: Stat::read(pid)?.started,
        })
    }

    /// Returns true if the process ran on this computer and is certainly gone.
    pub fn is_dead(&self) -> bool {
        let same = boot_id().is_some_and(|ours| ours == self.boot_id)
            && pid_namespace().is_some_and(|ours| ours == self.pid_namespace);
        let Ok(pid) = i32::try_from(self.pid) else {
            return false;
        };
        if !same || pid <= 0 {
            return false;
        }
        // The kernel is asked first, since /proc may hide the processes of others.
        match kill(Pid::from_raw(pid), None) {
            Err(Errno::ESRCH) => true,
            _ => Stat::read(self.pid).is_some_and(|stat| stat.started != self.started || stat.has_ended()),
        }
    }
}

/// Fields of /proc/PID/stat; see proc_pid_stat(5).
struct Stat {
    state: u8,
    threads: u64,
    started: u64,
}

impl Stat {
    fn read(pid: u32) -> Option<Self> {
        Self::parse(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// Parses the line. The program's name in it may hold spaces and parentheses.
    fn parse(text: &str) -> Option<Self> {
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
        let field = |number: usize| fields.get(number - 3).copied();
        Some(Stat {
            state: *field(3)?.as_bytes().first()?,
            threads: field(20)?.parse().ok()?,
            started: field(22)?.parse().ok()?,
        })
    }

    /// Returns true for a zombie. A process whose other threads still run has not ended.
    fn has_ended(&self) -> bool {
        matches!(self.state, b'Z' | b'X') && self.threads <= 1
    }
}

fn boot_id() -> Option<String> {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim().to_string()).filter(|id| !id.is_empty())
}

fn pid_namespace() -> Option<String> {
    Some(std::fs::read_link("/proc/self/ns/pid").ok()?.to_str()?.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_program_may_look_like_the_rest_of_the_line() {
        let stat = Stat::parse("7 (a) Z 1 (b) R 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 3 18 4242 20").unwrap();
        assert_eq!((stat.state, stat.threads, stat.started), (b'R', 3, 4242));
        assert!(Stat::parse("7 (a) R 1").is_none());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn only_a_process_that_is_certainly_gone_is_dead() {
        let own = ProcessIdentity::own().unwrap();
        assert!(!own.is_dead());
        assert!(
            ProcessIdentity {
                started: own.started + 1,
                ..own.clone()
            }
            .is_dead()
        );
        for elsewhere in [
            ProcessIdentity {
                boot_id: "another".into(),
                started: 1,
                ..own.clone()
            },
            ProcessIdentity {
                pid_namespace: "pid:[1]".into(),
                started: 1,
                ..own.clone()
            },
            ProcessIdentity {
                pid: 0,
                started: 1,
                ..own
            },
        ] {
            assert!(!elsewhere.is_dead(), "{elsewhere:?}");
        }
    }
}
