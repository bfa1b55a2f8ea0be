//! What a host of the pair is made of, and how it becomes that.
//!
//! [`settings::Settings`] are the few values a host depends on; [`describe`](settings::Settings::describe) turns them into one [`Description`]: files,
//! packages, units, kernel settings. [`facts`] fetches what is there in one round trip, [`plan`] compares without touching anything, [`apply`] makes the
//! difference in a second round trip. Beside that stand the things that are no description: a host's first contact, its role, its backup.
//!
//! Everything that is put on a host lies in `templates/`. What is not here: the cloud that the host runs in, and what Redis says over its own port.

pub mod acl;
pub mod apply;
pub mod backup;
mod describe;
pub mod description;
pub mod engine;
pub mod facts;
pub mod first_contact;
pub mod lockdown;
pub mod plan;
pub mod programs;
pub mod redis_conf;
pub mod restore;
pub mod role;
pub mod settings;
pub(crate) mod templates;
pub mod tls;
pub mod upkeep;
pub mod user_data;
pub mod users;

pub use description::Description;
pub use facts::Facts;
pub use plan::Plan;
pub use settings::{AppAccess, Position, Settings, Upstream, default_maxmemory};
