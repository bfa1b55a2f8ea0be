//! Decides whether the append-only log is in force: whether every write reaches the files that the
//! manifest lists. Pure but for reading a file's mark.
//!
//! After a full copy, and after `CONFIG SET appendonly yes`, the engine collects its writes in a
//! temporary increment until a rewrite succeeds. Until then the listed files are those of before,
//! and INFO says `aof_enabled:1` all the same. In that state a rewrite always runs or is scheduled;
//! it ends by listing a new increment, and never by going on in an old one.
//! Source: Redis 7 and 8, Valkey 8, `aof.c`: `AOF_WAIT_REWRITE`.

use crate::engine::Look;
use serde::{Deserialize, Serialize};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The name of the temporary increment, with `appendfilename appendonly.aof`.
pub const TEMPORARY: &str = "temp-appendonly.aof.incr";

/// Tells one writing of the temporary increment from another. A crash leaves the file behind, and
/// the engine does not remove it when it starts.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub struct Mark {
    device: u64,
    inode: u64,
    modified_s: i64,
    modified_ns: i64,
}

/// Returns the mark of the temporary increment in a folder; `None` if there is no such file.
pub fn mark(folder: &Path) -> Option<Mark> {
    let file = std::fs::metadata(folder.join(TEMPORARY)).ok()?;
    Some(Mark {
        device: file.dev(),
        inode: file.ino(),
        modified_s: file.mtime(),
        modified_ns: file.mtime_nsec(),
    })
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Force {
    /// Every write reaches the listed files.
    Held,
    /// A rewrite runs or is scheduled, and INFO does not tell which file gets the writes.
    Unclear,
    /// Writes do not reach the listed files.
    Stopped(String),
}

/// Decides from an answer of INFO, the mark of the temporary increment right after it, and the mark
/// that it had when the log was last in force.
pub fn judge(look: &Look, now: Option<Mark>, known: Option<Mark>) -> Force {
    if !look.log_enabled {
        return Force::Stopped("the engine's append-only log is off".into());
    }
    if !look.rewriting && !look.scheduled {
        return Force::Held;
    }
    // Without a child in its way, a scheduled rewrite waits only after failures.
    let failed = look.scheduled && !look.rewriting && !look.saving && !look.last_rewrite_ok;
    if failed || (now.is_some() && now != known) {
        return Force::Stopped(format!(
            "the engine's append-only log is not in force: writes go to {TEMPORARY}, or nowhere, until a rewrite succeeds"
        ));
    }
    // A rewrite that follows a full copy creates the temporary increment before it begins.
    if look.rewriting && now.is_none() {
        return Force::Held;
    }
    Force::Unclear
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(rewriting: bool, scheduled: bool) -> Look {
        Look {
            log_enabled: true,
            last_rewrite_ok: true,
            rewriting,
            scheduled,
            ..Look::default()
        }
    }

    fn at(modified_s: i64) -> Option<Mark> {
        Some(Mark {
            device: 1,
            inode: 2,
            modified_s,
            modified_ns: 0,
        })
    }

    #[test]
    fn a_log_without_a_rewrite_is_in_force_whatever_a_crash_left_behind() {
        assert_eq!(judge(&look(false, false), None, None), Force::Held);
        assert_eq!(judge(&look(false, false), at(5), None), Force::Held);
    }

    #[test]
    fn a_rewrite_with_a_new_temporary_increment_is_one_after_a_full_copy() {
        for (rewriting, scheduled) in [(true, false), (false, true)] {
            let look = look(rewriting, scheduled);
            assert!(matches!(judge(&look, at(5), None), Force::Stopped(_)));
            assert!(matches!(judge(&look, at(6), at(5)), Force::Stopped(_)));
        }
    }

    #[test]
    fn an_ordinary_rewrite_leaves_the_log_in_force() {
        assert_eq!(judge(&look(true, false), None, None), Force::Held);
        assert_eq!(
            judge(&look(true, false), at(5), at(5)),
            Force::Unclear,
            "a file that a crash left behind hides the difference"
        );
        assert_eq!(judge(&look(false, true), None, None), Force::Unclear);
    }

    #[test]
    fn a_rewrite_that_failed_and_is_scheduled_again_is_one_after_a_full_copy() {
        let failed = Look {
            last_rewrite_ok: false,
            ..look(false, true)
        };
        assert!(matches!(judge(&failed, None, None), Force::Stopped(_)));
        let behind_another = Look { saving: true, ..failed };
        assert_eq!(judge(&behind_another, None, None), Force::Unclear);
    }

    #[test]
    fn a_log_that_is_off_is_stopped() {
        let off = Look {
            log_enabled: false,
            ..look(false, false)
        };
        assert!(matches!(judge(&off, None, None), Force::Stopped(_)));
    }
}
