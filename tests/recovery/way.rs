//! How the pair follows the source: by replication, or by copying a source that lets nobody replicate.

use crate::kill::Fence;
use serde_json::{Value, json};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Replication,
    Copy,
}

impl Way {
    /// Returns the way that the variable FOLLOW names; replication without it.
    pub fn wanted() -> Self {
        match std::env::var("FOLLOW").as_deref() {
            Err(_) | Ok("replication") => Way::Replication,
            Ok("copy") => Way::Copy,
            Ok(other) => panic!("FOLLOW={other}: want replication or copy"),
        }
    }

    /// Returns the rights that the add-on's host gives.
    pub fn profile(self, fence: Fence) -> &'static str {
        match (self, fence) {
            (Way::Replication, Fence::Pause) => "default",
            (Way::Replication, Fence::Platform) => "no-pause",
            (Way::Copy, Fence::Pause) => "no-replication",
            (Way::Copy, Fence::Platform) => "cloud",
        }
    }

    /// Returns true if the copy that `status` shows has all keys and is told of every write from now on.
    pub fn copy_follows(status: &Value) -> bool {
        let copy = &status["copy"];
        copy["connected"] == true
            && copy["phase"] == "following"
            && copy["watch"]["kind"] == "monitor"
            && copy["watch"]["whole"] == true
            && copy["deletions_held"] == json!(0)
    }
}
