//! How the sandbox is raised, as command line arguments, and the runtime that each command uses.

use anyhow::{Context, Result};
use clap::Args;

use crate::addon::{Engine, Profile, Tls};
use crate::choice::name_of;
use crate::source::{Rented, Source};

/// How the sandbox is raised.
#[derive(Debug, Clone, Args)]
pub struct Settings {
    /// Factor on the platform's delays, such as a dyno's boot; 1 is as slow as the real one
    #[arg(long, default_value_t = 1.0, value_name = "FACTOR", value_parser = time_scale)]
    pub time_scale: f64,
    /// Which kind of hosted Redis the app rents; each option that begins with `--addon-` changes one property of it
    #[arg(long, value_enum, default_value_t = Source::Default, value_name = "SOURCE")]
    pub source: Source,
    /// Whether the hosted add-on speaks TLS, and which certificate it shows
    #[arg(long, value_enum, value_name = "CERTIFICATE")]
    pub addon_tls: Option<Tls>,
    /// Let the hosted add-on's URL have a name instead of an address; `sandbox run` then needs root
    #[arg(long)]
    pub addon_name: bool,
    /// What the hosted add-on is; fetched once if it is not this computer's own
    #[arg(long, value_enum, value_name = "ENGINE")]
    pub addon_engine: Option<Engine>,
    /// What the add-on's host lets its renter do
    #[arg(long, value_enum, value_name = "PROFILE")]
    pub addon_profile: Option<Profile>,
    /// Rent a PostgreSQL too, as a second add-on whose config var is DATABASE_URL
    #[arg(long)]
    pub addon_postgres: bool,
    /// Milliseconds of a round trip between what `sandbox run` runs and everything else; 80 is another continent
    #[arg(long, default_value_t = 0, value_name = "MS", value_parser = clap::value_parser!(u64).range(..=10_000))]
    pub rtt: u64,
    /// Let AWS, platform and machines answer as they do now and then: late, throttled, in another order
    #[arg(long)]
    pub knobs: bool,
    /// Do not create the demo app and its add-on
    #[arg(long)]
    pub no_app: bool,
}

fn time_scale(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(factor) if factor.is_finite() && factor >= 0.0 => Ok(factor),
        _ => Err("a number that is not negative, such as 0.1".to_owned()),
    }
}

impl Settings {
    /// Returns the hosted Redis: its kind, with the properties that were changed.
    pub fn rented(&self) -> Rented {
        let mut rented = self.source.rented();
        rented.engine = self.addon_engine.unwrap_or(rented.engine);
        rented.tls = self.addon_tls.unwrap_or(rented.tls);
        rented.profile = self.addon_profile.unwrap_or(rented.profile);
        rented.is_named |= self.addon_name;
        rented
    }

    pub fn as_arguments(&self) -> Vec<String> {
        let mut arguments = vec![
            format!("--time-scale={}", self.time_scale),
            format!("--source={}", name_of(&self.source)),
            format!("--rtt={}", self.rtt),
        ];
        arguments.extend(self.addon_tls.map(|tls| format!("--addon-tls={}", name_of(&tls))));
        arguments.extend(
            self.addon_engine
                .map(|engine| format!("--addon-engine={}", name_of(&engine))),
        );
        arguments.extend(
            self.addon_profile
                .map(|profile| format!("--addon-profile={}", name_of(&profile))),
        );
        arguments.extend(self.addon_name.then(|| "--addon-name".to_owned()));
        arguments.extend(self.addon_postgres.then(|| "--addon-postgres".to_owned()));
        arguments.extend(self.knobs.then(|| "--knobs".to_owned()));
        arguments.extend(self.no_app.then(|| "--no-app".to_owned()));
        arguments
    }
}

/// The runtime that each verb blocks on.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Runtime::new().context("start the asynchronous runtime")
}
