//! Finds other users of a Redis: apps with its URL in a var, or an attachment of the add-on.
//!
//! An account may see thousands of apps, so only some are read, and the rest is reported.

use super::{Attachment, ConfigVars, Heroku, Named};
use crate::effects::redis::Server;
use crate::model::error::{Error, Result};
use futures_util::stream::{self, StreamExt};
use std::collections::{BTreeMap, BTreeSet};

/// Apps whose vars are read. Each costs one of the few thousand requests per hour of an account.
const MOST_APPS: usize = 200;
const AT_ONCE: usize = 4;

/// Holds the other users that were found, and how many apps were read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Consumers {
    pub consumers: Vec<Consumer>,
    /// Number of apps whose vars were read.
    pub looked_at: usize,
    /// Apps whose vars could not be read and that have no attachment.
    pub unseen: Vec<String>,
    /// Number of apps beyond the limit.
    pub beyond: usize,
}

/// An app that uses the Redis.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Consumer {
    pub app: String,
    /// Vars of the app that name the server, sorted.
    pub vars: Vec<String>,
    /// Names of the add-on's attachments to the app.
    pub attachments: Vec<String>,
    /// The reason why the vars of the app could not be read.
    pub unreadable: Option<String>,
}

impl Heroku {
    /// Returns a client with the same key for another app.
    pub fn of(&self, app: &str) -> Heroku {
        Heroku {
            http: self.http.clone(),
            app: app.into(),
        }
    }

    /// Returns every other app that uses the server at these places. `vars` and `attachments` are
    /// those of this app; `known` has the vars of other apps that were read already.
    pub async fn consumers(
        &self,
        places: &[(String, u16)],
        vars: &ConfigVars,
        attachments: &[Attachment],
        known: &BTreeMap<&str, &ConfigVars>,
    ) -> Result<Consumers> {
        let mut attached: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for addon in addons_at(vars, attachments, places) {
            for (app, name) in self.attachments_of_addon(&addon).await? {
                attached.entry(app).or_default().insert(name);
            }
        }
        let apps: Vec<Named> = self.http.list("/apps", "list the apps of this account").await?;
        let mut names: Vec<String> = apps
            .into_iter()
            .map(|app| app.name)
            .filter(|name| *name != self.app)
            .collect();
        // Apps with an attachment come first, so that they stay within the limit.
        names.sort_by_key(|name| (!attached.contains_key(name), name.clone()));
        let beyond = names.len().saturating_sub(MOST_APPS);
        names.truncate(MOST_APPS);
        for app in attached.keys().filter(|app| **app != self.app) {
            if !names.contains(app) {
                names.push(app.clone());
            }
        }
        let read: Vec<(String, Result<Vec<String>>)> = stream::iter(names)
            .map(|name| async move {
                let vars = match known.get(name.as_str()) {
                    Some(vars) => Ok(vars_at(vars, places)),
                    None => {
                        let vars = self.of(&name).config_vars().await;
                        vars.map(|vars| vars_at(&vars, places))
                    }
                };
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
        for (app, vars) in read {
            let attachments: Vec<String> = attached.remove(&app).into_iter().flatten().collect();
            match vars {
                Ok(vars) => {
                    found.looked_at += 1;
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
}

/// Returns the ids of the add-ons whose attachments to this app name the server.
fn addons_at(vars: &ConfigVars, attachments: &[Attachment], places: &[(String, u16)]) -> BTreeSet<String> {
    let at = vars_at(vars, places);
    attachments
        .iter()
        .filter(|attachment| at.iter().any(|var| attachment.owns(var)))
        .map(|attachment| attachment.addon_id.clone())
        .collect()
}

fn vars_at(vars: &ConfigVars, places: &[(String, u16)]) -> Vec<String> {
    let names = |var: &(&str, &crate::model::secret::Secret)| {
        let url = var.1.expose().trim();
        (url.starts_with("redis://") || url.starts_with("rediss://"))
            && Server::place_of(var.1).is_ok_and(|(host, port)| {
                let host = host.trim_matches(['[', ']']);
                places
                    .iter()
                    .any(|place| host.eq_ignore_ascii_case(&place.0) && port == place.1)
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
    use super::Consumers;
    use serde_json::json;
    use std::collections::BTreeMap;

    fn places() -> Vec<(String, u16)> {
        vec![("hosted.test".into(), 6390)]
    }

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

    impl Stand {
        async fn consumers(&self, places: &[(String, u16)]) -> Consumers {
            let (vars, attachments) = tokio::try_join!(self.heroku.config_vars(), self.heroku.attachments()).unwrap();
            let known = BTreeMap::new();
            let consumers = self.heroku.consumers(places, &vars, &attachments, &known);
            consumers.await.unwrap()
        }
    }

    #[tokio::test]
    async fn every_app_is_found_by_its_vars_or_by_the_addon_s_attachments() {
        let stand = with_others().await;
        stand.admin("apps/demo/behaviour", json!({"page_size": 1})).await;
        let found = stand.consumers(&places()).await;
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
    async fn another_app_is_found_by_the_addon_s_other_port_too() {
        let stand = Stand::new().await;
        let config = json!({"REDIS_URL": "rediss://:hunter2@hosted.test:6391"});
        stand
            .admin(
                "apps",
                json!({"name": "jobs", "region": "us", "formation": {}, "config": config}),
            )
            .await;
        assert!(stand.consumers(&places()).await.consumers.is_empty());
        let both = [places(), vec![("hosted.test".into(), 6391)]].concat();
        let found = stand.consumers(&both).await;
        let apps: Vec<&str> = found.consumers.iter().map(|consumer| consumer.app.as_str()).collect();
        assert_eq!(apps, ["jobs"]);
    }
}
