//! The app's config vars. Every value is a secret, since any of them may be a URL with a password.

use super::Heroku;
use super::http::{Changed, not_taken, refused};
use crate::model::error::{Doing, Error, Result};
use crate::model::secret;
use crate::model::secret::{Secret, Shown};
use std::collections::BTreeMap;

/// Holds names and values; `None` is a value that the platform masks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigVars(BTreeMap<String, Option<Secret>>);

impl ConfigVars {
    pub fn new(vars: impl IntoIterator<Item = (String, Option<Secret>)>) -> Self {
        ConfigVars(vars.into_iter().collect())
    }

    #[cfg(test)]
    pub(crate) fn plain<const N: usize>(vars: [(&str, &str); N]) -> Self {
        ConfigVars::new(vars.map(|(name, value)| (name.to_string(), Some(Secret::new(value)))))
    }

    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Returns the value of a var; `None` if there is no such var, an error if it is masked.
    pub fn get(&self, name: &str) -> Result<Option<&Secret>> {
        match self.0.get(name) {
            None => Ok(None),
            Some(Some(value)) => Ok(Some(value)),
            Some(None) => Err(
                Error::failed(format!("read the config var {name}: the platform masks its value"))
                    .hint("use a key whose account may see config vars"),
            ),
        }
    }

    /// Returns the vars whose values can be read.
    pub fn readable(&self) -> impl Iterator<Item = (&str, &Secret)> {
        self.0
            .iter()
            .filter_map(|(name, value)| Some((name.as_str(), value.as_ref()?)))
    }

    /// Returns the vars whose values the platform does not show.
    pub fn masked(&self) -> impl Iterator<Item = &str> {
        self.0
            .iter()
            .filter(|(_, value)| value.is_none())
            .map(|(name, _)| name.as_str())
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    fn of(reply: BTreeMap<String, Shown>) -> Self {
        let readable = |shown: Shown| shown.0.filter(|value| !is_mask(value.expose()));
        ConfigVars::new(reply.into_iter().map(|(name, shown)| (name, readable(shown))))
    }

    /// Returns true if all vars are as wanted; `None` stands for an absent var.
    pub fn agrees_with(&self, wanted: &BTreeMap<String, Option<Secret>>) -> bool {
        wanted.iter().all(|(name, value)| match value {
            Some(value) => self.0.get(name).is_some_and(|there| there.as_ref() == Some(value)),
            None => !self.0.contains_key(name),
        })
    }

    /// Returns whether these vars have the same values in both.
    pub fn same_as<'a>(&self, other: &ConfigVars, mut names: impl Iterator<Item = &'a String>) -> bool {
        names.all(|name| self.0.get(name) == other.0.get(name))
    }
}

fn is_mask(text: &str) -> bool {
    text.len() >= 3 && text.bytes().all(|byte| byte == b'*')
}

impl Heroku {
    pub async fn config_vars(&self) -> Result<ConfigVars> {
        let doing = format!("read the config vars of app {}", self.app);
        self.http
            .get(&self.path("/config-vars"), &doing)
            .await
            .map(ConfigVars::of)
    }

    /// Sets vars, or removes those with `None`, in one change, which makes one release. Returns the
    /// newest release before it; `None` if all are as wanted. A release phase delays new values.
    pub async fn set_config_vars(&self, wanted: &BTreeMap<String, Option<Secret>>) -> Result<Option<u64>> {
        let names = wanted.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        let doing = format!("set {names} of app {}", self.app);
        // Errors up to here occur before anything is sent.
        let unsent = |error: Error| error.with_nothing_changed();
        if self.config_vars().await.map_err(unsent)?.agrees_with(wanted) {
            return Ok(None);
        }
        let newest = self.newest_release().await.map_err(unsent)?;
        let before = newest.map_or(0, |release| release.version);
        let mut lost = None;
        for _ in 0..3 {
            let body: BTreeMap<&str, Option<&str>> = wanted
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_ref().map(Secret::expose)))
                .collect();
            let body = secret::json(&body).doing(|| doing.clone())?;
            match self
                .http
                .change_secretly("PATCH", &self.path("/config-vars"), body)
                .await
            {
                Changed::Done(_) => return Ok(Some(before)),
                Changed::Refused(refusal) => {
                    let error = refused(&refusal, &doing, lost);
                    return Err(if refusal.message.contains("Cannot overwrite attachment values") {
                        error.hint("an add-on's attachment owns the var: detach it, or let `infra switch-app` do it")
                    } else {
                        error
                    });
                }
                Changed::Unclear(cause) => {
                    lost = Some(cause);
                    let taken = self.config_vars().await?.agrees_with(wanted)
                        || self.newest_release().await?.map_or(0, |release| release.version) > before;
                    if taken {
                        return Ok(Some(before));
                    }
                }
            }
        }
        Err(not_taken(&doing, lost))
    }
}
