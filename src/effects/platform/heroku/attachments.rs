//! Add-on attachments: they own config vars. The last one on the paying app cannot be removed.

use super::http::{Changed, not_taken, refused};
use super::{Heroku, Named};
use crate::model::error::{Error, Result};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    pub id: String,
    /// The stem of its vars: `REDIS` owns `REDIS_URL` and the other vars of its add-on.
    pub name: String,
    pub app: String,
    pub addon_id: String,
    pub addon_name: String,
    /// The add-on's var names, by its first attachment; `None` if the key cannot see them.
    pub config_vars: Option<Vec<String>>,
}

impl Attachment {
    /// Returns the var that holds the add-on's URL by this attachment.
    pub fn url_var(&self) -> String {
        format!("{}_URL", self.name)
    }

    /// Returns true if the platform refuses to set this var. If the add-on cannot be seen, every
    /// var with the attachment's name counts.
    pub fn owns(&self, var: &str) -> bool {
        let Some(suffix) = var
            .strip_prefix(self.name.as_str())
            .and_then(|rest| rest.strip_prefix('_'))
        else {
            return false;
        };
        match &self.config_vars {
            Some(names) => suffixes(names, &self.name).contains(suffix),
            None => true,
        }
    }
}

/// Returns the attachment of `app` that owns a var. Of two that fit, the longer name owns it.
pub fn owner<'a>(attachments: &'a [Attachment], app: &str, var: &str) -> Option<&'a Attachment> {
    attachments
        .iter()
        .filter(|attachment| attachment.app == app && attachment.owns(var))
        .max_by_key(|attachment| attachment.name.len())
}

/// Returns the add-on's var names without their shared stem: `URL` and `TLS_URL` of `REDIS_URL` and
/// `REDIS_TLS_URL`. The API does not name the stem, so all possible stems count.
fn suffixes<'a>(names: &'a [String], attachment: &str) -> BTreeSet<&'a str> {
    let Some(first) = names.first() else {
        return BTreeSet::new();
    };
    let shared: Vec<usize> = first
        .match_indices('_')
        .map(|(at, _)| at + 1)
        .filter(|&length| names.iter().all(|name| name.starts_with(&first[..length])))
        .collect();
    // The attachment in question may be the first one itself.
    let own = shared.last().filter(|&&length| first[..length - 1] == *attachment);
    let lengths = match own {
        Some(own) => std::slice::from_ref(own),
        None => &shared,
    };
    lengths
        .iter()
        .flat_map(|&length| names.iter().map(move |name| &name[length..]))
        .collect()
}

#[derive(Deserialize)]
struct AttachmentReply {
    id: String,
    name: String,
    app: Named,
    addon: AddonReply,
}

#[derive(Deserialize)]
struct AddonReply {
    id: String,
    name: String,
}

impl AttachmentReply {
    fn known(self, config_vars: Option<Vec<String>>) -> Attachment {
        Attachment {
            id: self.id,
            name: self.name,
            app: self.app.name,
            addon_id: self.addon.id,
            addon_name: self.addon.name,
            config_vars,
        }
    }
}

#[derive(Deserialize)]
struct AddonVars {
    id: String,
    #[serde(default)]
    config_vars: Option<Vec<String>>,
}

impl Heroku {
    /// Returns all attachments of this app, each with the var names of its add-on.
    pub async fn attachments(&self) -> Result<Vec<Attachment>> {
        let doing = format!("list the attachments of app {}", self.app);
        let (attachments_path, addons_path) = (self.path("/addon-attachments"), self.path("/addons"));
        let (replies, addons): (Vec<AttachmentReply>, Vec<AddonVars>) = tokio::try_join!(
            self.http.list(&attachments_path, &doing),
            self.http.list(&addons_path, &doing)
        )?;
        let mut known: BTreeMap<String, Vec<String>> = addons
            .into_iter()
            .filter_map(|addon| Some((addon.id, addon.config_vars?)))
            .collect();
        // The list may hold only the add-ons that this app pays for.
        for reply in &replies {
            if !known.contains_key(&reply.addon.id)
                && let Some(names) = self.addon_vars(&reply.addon.id).await?
            {
                known.insert(reply.addon.id.clone(), names);
            }
        }
        Ok(replies
            .into_iter()
            .map(|reply| {
                let names = known.get(&reply.addon.id).cloned();
                reply.known(names)
            })
            .collect())
    }

    /// Returns the names of an add-on's vars; `None` if the key may not see the add-on.
    async fn addon_vars(&self, addon: &str) -> Result<Option<Vec<String>>> {
        let doing = format!("read add-on {addon}");
        let reply: Option<AddonVars> = self.http.find_allowed(&format!("/addons/{addon}"), &doing).await?;
        Ok(reply.and_then(|addon| addon.config_vars))
    }

    /// Returns the plan of the add-on that owns `var`, and its price in cents a month; `None` if no
    /// add-on owns it, or the platform does not say the price.
    pub async fn plan_of(&self, var: &str) -> Result<Option<(String, u64)>> {
        #[derive(Deserialize)]
        struct Reply {
            plan: Named,
            billed_price: Option<Price>,
        }
        #[derive(Deserialize)]
        struct Price {
            cents: u64,
            unit: String,
        }
        let attachments = self.attachments().await?;
        let Some(owner) = owner(&attachments, &self.app, var) else {
            return Ok(None);
        };
        let path = format!("/addons/{}", owner.addon_id);
        let doing = format!("read the price of add-on {}", owner.addon_name);
        let reply: Option<Reply> = self.http.find_allowed(&path, &doing).await?;
        Ok(reply.and_then(|reply| {
            let price = reply.billed_price.filter(|price| price.unit == "month")?;
            Some((reply.plan.name, price.cents))
        }))
    }

    /// Returns the apps that an add-on is attached to, with the names of the attachments.
    pub async fn attachments_of_addon(&self, addon: &str) -> Result<Vec<(String, String)>> {
        let doing = format!("list the attachments of add-on {addon}");
        let path = format!("/addons/{addon}/addon-attachments");
        let replies: Vec<AttachmentReply> = self.http.list(&path, &doing).await?;
        Ok(replies.into_iter().map(|reply| (reply.app.name, reply.name)).collect())
    }

    /// Attaches an add-on under a name, which makes a release. Takes an existing one as it is.
    pub async fn attach(&self, addon: &str, name: &str) -> Result<Attachment> {
        let doing = format!("attach add-on {addon} to app {} as {name}", self.app);
        let mut lost = None;
        for _ in 0..3 {
            let attached = self.attachments().await?;
            let of_addon = |other: &&Attachment| other.addon_id == addon || other.addon_name == addon;
            let names = attached
                .iter()
                .find(of_addon)
                .and_then(|other| other.config_vars.clone());
            if let Some(there) = attached.into_iter().find(|there| there.name == name) {
                if there.addon_id == addon || there.addon_name == addon {
                    return Ok(there);
                }
                return Err(
                    Error::failed(format!("{doing}: {} is attached under that name", there.addon_name)).hint(format!(
                        "detach or rename it first: `heroku addons:detach {name} --app {}`",
                        self.app
                    )),
                );
            }
            let body = serde_json::json!({ "addon": addon, "app": self.app, "name": name });
            match self.http.change("POST", "/addon-attachments", Some(body)).await {
                Changed::Done(reply) => {
                    if let Ok(attachment) = serde_json::from_value::<AttachmentReply>(reply) {
                        return Ok(attachment.known(names));
                    }
                }
                Changed::Refused(refusal) => return Err(refused(&refusal, &doing, lost)),
                Changed::Unclear(cause) => lost = Some(cause),
            }
        }
        Err(not_taken(&doing, lost))
    }

    /// Removes an attachment and its vars, which makes a release. Does nothing if it is gone.
    pub async fn detach(&self, attachment: &Attachment) -> Result<()> {
        let doing = format!("detach {} from app {}", attachment.name, self.app);
        let path = format!("/addon-attachments/{}", attachment.id);
        let is_made = || async { Ok(!self.attachments().await?.iter().any(|there| there.id == attachment.id)) };
        self.http.make("DELETE", &path, None, &doing, is_made).await
    }
}
