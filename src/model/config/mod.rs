//! `infra.yml`: what people write. Everything has a default but `name`, `source` and `app`.
//!
//! With `inventory` the only user of serde_yaml. Unknown fields are errors, since a misspelt field that is silently ignored is a wrong cloud.

mod check;
mod fields;
mod pin;
mod read;
mod values;

pub use fields::{App, AppCommands, Aws, Backup, Config, Engine, Hosts, Keep, PlatformKind, Reach, Redis, Source};
pub use pin::write_pin;
pub use values::{is_name, parse_memory};
