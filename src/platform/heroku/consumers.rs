//! Who else uses a Redis: every app that the key can see and every var of it that names the same server, and every app that the add-on is attached to.
//!
//! Bounded, since an account may see thousands of apps: what was not looked at is counted and said.

use super::{Attachment, ConfigVars, Heroku, Named};
use crate::error::{Error, Result};
use crate::redis::Server;
use futures_util::stream::{self, StreamExt};
use std::collections::{BTreeMap, BTreeSet};

/// Apps whose vars are read. Each is one request of the few thousand that an account may make in an hour.
const MOST_APPS: usize = 200;
const AT_ONCE: usize = 4;

/// What was found of others, and how far it was looked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Consumers {
    pub consumers: Vec<Consumer>,
    /// Apps whose vars were read.
    pub looked_at: usize,
    /// Apps whose vars could not be read, and that no attachment gives away.
    pub unseen: Vec<String>,
    /// Apps beyond the bound.
    pub beyond: usize,
}

/// An app that uses the Redis.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Consumer {
    pub app: String,
    /// Its vars that name the server, sorted.
    pub vars: Vec<String>,
    /// Names of the add-on's attachments to it.
    pub attachments: Vec<String>,
    /// Why its vars could not be read.
    pub unreadable: Option<String>,
}

impl Heroku {
    /// The same platform and key for another app.
    pub fn of(&self, app: &str) -> Heroku {
        Heroku {
            http: self.http.clone(),
            app: app.into(),
        }
    }

    /// Every app that uses the server at this place. Of this app itself: the vars that would go on naming it after a switch, but for those
    /// that are expected to.
    pub async fn consumers(&self, place: (&str, u16), expected: &[String]) -> Result<Consumers> {
        let (vars, attachments) = tokio::try_join!(self.config_vars(), self.attachments())?;
        let mut attached: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for addon in addons_at(&vars, &attachments, place) {
            for attachment in self.attachments_of_addon(&addon).await? {
                attached.entry(attachment.app).or_default().insert(attachment.name);
            }
        }
        let apps: Vec<Named> = self.http.list("/apps", "list the apps of this account").await?;
        let mut names: Vec<String> = apps
            .into_iter()
            .map(|app| app.name)
            .filter(|name| *name != self.app)
            .collect();
        // Those that the add-on is attached to first: they must not fall beyond the bound.
        names.sort_by_key(|name| (!attached.contains_key(name), name.clone()));
        let beyond = names.len().saturating_sub(MOST_APPS);
        names.truncate(MOST_APPS);
        for app in attached.keys().filter(|app| **app != self.app) {
            if !names.contains(app) {
                names.push(app.clone());
            }
        }
        let read: Vec<(String, Result<ConfigVars>)> = stream::iter(names)
            .map(|name| async move {
                let vars = self.of(&name).config_vars().await;
                (name, vars)
            })
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;

        let mut found = Consumers {
            beyond,
            looked_at: 1,
            ..Consumers::default()
        };
        found.consumers.extend(self.own(&vars, &attachments, place, expected));
        for (app, vars) in read {
            let attachments: Vec<String> = attached.remove(&app).into_iter().flatten().collect();
            match vars {
                Ok(vars) => {
                    found.looked_at += 1;
                    let vars = vars_at(&vars, place);
                    if !vars.is_empty() || !attachments.is_empty() {
                        found.consumers.push(Consumer {
                            app,
                            vars,
                            attachments,
                            unreadable: None,
                        });
                    }
                }
                Err(_) if attachments.is_empty() => found.unseen.push(app),
                Err(error) => found.consumers.push(Consumer {
                    app,
                    vars: Vec::new(),
                    attachments,
                    unreadable: Some(said(&error)),
                }),
            }
        }
        found.consumers.sort_by(|a, b| a.app.cmp(&b.app));
        found.unseen.sort();
        Ok(found)
    }

    /// This app's own vars that an attachment of its own keeps: a plain one moves with the switch.
    fn own(
        &self,
        vars: &ConfigVars,
        attachments: &[Attachment],
        place: (&str, u16),
        expected: &[String],
    ) -> Option<Consumer> {
        let owner = |var: &str| {
            attachments
                .iter()
                .find(|attachment| attachment.app == self.app && attachment.url_var() == var)
        };
        let mut kept = Consumer {
            app: self.app.clone(),
            ..Consumer::default()
        };
        for var in vars_at(vars, place) {
            if expected.contains(&var) {
                continue;
            }
            if let Some(owner) = owner(&var) {
                kept.attachments.push(owner.name.clone());
                kept.vars.push(var);
            }
        }
        (!kept.vars.is_empty()).then_some(kept)
    }
}

/// Ids of the add-ons whose attachments to this app name the server.
fn addons_at(vars: &ConfigVars, attachments: &[Attachment], place: (&str, u16)) -> BTreeSet<String> {
    let at = vars_at(vars, place);
    attachments
        .iter()
        .filter(|attachment| at.contains(&attachment.url_var()))
        .map(|attachment| attachment.addon_id.clone())
        .collect()
}

fn vars_at(vars: &ConfigVars, place: (&str, u16)) -> Vec<String> {
    let names = |var: &(&str, &crate::secret::Secret)| {
        let url = var.1.expose().trim();
        (url.starts_with("redis://") || url.starts_with("rediss://"))
            && Server::place_of(var.1).is_ok_and(|(host, port)| {
                host.trim_matches(['[', ']']).eq_ignore_ascii_case(place.0) && port == place.1
            })
    };
    vars.readable()
        .filter(names)
        .map(|(name, _)| name.to_string())
        .collect()
}

fn said(error: &Error) -> String {
    error.chain().pop().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::tests::Stand;
    use super::*;
    use serde_json::json;

    const PLACE: (&str, u16) = ("hosted.test", 6390);

    async fn with_others() -> Stand {
        let stand = Stand::new().await;
        for (name, config) in [
            (
                "reports",
                json!({"CACHE": "rediss://:other@HOSTED.test:6390/3", "REDIS_URL": "redis://elsewhere.test:6379"}),
            ),
            (
                "blog",
                json!({"REDIS_URL": "redis://hosted.test:6391", "NOTE": "see hosted.test:6390"}),
            ),
            ("pr-17", json!({})),
        ] {
            stand
                .admin(
                    "apps",
                    json!({"name": name, "region": "us", "formation": {}, "config": config}),
                )
                .await;
        }
        stand.heroku.of("pr-17").attach("redis-1", "QUEUE").await.unwrap();
        stand
    }

    fn expected() -> Vec<String> {
        vec!["REDIS_URL".into(), "HOSTED_REDIS_URL".into()]
    }

    #[tokio::test]
    async fn every_app_is_found_by_its_vars_or_by_the_addon_s_attachments() {
        let stand = with_others().await;
        stand.admin("apps/demo/behaviour", json!({"page_size": 1})).await;
        let found = stand.heroku.consumers(PLACE, &expected()).await.unwrap();
        let seen: Vec<(&str, Vec<&str>, Vec<&str>)> = found
            .consumers
            .iter()
            .map(|consumer| {
                (
                    consumer.app.as_str(),
                    consumer.vars.iter().map(String::as_str).collect(),
                    consumer.attachments.iter().map(String::as_str).collect(),
                )
            })
            .collect();
        assert_eq!(
            seen,
            [
                ("pr-17", vec!["QUEUE_URL"], vec!["QUEUE"]),
                ("reports", vec!["CACHE"], vec![])
            ]
        );
        assert_eq!((found.looked_at, found.beyond, found.unseen.len()), (4, 0, 0));
    }

    #[tokio::test]
    async fn a_second_attachment_of_the_app_itself_counts_and_what_is_expected_does_not() {
        let stand = Stand::new().await;
        stand.heroku.attach("redis-1", "HOSTED_REDIS").await.unwrap();
        assert!(
            stand
                .heroku
                .consumers(PLACE, &expected())
                .await
                .unwrap()
                .consumers
                .is_empty()
        );
        stand.heroku.attach("redis-1", "CACHE").await.unwrap();
        let found = stand.heroku.consumers(PLACE, &expected()).await.unwrap();
        assert_eq!(
            found.consumers,
            [Consumer {
                app: "demo".into(),
                vars: vec!["CACHE_URL".into()],
                attachments: vec!["CACHE".into()],
                unreadable: None
            }]
        );
    }
}
