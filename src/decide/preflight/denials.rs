//! Commands that the app uses on the source and may not run on the endpoint.

/// A command in use that our `app` user may not run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denied {
    /// In lower case, `client|list` for a subcommand.
    pub command: String,
    /// Calls by others than us, since the source's start where that can be told.
    pub calls: u64,
}

/// The authority that says what the user may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeniedBy {
    /// Our master, asked by ACL DRYRUN.
    Master,
    /// The rules that a host will be given.
    Rules,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denials {
    pub told: DeniedBy,
    /// How many commands in use were looked at.
    pub looked_at: usize,
    pub commands: Vec<Denied>,
}
