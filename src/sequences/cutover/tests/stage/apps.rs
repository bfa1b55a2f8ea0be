//! The platform of a stage: its apps, what it is asked for, and how it misbehaves.

use super::super::super::{Staying, naming};
use super::rented::{Rented, reading, relay};
use super::{KEY, Stage};
use crate::decide::vars::place_of;
use crate::effects::platform::{Formation, Heroku, Platform};
use crate::effects::redis::Server;
use crate::model::secret::Secret;
use serde_json::json;
use std::sync::Arc;

/// A change that the platform was asked for.
#[derive(Clone, Debug, serde::Deserialize, PartialEq)]
pub struct Asked {
    pub method: String,
    pub path: String,
    pub status: u16,
    pub ago_ms: u64,
}

impl Stage {
    pub(super) async fn create_app(&self) {
        let Rented {
            attachment,
            second_port,
            copy,
            web_reads,
            worker_reads,
            ..
        } = self.rented;
        let url = self.rented.url(self.source.port);
        let formation = json!({
            "web": {"command": ["sh", "-c", reading(&self.writer, web_reads)]},
            "worker": {"command": ["sh", "-c", reading(&self.writer, worker_reads)]},
        });
        let config = match copy {
            Some(tail) => json!({"REDIS_URL": format!("{}{tail}", self.source().url().expose())}),
            None => json!({}),
        };
        let app = json!({"name": "demo", "region": "us", "formation": formation, "config": config});
        self.admin("apps", app).await;
        let values = if second_port {
            let twin = Server {
                port: relay(self.source.port).await,
                ..self.source()
            };
            json!({"TLS_URL": twin.url().expose(), "BASTIONS": "192.0.2.4"})
        } else {
            json!({})
        };
        let addon = json!({
            "name": "redis-oval-1", "plan": "hosted-redis:mini", "url": url.expose(), "attachment": attachment, "values": values,
        });
        self.admin("apps/demo/addons", addon).await;
    }

    /// Looks at the apps' vars, as every command does when it begins.
    pub async fn look_at_vars(&mut self) {
        let mut apps = Vec::new();
        for app in &self.apps {
            apps.push(Platform::Heroku(app.clone()).known().await.unwrap());
        }
        let stay = self.naming.stay.clone();
        let staying = Staying { vars: &stay, apps: &[] };
        self.naming = naming(&apps, self.rented.config_var, &place_of(&self.known_source), staying);
    }

    /// Makes an app to which the add-on is attached; its process reads that attachment's var.
    pub async fn attached_app(&mut self, attachment: &str) -> Heroku {
        let formation = json!({"web": {"command": ["sh", "-c", reading(&self.writer, &format!("{attachment}_URL"))]}});
        let config = json!({"REDIS_URL": self.source().url().expose()});
        self.admin(
            "apps",
            json!({"name": "second", "region": "us", "formation": formation, "config": config}),
        )
        .await;
        let second = Heroku::new(&self.api, Secret::new(KEY), "second").unwrap();
        second.attach("redis-oval-1", attachment).await.unwrap();
        second.scale(&Formation::from([("web".into(), 1)])).await.unwrap();
        self.apps.push(second.clone());
        self.look_at_vars().await;
        second
    }

    async fn admin(&self, path: &str, body: serde_json::Value) {
        // The admin paths want no key.
        let client = self.heroku_client();
        let response = client
            .post(format!("{}/_sandbox/{path}", self.api))
            .json(&body)
            .send()
            .await
            .unwrap();
        let status = response.status();
        assert!(
            status.is_success(),
            "{path}: {status} {}",
            response.text().await.unwrap()
        );
    }

    fn heroku_client(&self) -> reqwest::Client {
        let tls = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .build()
            .unwrap()
    }

    /// Makes an app with processes of its own, and the source's URL in a plain var.
    pub async fn second_app(&mut self) -> Heroku {
        self.second_app_in(json!(null), 1).await
    }

    /// Like [`Stage::second_app`], with this number of processes, in a Private Space if one is
    /// named.
    pub async fn second_app_in(&mut self, space: serde_json::Value, processes: u64) -> Heroku {
        self.further_app("second", space, processes).await
    }

    pub async fn further_app(&mut self, name: &str, space: serde_json::Value, processes: u64) -> Heroku {
        let formation = json!({"web": {"command": ["sh", "-c", self.writer]}});
        self.admin(
            "apps",
            json!({"name": name, "region": "us", "formation": formation, "space": space}),
        )
        .await;
        let app = Heroku::new(&self.api, Secret::new(KEY), name).unwrap();
        let vars = [("REDIS_URL".to_string(), Some(self.source().url()))].into();
        app.set_config_vars(&vars).await.unwrap();
        app.scale(&Formation::from([("web".into(), processes)])).await.unwrap();
        self.apps.push(app.clone());
        app
    }

    /// Plans failures of the whole platform, and forgets the log of changes.
    pub async fn plan_failures(&self, plan: serde_json::Value) {
        self.admin("failures", plan).await;
    }

    /// Returns the changes that were asked for since the failures were planned.
    pub async fn changes(&self) -> Vec<Asked> {
        let response = self
            .heroku_client()
            .get(format!("{}/_sandbox/changes", self.api))
            .send()
            .await;
        serde_json::from_str(&response.unwrap().text().await.unwrap()).unwrap()
    }

    pub async fn behave(&self, behaviour: serde_json::Value) {
        self.behave_as("demo", behaviour).await;
    }

    /// Makes the platform misbehave for another app.
    pub async fn behave_as(&self, app: &str, behaviour: serde_json::Value) {
        self.admin(&format!("apps/{app}/behaviour"), behaviour).await;
    }
}
