//! The local cloud in which `infra` is tried and tested, on one Linux computer: AWS's protocols,
//! real machines behind EC2, and what an app needs around it.
//! `sandbox up` leaves a supervisor running. All that it starts can be found by the run's id, by
//! the state folder and by names that begin with `infra-sb`. So `sandbox down` removes it even
//! after the supervisor was killed. Once the image is built, nothing reaches beyond this computer.

pub mod addon;
pub mod aws;
pub mod bench;
pub mod children;
pub mod choice;
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
mod knobs;
pub mod machines;
pub mod markers;
pub mod metadata;
mod mounts;
pub mod names;
pub mod network;
mod output;
pub mod paths;
pub mod platform;
pub mod postgres;
mod random;
mod record;
mod run;
mod settings;
pub mod source;
mod status;
pub mod story;
mod supervisor;
mod tools;
mod up;
