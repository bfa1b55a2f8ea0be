//! The faults that only a copied source has: of its watch, of the agent that copies, and of keys that change whole.

use crate::faults::{EVERYWHERE, Expect, Fault};
use crate::source::Source;

/// Before anything is fenced: the source still takes writes, and the host may go for a while.
const BEFORE_THE_FENCE: &[&str] = &["following"];
const AROUND_THE_PROOF: &[&str] = &["following", "fenced", "proven"];
/// The key that is written while the watch is cut.
pub const UNSEEN: &str = "sneaked:unseen";

/// Returns the faults of a source that is copied.
pub fn all(source: &Source) -> Vec<Fault> {
    let fault = |name, happens: String, is_over: &str, phases| Fault {
        name,
        happens,
        is_over: is_over.to_string(),
        phases,
        expect: Expect::EndsRight,
        carried: None,
    };
    let every_client = source.redis("client kill type normal skipme yes");
    let cut = source.cut_the_watch();
    let writes = |words: &[&str]| {
        let lines: Vec<String> = words.iter().map(|words| source.redis(words)).collect();
        lines.join(" && ")
    };
    vec![
        fault("the watch is cut", cut.clone(), "true", EVERYWHERE),
        Fault {
            carried: Some(UNSEEN),
            ..fault(
                "the watch is cut, with a write in it",
                format!("{cut} && {}", source.unpause_and_set(UNSEEN)),
                "true",
                &["following", "fenced"],
            )
        },
        fault(
            "the watch reads too slowly",
            format!(
                "{} && {} && (sleep 4; {}) >/dev/null 2>&1 &",
                source.redis("config set client-output-buffer-limit 'normal 65536 65536 0'"),
                on_the_master("systemctl kill --signal STOP infra-copy"),
                on_the_master("systemctl kill --signal CONT infra-copy"),
            ),
            &format!(
                "sleep 4; {}",
                source.redis("config set client-output-buffer-limit 'normal 0 0 0'")
            ),
            AROUND_THE_PROOF,
        ),
        fault(
            "the agent is killed",
            on_the_master("systemctl kill --signal KILL infra-copy"),
            "true",
            EVERYWHERE,
        ),
        fault(
            "the link is cut in the middle of a huge key",
            format!(
                "{} && sleep 0.3 && {every_client}; true",
                writes(&["eval \"redis.call('set', 'scratch:huge', string.rep('x', 60000000))\" 0"])
            ),
            "true",
            BEFORE_THE_FENCE,
        ),
        fault(
            "a key is renamed while it is copied",
            writes(&[
                "eval \"redis.call('set', 'scratch:large', string.rep('y', 30000000))\" 0",
                "rename scratch:large scratch:renamed",
            ]),
            "true",
            BEFORE_THE_FENCE,
        ),
        fault(
            "databases are swapped and emptied",
            writes(&[
                "-n 5 set scratch:swapped 1",
                "swapdb 5 6",
                "-n 7 set scratch:gone 1",
                "-n 7 flushdb",
            ]),
            "true",
            BEFORE_THE_FENCE,
        ),
        fault(
            "the master is full",
            format!(
                "{} && (sleep 5; {}) >/dev/null 2>&1 &",
                in_the_master("CONFIG SET maxmemory 2mb"),
                in_the_master("CONFIG SET maxmemory 0"),
            ),
            "sleep 6",
            &["following", "fenced"],
        ),
        fault(
            "the master's host starts again",
            format!("({}) || true", on_the_master("systemctl reboot")),
            "sleep 10",
            &["following", "fenced"],
        ),
    ]
}

/// Returns the program's own way in, without the fault that is tried.
fn infra(words: &str) -> String {
    format!("env -u INFRA_FAULT_ON -u INFRA_FAULT_RUN -u INFRA_FAULT_LOG \"$INFRA\" {words} >/dev/null 2>&1")
}

fn on_the_master(command: &str) -> String {
    infra(&format!("ssh master sudo {command}"))
}

fn in_the_master(words: &str) -> String {
    infra(&format!("redis-cli master {words}"))
}
