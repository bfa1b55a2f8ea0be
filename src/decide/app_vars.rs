//! Decides which config vars of an app name the source, which move, what to detach first. Pure.
//!
//! An attachment owns its vars, and the platform refuses to set them. So an attachment whose var
//! names the source is detached, after its add-on was attached again under `HOSTED_…`. Its vars
//! become plain. A var that cannot be judged stays, and [`AppVars::left`] says why.

use super::vars::{DetachVars, Moved, Naming, Place, hosted_var, parameters, place, restored};
use crate::effects::platform::heroku::owner;
use crate::effects::platform::{Attachment, ConfigVars};
use crate::effects::redis::Server;
use crate::model::error::{Error, Result};
use crate::model::secret::Secret;

/// Prefix of our own vars and attachments, which keep the source's URL.
const HOSTED: &str = "HOSTED_";
/// The port of a Redis URL without one.
const DEFAULT_PORT: u16 = 6379;

/// One app's vars and attachments, and the addresses of the source.
#[derive(Clone, Copy)]
pub struct AppVars<'a> {
    pub app: &'a str,
    /// The var that the app reads, as infra.yml says.
    pub config_var: &'a str,
    pub vars: &'a ConfigVars,
    pub attachments: &'a [Attachment],
    /// Addresses of the source; its own first.
    pub places: &'a [Place],
    /// Vars that stay on the source on purpose.
    pub stay: &'a [String],
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub moved: Vec<Moved>,
    /// The plain var that will keep the source's URL; `None` if there is one already.
    pub keep_in: Option<String>,
}

/// Why a var still names the source after the switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// infra.yml or `--leave` says so.
    OnPurpose,
    /// The API key may not see the add-on, so the vars of its attachment are unknown.
    UnknownAddon,
    /// The same host and password, at a port that no add-on names.
    AnotherPort,
    /// The value holds the source's host, port or password, but is no Redis URL.
    NoUrl,
}

impl Naming {
    /// Returns one app's vars together with this naming.
    pub fn of_app<'a>(
        &'a self,
        places: &'a [Place],
        app: &'a str,
        config_var: &'a str,
        vars: &'a ConfigVars,
        attachments: &'a [Attachment],
    ) -> AppVars<'a> {
        AppVars {
            app,
            config_var,
            vars,
            attachments,
            places,
            stay: &self.stay,
        }
    }
}

/// Returns further addresses of the source's add-on in one app, such as that of its `TLS_URL`.
pub fn places_beside(vars: &ConfigVars, attachments: &[Attachment], app: &str, source: &Place) -> Vec<Place> {
    let owned: Vec<(&str, Place)> = vars
        .readable()
        .filter_map(|(var, value)| {
            let (host, port, _) = place(value)?;
            Some((owner(attachments, app, var)?.addon_id.as_str(), (host, port)))
        })
        .collect();
    let is_source = |addon: &str| owned.iter().any(|(of, at)| *of == addon && at == source);
    let mut others: Vec<Place> = owned
        .iter()
        .filter(|(addon, at)| at != source && is_source(addon))
        .map(|(_, at)| at.clone())
        .collect();
    others.sort();
    others.dedup();
    others
}

/// Returns the vars that attachments own, except those of the attachment of the app's own var.
pub fn owned_beside(vars: &ConfigVars, attachments: &[Attachment], app: &str, config_var: &str) -> Vec<String> {
    let own = owner(attachments, app, config_var).map(|owner| owner.id.as_str());
    vars.names()
        .filter(|var| owner(attachments, app, var).is_some_and(|owner| Some(owner.id.as_str()) != own))
        .map(str::to_string)
        .collect()
}

impl<'a> AppVars<'a> {
    pub fn owner(&self, var: &str) -> Option<&'a Attachment> {
        owner(self.attachments, self.app, var)
    }

    fn names_source(&self, value: &Secret) -> bool {
        place(value).is_some_and(|(host, port, _)| self.places.contains(&(host, port)))
    }

    fn stays(&self, var: &str) -> bool {
        var != self.config_var && self.stay.iter().any(|staying| staying == var)
    }

    /// Returns true if a var is one that keeps the source's URL.
    fn keeps(&self, var: &str) -> bool {
        var != self.config_var && var.starts_with(HOSTED)
    }

    /// Returns the attachments to detach before a change; that of the app's own var first.
    pub fn detached(&self) -> Vec<&'a Attachment> {
        let own = self.owner(self.config_var);
        let mut detached: Vec<&Attachment> = own.into_iter().collect();
        for (var, value) in self.vars.readable() {
            let Some(owner) = self.owner(var).filter(|_| self.names_source(value)) else {
                continue;
            };
            let certain = owner.config_vars.is_some() || owner.url_var() == var;
            let stays = self.stays(var) || owner.name.starts_with(HOSTED);
            if certain && !stays && !detached.iter().any(|there| there.id == owner.id) {
                detached.push(owner);
            }
        }
        detached
    }

    /// Returns the existing vars that an attachment owns.
    pub fn owned_by(&self, attachment: &Attachment) -> Vec<&'a str> {
        self.vars
            .names()
            .filter(|var| self.owner(var).is_some_and(|owner| owner.id == attachment.id))
            .collect()
    }

    /// Returns how to detach the next attachment; `None` if none has to be detached.
    pub fn detachment(&self) -> Result<Option<DetachVars>> {
        let Some(attachment) = self.detached().first().copied() else {
            return Ok(None);
        };
        let vars = self.owned_by(attachment);
        for var in &vars {
            self.vars.get(var)?;
        }
        Ok(Some(DetachVars {
            attachment: attachment.name.clone(),
            addon: attachment.addon_name.clone(),
            hosted: self.hosted_for(attachment, &vars)?,
            vars: vars.into_iter().map(str::to_string).collect(),
        }))
    }

    /// Returns the name under which an attachment's add-on stays attached. `HOSTED_` before the
    /// name of the app's attachment makes the var of [`hosted_var`]. Others reuse that name.
    fn hosted_for(&self, attachment: &Attachment, vars: &[&str]) -> Result<String> {
        let hosted = format!("{HOSTED}{}", attachment.name);
        let here = || self.attachments.iter().filter(|other| other.app == self.app);
        let own = self
            .owner(self.config_var)
            .is_some_and(|owner| owner.id == attachment.id);
        let kept = here().find(|other| {
            other.addon_id == attachment.addon_id && other.name.starts_with(HOSTED) && (!own || other.name == hosted)
        });
        if let Some(kept) = kept {
            return Ok(kept.name.clone());
        }
        let doing = format!("keep add-on {} attached as {hosted}", attachment.addon_name);
        if let Some(other) = here().find(|other| other.name == hosted) {
            return Err(
                Error::failed(format!("{doing}: {} has that name", other.addon_name)).hint(format!(
                    "detach it first: `heroku addons:detach {hosted} --app {}`",
                    self.app
                )),
            );
        }
        match vars.iter().map(|var| format!("{HOSTED}{var}")).find(|twin| self.vars.has(twin)) {
            Some(taken) => Err(
                Error::failed(format!("{doing}: the app has a config var {taken} of its own")).hint(format!(
                    "if it is a copy of the source's URL from an earlier cutover, remove it: `heroku config:unset {taken} --app {}`",
                    self.app
                )),
            ),
            None => Ok(hosted),
        }
    }

    /// Returns the plain vars to move: the app's own, and every other that names the source.
    pub fn moved(&self) -> Vec<Moved> {
        let keepers = self.keepers();
        self.vars
            .readable()
            .filter(|(var, _)| !self.keeps(var) && !self.stays(var) && self.owner(var).is_none())
            .filter(|(var, value)| *var == self.config_var || self.names_source(value))
            .filter_map(|(var, value)| {
                let (_, _, path) = place(value)?;
                let keeper = keepers
                    .iter()
                    .find(|(_, kept)| restored(kept, &path) == *value)
                    .map(|(name, _)| name.clone());
                Some(Moved {
                    var: var.into(),
                    path,
                    copied: keeper.is_none(),
                    kept_in: Some(keeper.unwrap_or_else(|| self.copy_of(var))),
                })
            })
            .collect()
    }

    /// Returns the vars that keep a URL of the source, with their values. Those of the add-on's
    /// attachment come first, since its provider keeps them up to date.
    fn keepers(&self) -> Vec<(String, &'a Secret)> {
        let mut keepers: Vec<(String, &Secret)> = self
            .vars
            .readable()
            .filter(|(var, value)| self.keeps(var) && self.owner(var).is_some() && self.names_source(value))
            .map(|(var, value)| (var.to_string(), value))
            .collect();
        let hosted = hosted_var(self.config_var);
        let value = if self.vars.has(&hosted) {
            self.vars.get(&hosted)
        } else {
            // The change will set it to this value.
            self.vars.get(self.config_var)
        };
        if let Ok(Some(value)) = value
            && !keepers.iter().any(|(name, _)| *name == hosted)
        {
            keepers.push((hosted, value));
        }
        keepers
    }

    /// Returns the plain var that keeps the old value of `var` if no other var holds it.
    fn copy_of(&self, var: &str) -> String {
        let name = format!("{HOSTED}{var}");
        let ours = match self.vars.get(&name) {
            Ok(None) => true,
            Ok(Some(there)) => self.names_source(there),
            Err(_) => false,
        };
        if ours && self.owner(&name).is_none() {
            name
        } else {
            format!("{name}_COPY")
        }
    }

    /// Returns every var that will name the endpoint, also those that an attachment owns now.
    pub fn will_move(&self) -> Vec<(String, String)> {
        let mut all: Vec<(String, String)> = self.moved().into_iter().map(|moved| (moved.var, moved.path)).collect();
        for attachment in self.detached() {
            for var in self.owned_by(attachment) {
                if let Ok(Some(value)) = self.vars.get(var)
                    && let Some((_, _, path)) = place(value)
                    && (var == self.config_var || (self.names_source(value) && !self.stays(var)))
                {
                    all.push((var.into(), path));
                }
            }
        }
        all.sort();
        all
    }

    /// Returns the one change of vars. Fails if an attachment has to be detached before, or owns
    /// one of the vars to set or of `further`, because the platform would refuse the change.
    pub fn change(&self, further: &[&str]) -> Result<Change> {
        let app = self.app;
        if let Some(attachment) = self.detached().first() {
            let var = if self
                .owner(self.config_var)
                .is_some_and(|owner| owner.id == attachment.id)
            {
                self.config_var.to_string()
            } else {
                self.owned_by(attachment).join(", ")
            };
            return Err(Error::failed(format!(
                "change the vars of app {app}: the attachment {} of {} owns {var}",
                attachment.name, attachment.addon_name
            ))
            .hint("nothing was changed by this; run the same command again: it detaches the attachment first"));
        }
        let hosted = hosted_var(self.config_var);
        let change = Change {
            moved: self.moved(),
            keep_in: (!self.vars.has(&hosted)).then_some(hosted),
        };
        let copies = change
            .moved
            .iter()
            .filter(|moved| moved.copied)
            .filter_map(|moved| moved.kept_in.as_deref());
        let names = change.moved.iter().map(|moved| moved.var.as_str()).chain(copies);
        for var in names.chain(change.keep_in.as_deref()).chain(further.iter().copied()) {
            if let Some(owner) = self.owner(var) {
                return Err(Error::failed(format!(
                    "set {var} of app {app}: the attachment {} of {} owns that var, and the platform refuses to change it",
                    owner.name, owner.addon_name
                ))
                .hint("nothing was changed by this; attach the add-on under another name, detach it under this one, then run the same command again"));
            }
        }
        Ok(change)
    }

    /// Returns the vars that will move and have parameters in their URL, with the parameters' names.
    pub fn parameters(&self) -> Vec<(String, Vec<String>)> {
        self.will_move()
            .into_iter()
            .filter_map(|(var, _)| {
                let names = parameters(self.vars.get(&var).ok()??);
                (!names.is_empty()).then_some((var, names))
            })
            .collect()
    }

    /// Returns the vars that will still name the source, each with the reason.
    pub fn left(&self) -> Vec<(String, Left)> {
        let moving = self.will_move();
        let own = self.vars.get(self.config_var).ok().flatten();
        self.vars
            .readable()
            .filter(|(var, _)| !self.keeps(var) && !moving.iter().any(|(moved, _)| moved == var))
            .filter_map(|(var, value)| {
                let why = match place(value) {
                    Some(_) if self.names_source(value) && self.stays(var) => Left::OnPurpose,
                    Some(_) if self.names_source(value) => Left::UnknownAddon,
                    Some(_) if own.is_some_and(|own| same_login(own, value)) => Left::AnotherPort,
                    None if own.is_some_and(|own| self.names_source(own) && holds_part_of(own, var, value)) => {
                        Left::NoUrl
                    }
                    _ => return None,
                };
                Some((var.to_string(), why))
            })
            .collect()
    }
}

/// Returns true if both URLs have the same host and password.
fn same_login(one: &Secret, other: &Secret) -> bool {
    let parts = |url: &Secret| {
        let url = reqwest::Url::parse(url.expose().trim()).ok()?;
        let password = url.password().filter(|password| !password.is_empty())?;
        Some((url.host_str()?.to_ascii_lowercase(), Secret::new(password)))
    };
    parts(one).is_some() && parts(one) == parts(other)
}

/// Returns true if `value` holds the URL's host with its port, or its password, or is one part of
/// it. A port counts only in a var that is named for one.
fn holds_part_of(url: &Secret, var: &str, value: &Secret) -> bool {
    let (Ok(parsed), value) = (reqwest::Url::parse(url.expose().trim()), value.expose().trim()) else {
        return false;
    };
    let Some(host) = parsed.host_str().map(|host| host.trim_matches(['[', ']'])) else {
        return false;
    };
    let port = parsed.port().unwrap_or(DEFAULT_PORT).to_string();
    let (var, lower, host) = (
        var.to_ascii_uppercase(),
        value.to_ascii_lowercase(),
        host.to_ascii_lowercase(),
    );
    let is_port = value == port && var.contains("PORT") && (port != DEFAULT_PORT.to_string() || var.contains("REDIS"));
    // As it stands in the URL, and as a client sends it.
    let raw = parsed.password().map(Secret::new);
    let passwords = [raw, Server::password_of(url)];
    let is_password = passwords.iter().flatten().any(|password| {
        let password = password.expose();
        (password.len() >= 4 && value == password) || (password.len() >= 8 && value.contains(password))
    });
    let is_host = lower.trim_matches(['[', ']']) == host;
    let names_place = [format!("{host}:{port}"), format!("[{host}]:{port}")]
        .iter()
        .any(|place| lower.contains(place));
    is_host || is_port || names_place || is_password
}

#[cfg(test)]
mod tests;
