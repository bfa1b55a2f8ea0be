//! The marked members of a large key.

use std::collections::HashSet;
use wire::members::Members as Written;

/// The marked members of a key.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Members {
    /// Fields, members, or the ids of entries.
    pub names: HashSet<Vec<u8>>,
    /// The groups of a stream.
    pub groups: HashSet<Vec<u8>>,
    /// Entries of a stream were added at its end, or trimmed at its beginning.
    pub ends: bool,
}

impl Members {
    pub fn is_empty(&self) -> bool {
        self.names.is_empty() && self.groups.is_empty() && !self.ends
    }

    /// Adds members. Returns the bytes of their names.
    pub fn add(&mut self, members: &Written) -> usize {
        let (all, names) = match members {
            Written::Named(names) => (&mut self.names, names.as_slice()),
            Written::Group(group) => (&mut self.groups, std::slice::from_ref(group)),
            Written::Ends => {
                self.ends = true;
                return 0;
            }
        };
        let new = names.iter().filter(|name| all.insert(name.to_vec()));
        new.map(|name| name.len()).sum()
    }

    pub fn len(&self) -> usize {
        self.names.len() + self.groups.len()
    }

    pub fn bytes(&self) -> usize {
        self.names.iter().chain(&self.groups).map(Vec::len).sum()
    }
}
