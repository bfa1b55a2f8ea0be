//! Add-on attachments: they own config vars, and the last one on the app that pays cannot go.

use super::http::{Changed, not_taken, refused};
use super::{Heroku, Named};
use crate::model::error::{Error, Result};
use crate::model::secret::{Secret, Shown};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    pub id: String,
    /// The stem of the vars that it owns: `REDIS` owns `REDIS_URL`, and whatever else its add-on gives.
    pub name: String,
    /// The app that it is attached to.
    pub app: String,
    pub addon_id: String,
    pub addon_name: String,
    /// The add-on's own names of its vars (`config_vars`), which begin with the name of its first attachment; absent where the key may not see the add-on.
    pub config_vars: Option<Vec<String>>,
}

impl Attachment {
    /// The var that holds the add-on's URL by this attachment.
    pub fn url_var(&self) -> String {
        format!("{}_URL", self.name)
    }

    /// Whether the platform would refuse to set this var of its app. Of an add-on that cannot be seen, every var that begins with the attachment's name counts.
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

/// Which attachment of `app` owns a var. Where one name begins with another, the longer one is meant.
pub fn owner<'a>(attachments: &'a [Attachment], app: &str, var: &str) -> Option<&'a Attachment> {
    attachments
        .iter()
        .filter(|attachment| attachment.app == app && attachment.owns(var))
        .max_by_key(|attachment| attachment.name.len())
}

/// The add-on's vars without the name of its first attachment: `URL` and `TLS_URL` of `REDIS_URL` and `REDIS_TLS_URL`. The API does not tell that name, and the attachment may be
/// gone: it is any beginning that all vars share, and where several fit, each of them counts, so that no owned var is taken for a plain one.
fn suffixes<'a>(names: &'a [String], attachment: &str) -> BTreeSet<&'a str> {
    let Some(first) = names.first() else {
        return BTreeSet::new();
    };
    let shared: Vec<usize> = first
        .match_indices('_')
        .map(|(at, _)| at + 1)
        .filter(|&length| names.iter().all(|name| name.starts_with(&first[..length])))
        .collect();
    // The attachment that is asked about may be the first one itself.
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

/// An add-on, with the names of its vars.
#[derive(Deserialize)]
struct AddonVars {
    id: String,
    #[serde(default)]
    config_vars: Option<Vec<String>>,
}

impl Heroku {
    /// All attachments of this app, each with the names that its add-on gives to vars.
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

    /// The names of an add-on's vars; nothing where the key may not see the add-on.
    async fn addon_vars(&self, addon: &str) -> Result<Option<Vec<String>>> {
        let doing = format!("read add-on {addon}");
        let reply: Option<AddonVars> = self.http.find_allowed(&format!("/addons/{addon}"), &doing).await?;
        Ok(reply.and_then(|addon| addon.config_vars))
    }

    /// The apps that an add-on is attached to, and under which names.
    pub async fn attachments_of_addon(&self, addon: &str) -> Result<Vec<(String, String)>> {
        let doing = format!("list the attachments of add-on {addon}");
        let path = format!("/addons/{addon}/addon-attachments");
        let replies: Vec<AttachmentReply> = self.http.list(&path, &doing).await?;
        Ok(replies.into_iter().map(|reply| (reply.app.name, reply.name)).collect())
    }

    /// What an add-on hands out, by the names it has at the add-on (not those of an attachment).
    pub async fn addon_config(&self, addon: &str) -> Result<BTreeMap<String, Secret>> {
        #[derive(Deserialize)]
        struct Entry {
            name: String,
            value: Shown,
        }
        let path = format!("/addons/{addon}/config");
        let entries: Vec<Entry> = self
            .http
            .list(&path, &format!("read the config of add-on {addon}"))
            .await?;
        let readable = |entry: Entry| Some((entry.name, entry.value.0?));
        Ok(entries.into_iter().filter_map(readable).collect())
    }

    /// Attaches an add-on to this app under a name; makes a release. One that is there already is taken as it is.
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

    /// Removes an attachment, and with it the vars that it owns; makes a release. One that is gone already is done.
    pub async fn detach(&self, attachment: &Attachment) -> Result<()> {
        let doing = format!("detach {} from app {}", attachment.name, self.app);
        let path = format!("/addon-attachments/{}", attachment.id);
        let mut lost = None;
        for _ in 0..3 {
            match self.http.change("DELETE", &path, None).await {
                Changed::Done(_) => return Ok(()),
                Changed::Refused(refusal) if refusal.status.as_u16() == 404 => return Ok(()),
                Changed::Refused(refusal) => return Err(refused(&refusal, &doing, lost)),
                Changed::Unclear(cause) => {
                    lost = Some(cause);
                    if !self.attachments().await?.iter().any(|there| there.id == attachment.id) {
                        return Ok(());
                    }
                }
            }
        }
        Err(not_taken(&doing, lost))
    }
}
