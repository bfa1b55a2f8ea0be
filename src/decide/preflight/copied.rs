//! Judges what the copy of a source costs it, and how long the app waits for it. Pure.

use super::{Finding, SourceFacts};
use crate::decide::follow;
use crate::effects::redis::control::Permission;
use crate::effects::redis::key::printable;
use crate::effects::redis::survey::Large;
use crate::model::clock::milliseconds;
use crate::model::size;
use std::time::Duration;

/// MONITOR quotes a byte that is no text as four.
const QUOTED: u64 = 4;
/// A value that MONITOR sends is in memory as it came, quoted, and in the buffers of the connection.
const ON_ITS_WAY: u64 = 8;
/// The network that the smallest instances have all the time, 64 Mbit a second.
const BASELINE_BYTES_PER_S: u64 = 8_000_000;
/// An app that waits for this long more notices nothing.
const SHORT: Duration = Duration::from_secs(1);

/// Judges what the copy costs the source, and how long the app waits for it.
pub(super) fn judge(source: &SourceFacts, network: Option<u64>) -> Vec<Finding> {
    let why = match &source.permissions.psync {
        Permission::Denied(reason) => format!("the source lets nobody replicate ({reason})"),
        Permission::Allowed | Permission::Unknown(_) => "infra.yml asks for `source.follow: copy`".into(),
    };
    let sweep = follow::gentle_sweep(source.used_memory, source.copy_rate);
    let watch = follow::watch(&source.monitor, &source.survey);
    let mut findings = vec![Finding::ok(
        "follow",
        format!(
            "{why}: its keys are copied instead. A walk through all {} takes about {}, at {} a second",
            size::bytes(source.used_memory),
            size::duration(sweep),
            size::bytes(source.copy_rate)
        ),
    )];
    match &watch {
        Ok(()) => {
            findings.push(monitor(source, network.unwrap_or(BASELINE_BYTES_PER_S)));
            findings.extend(memory(source));
            findings.extend(large_keys(source));
        }
        Err(why) => findings.push(Finding::ok(
            "watch",
            format!("none: {why}. So all keys are read again and again, and nothing tells which are written"),
        )),
    }
    findings.push(traffic(source, watch.is_ok()));
    findings.push(fence_length(source, watch.is_ok()));
    if !source.leave_out.is_empty() {
        findings.push(Finding::ok(
            "left-out",
            format!(
                "keys whose names begin with {} stay on the source: they are neither copied nor compared (source.leave_out)",
                source.leave_out.join(", ")
            ),
        ));
    }
    findings
}

/// Judges what MONITOR costs.
fn monitor(source: &SourceFacts, network: u64) -> Finding {
    let rate = source.survey.input_bytes_per_s;
    let line = format!(
        "MONITOR tells which keys are written. With it every value that clients send passes to the master, about {} a second, and is discarded there unread; \
         it takes the source some microseconds for each command",
        size::bytes(rate)
    );
    if rate.saturating_mul(QUOTED) > network {
        return Finding::warning(
            "watch",
            line,
            format!(
                "binary values take up to four times their bytes, more than the {} a second that the instance type has all the time: a larger \
                 `hosts.instance_type` has more network; a watch that lags is closed, and everything is compared inside the fence then",
                size::bytes(network)
            ),
        );
    }
    Finding::ok("watch", line)
}

/// Judges whether the source has room for the largest value on its way to MONITOR.
fn memory(source: &SourceFacts) -> Option<Finding> {
    let longest = source.survey.sizes.longest_string;
    let free = source.maxmemory.checked_sub(source.used_memory)?;
    let needed = longest.saturating_mul(ON_ITS_WAY);
    (needed > free).then(|| {
        Finding::warning(
            "watch-memory",
            format!(
                "the source has {} of memory left, and a value of {} among {} sampled keys takes up to {} of it while MONITOR sends it",
                size::bytes(free),
                size::bytes(longest),
                size::count(source.survey.sampled),
                size::bytes(needed)
            ),
            "the copy closes MONITOR before memory gets short, but not before a value: take a larger plan until the move is done, or \
             expect that the source evicts keys when such a value is written",
        )
    })
}

/// Names large keys that are read anew after each write: the one of which most has to be read, or else the largest.
fn large_keys(source: &SourceFacts) -> Option<Finding> {
    let sizes = &source.survey.sizes;
    let key = sizes
        .whole
        .iter()
        .max_by_key(|key| (key.bytes.saturating_mul(key.writes), key.bytes))?;
    let added = follow::one_key(key.bytes);
    let line = format!(
        "{} of {} sampled keys are larger than 1 MiB. Hashes, sets, sorted sets and streams among them are followed by their members; the others are \
         copied whole after a write. {} is {} large{}",
        size::count(sizes.large),
        size::count(source.survey.sampled),
        printable(&key.key.name),
        size::bytes(key.bytes),
        written(source, key)
    );
    if added <= SHORT {
        return Some(Finding::ok("large-keys", line));
    }
    Some(Finding::warning(
        "large-keys",
        line,
        "move while the app does not write that key, or trim it before",
    ))
}

/// Tells how often a large key was written, and what that costs.
fn written(source: &SourceFacts, key: &Large) -> String {
    let added = size::duration(follow::one_key(key.bytes));
    let if_often =
        format!("; if it is written all the time, it is copied inside the fence, which is about {added} longer then");
    let Some(looked) = source.survey.sizes.looked else {
        return if_often;
    };
    let shown = size::duration(looked);
    if key.writes == 0 {
        return format!(", and was not written in the {shown} that were looked at{if_often}");
    }
    let written = key.bytes.saturating_mul(key.writes);
    let each_second = written.saturating_mul(1000) / milliseconds(looked).max(1);
    let times = size::count(key.writes);
    let read = size::bytes(each_second);
    if each_second <= source.copy_rate {
        return format!(
            ", and was written {times} times in {shown}: {read} a second are copied again, and the fence is up to {added} longer"
        );
    }
    format!(
        ", and was written {times} times in {shown}: {read} a second would have to be copied again and again, so it is copied inside the fence, which \
         is about {added} longer then"
    )
}

/// Names how much comes to the master, which a provider may bill.
fn traffic(source: &SourceFacts, is_watched: bool) -> Finding {
    let day = if is_watched {
        source.survey.input_bytes_per_s
    } else {
        source.copy_rate
    };
    Finding::ok(
        "traffic",
        format!(
            "{} come to the master once, and then {} {} a day. AWS takes nothing for what comes in from the internet, and about $0.01 for 1 GB \
             within a region; see what the provider takes for what goes out",
            size::bytes(source.used_memory),
            if is_watched { "about" } else { "at most" },
            size::bytes(day.saturating_mul(24 * 60 * 60))
        ),
    )
}

/// Judges how long the app waits.
fn fence_length(source: &SourceFacts, is_watched: bool) -> Finding {
    if is_watched {
        return Finding::ok(
            "fence-length",
            "all keys are compared before the app stops or is paused, and only keys that were written meanwhile again inside the fence",
        );
    }
    let fenced = follow::inside_the_fence(source.keys, source.used_memory);
    let length = format!(
        "with the app stopped or paused, all {} keys are read and compared once more: about {}",
        size::count(source.keys),
        size::duration(fenced)
    );
    if fenced > follow::LONG {
        return Finding::warning(
            "fence-length",
            length,
            "that is long for an app: move in a quiet hour, and give --without-watch to `infra promote` and `infra switch-app`",
        );
    }
    Finding::ok("fence-length", length)
}
