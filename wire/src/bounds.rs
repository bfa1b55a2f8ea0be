//! How long what servers send may be, and how many of it. What is longer is no protocol, or is not kept.

/// A line that announces a length has a sign and some digits.
pub const LONGEST_HEADER: usize = 64;

/// A line that answers a command which has a short answer.
pub const LONGEST_ANSWER_LINE: usize = 4096;

/// The limit of the answer to one command, or to one batch of them. No value is larger than 512 MiB, and a comparison asks for a batch of small ones at once.
pub const MOST_ANSWER_BYTES: u64 = 768 << 20;
pub const MOST_ANSWER_VALUES: u64 = 1 << 22;

/// Longer lines are no replication stream.
pub const LONGEST_STREAM_LINE: usize = 64 * 1024;

/// The settings `client-query-buffer-limit` and `proto-max-bulk-len` have no sensible end; this is a terabyte.
pub const LONGEST_STREAM_ARGUMENT: u64 = 1 << 40;

/// An argument of the stream that is longer is not kept.
pub const LONGEST_KEPT_ARGUMENT: usize = 64 * 1024;

/// Further arguments of one command are not kept after this many bytes, or this many arguments.
pub const MOST_KEPT_BYTES: usize = 4 << 20;
pub const MOST_KEPT_ARGUMENTS: usize = 1 << 18;

/// Longest line of an append-only log between values: an annotation or a length.
pub const LONGEST_LOG_LINE: usize = 1024;

/// An argument in an append-only log that is walked over.
pub const LONGEST_LOG_ARGUMENT: u64 = 1 << 32;

/// An argument in a base of commands, which is held in memory: the longest that the engine takes.
pub const LONGEST_BASE_ARGUMENT: u64 = 512 << 20;
