//! Add-on attachments: they own config vars, and the last one on the app that pays cannot go.

use super::http::{Changed, not_taken, refused};
use super::{Heroku, Named};
use crate::error::{Error, Result};
use crate::secret::{Secret, Shown};
use serde::Deserialize;
use std::collections::BTreeMap;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    pub id: String,
    /// The stem of the vars that it owns: `REDIS` owns `REDIS_URL`.
    pub name: String,
    /// The app that it is attached to.
    pub app: String,
    pub addon_id: String,
    pub addon_name: String,
}

impl Attachment {
    /// The var that holds the add-on's URL by this attachment.
    pub fn url_var(&self) -> String {
        format!("{}_URL", self.name)
    }
}

/// The attachment of `app` that owns a var. What an add-on lists as its vars is no proof: it may be attached under another name.
pub fn owner<'a>(attachments: &'a [Attachment], app: &str, var: &str) -> Option<&'a Attachment> {
    attachments
        .iter()
        .find(|attachment| attachment.app == app && attachment.url_var() == var)
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

impl From<AttachmentReply> for Attachment {
    fn from(reply: AttachmentReply) -> Self {
        Attachment {
            id: reply.id,
            name: reply.name,
            app: reply.app.name,
            addon_id: reply.addon.id,
            addon_name: reply.addon.name,
        }
    }
}

impl Heroku {
    /// All attachments of this app.
    pub async fn attachments(&self) -> Result<Vec<Attachment>> {
        let doing = format!("list the attachments of app {}", self.app);
        let replies: Vec<AttachmentReply> = self.http.list(&self.path("/addon-attachments"), &doing).await?;
        Ok(replies.into_iter().map(Attachment::from).collect())
    }

    /// All attachments of an add-on, those to other apps too.
    pub async fn attachments_of_addon(&self, addon: &str) -> Result<Vec<Attachment>> {
        let doing = format!("list the attachments of add-on {addon}");
        let path = format!("/addons/{addon}/addon-attachments");
        let replies: Vec<AttachmentReply> = self.http.list(&path, &doing).await?;
        Ok(replies.into_iter().map(Attachment::from).collect())
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
            if let Some(there) = self.attachments().await?.into_iter().find(|there| there.name == name) {
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
                        return Ok(attachment.into());
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
