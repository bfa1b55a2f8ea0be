//! `infra.yml`, the user's settings. Only `name`, `source` and `app` have no default.
//!
//! Unknown fields are errors, since an ignored misspelling gives a wrong cloud.

mod check;
mod fields;
mod pin;
mod read;
mod values;
mod write;

pub use check::is_for_apps;
pub use fields::{
    App, AppCommands, Aws, Backup, Config, Engine, Hosts, Keep, Monitoring, PlatformKind, Reach, Redis, Source,
    SourceTls,
};
pub use pin::write_pin;
pub use write::write_hosts;
