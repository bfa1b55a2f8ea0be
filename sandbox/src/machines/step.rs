//! Decides what a machine does next, from what the API wants and what is there. Pure.

/// The next thing to do for one machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Nothing: the machine is as it should be.
    Rest,
    /// Bring it up, then say that it is running.
    Boot,
    /// The machine is up already, and the API still has to be told.
    SayRunning,
    /// Follow changes of addresses and rules.
    Update,
    /// Restart the system on the same disk.
    Reboot,
    /// Shut down, keep the disk, say that it is stopped.
    Stop,
    /// Shut down, remove everything, say that it is terminated.
    Terminate,
    /// The API has forgotten it: remove everything, say nothing.
    Forget,
}

/// `wanted`: the API's state; `None` if it has no such instance. `up`: whether the system runs.
/// `boots_wanted` rises with every requested reboot; `boots_done` is its value at the last boot.
pub fn next(wanted: Option<&str>, up: bool, boots_wanted: u64, boots_done: u64) -> Step {
    match wanted {
        Some("pending") if up => Step::SayRunning,
        Some("pending") => Step::Boot,
        Some("running") if up && boots_wanted > boots_done => Step::Reboot,
        Some("running") if up => Step::Update,
        Some("stopping") => Step::Stop,
        // The machine stopped by itself, and its task reports that to the API.
        Some("running" | "stopped") => Step::Rest,
        Some("shutting-down") => Step::Terminate,
        Some("terminated") | None => Step::Forget,
        Some(_) => Step::Rest,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_transition_leads_to_its_step() {
        for (wanted, up, boots_wanted, boots_done, expected) in [
            (Some("pending"), false, 1, 0, Step::Boot),
            (Some("pending"), true, 1, 1, Step::SayRunning),
            (Some("running"), true, 1, 1, Step::Update),
            (Some("running"), true, 2, 1, Step::Reboot),
            (Some("running"), false, 2, 1, Step::Rest),
            (Some("stopping"), true, 1, 1, Step::Stop),
            (Some("stopping"), false, 1, 1, Step::Stop),
            (Some("stopped"), false, 1, 1, Step::Rest),
            (Some("shutting-down"), true, 1, 1, Step::Terminate),
            (Some("shutting-down"), false, 1, 1, Step::Terminate),
            (Some("terminated"), false, 1, 1, Step::Forget),
            (None, true, 0, 1, Step::Forget),
        ] {
            assert_eq!(
                next(wanted, up, boots_wanted, boots_done),
                expected,
                "{wanted:?} up={up}"
            );
        }
    }
}
