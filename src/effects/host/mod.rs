//! The content of a host of the pair, and how a host is brought to it.
//!
//! [`settings::Settings`] are the few values that a host depends on.
//! [`describe`](settings::Settings::describe) turns them into a [`Description`]: files, packages,
//! units, kernel settings. [`facts`] fetches what is there in one round trip, [`plan`] compares,
//! [`apply`] makes the changes in a second one. First contact, role and backup are apart.
//!
//! [`tunnel`] describes the way from the engine to the source, and [`copy`] what takes its place if
//! nobody may replicate from there.
//!
//! Texts for hosts are in `templates/`. Not here: the cloud of a host, and Redis's own port.

pub mod acl;
pub mod apply;
pub mod backup;
pub mod copy;
mod describe;
pub mod description;
pub mod disk;
pub mod engine;
pub mod exporters;
pub mod facts;
pub mod first_contact;
pub mod lockdown;
pub mod only_here;
pub mod plan;
pub mod programs;
pub mod reach;
pub mod redis_conf;
pub mod restore;
pub mod role;
pub mod settings;
mod status_file;
pub(crate) mod templates;
pub mod tls;
pub mod tunnel;
pub mod upgrade;
pub mod upkeep;
pub mod user_data;
pub mod users;

pub use description::Description;
pub use facts::Facts;
pub use plan::Plan;
pub use settings::{AppAccess, Copied, Position, Settings, Upstream, default_maxmemory};
