//! The local cloud that `infra` is tried and tested on, on one Linux computer: AWS's protocols, real machines behind EC2, and
//! what an app needs around it.
//!
//! `sandbox up` leaves a supervisor running; everything that the supervisor starts can be found again by the run's id, by the
//! state folder and by names that begin with `infra-sb`, which is how `sandbox down` removes it even after the supervisor was
//! killed. Nothing here reaches beyond this computer once the image is built.

pub mod addon;
pub mod aws;
pub mod bench;
pub mod children;
pub mod cleanup;
pub mod cli;
mod command;
pub mod connect;
pub mod delay;
pub mod demo;
mod down;
mod environment;
mod files;
pub mod hosting;
pub mod image;
pub mod machines;
pub mod metadata;
mod mounts;
pub mod network;
mod output;
pub mod paths;
pub mod platform;
mod random;
mod record;
mod run;
mod settings;
mod status;
pub mod story;
mod supervisor;
mod tools;
mod up;
