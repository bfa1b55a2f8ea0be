//! `infra promote` once the app is on the pair: the replica takes over from the master, in one
//! sequence that loses no acknowledged write.
//!
//! `decide::failover` chooses the steps from the stored stage and from a look at both hosts, and
//! `work` performs them. The part in which writes wait is one action of the script on the old
//! master, so that it is as short from a far operator, and comes to its end if the operator dies.
//!
//! **Never two masters that take writes.** The replica keeps the app out, in its file, before it
//! gets a master's settings; and the app is let in only once the old master follows in its file
//! and its engine. So neither a restart of a host nor a death of this program opens both.
//!
//! The state has the roles. They change there in one write, after the role itself has moved.

mod fencing;
mod figures;
pub mod forced;
mod probe;
pub mod run;
mod work;

pub use figures::Outcome;
