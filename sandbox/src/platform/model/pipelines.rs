//! Pipelines, which group an app with its staging and review apps, and Private Spaces.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Platform, Refusal};

/// An app's place in a pipeline.
#[derive(Clone, Debug)]
pub struct Coupling {
    pub id: Uuid,
    pub app: Uuid,
    pub pipeline: Uuid,
    pub pipeline_name: String,
    pub stage: Stage,
    pub created_at: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    Review,
    Development,
    Staging,
    Production,
}

/// The default address of a space's dynos, from which this computer reaches machines.
const SPACE_ADDRESS: &str = "10.77.0.1";

impl Platform {
    /// Puts an app into a pipeline, which is made by its first app.
    pub fn couple(&mut self, app: &str, pipeline: &str, stage: Stage, now: Timestamp) -> Result<(), Refusal> {
        let app = self.app(app)?.id;
        if self.couplings.iter().any(|coupling| coupling.app == app) {
            return Err(Refusal::invalid("The app is in a pipeline already"));
        }
        let known = self
            .couplings
            .iter()
            .find(|coupling| coupling.pipeline_name == pipeline);
        let known = known.map(|coupling| coupling.pipeline);
        let pipeline_id = known.unwrap_or_else(|| self.next_id());
        let id = self.next_id();
        self.couplings.push(Coupling {
            id,
            app,
            pipeline: pipeline_id,
            pipeline_name: pipeline.to_owned(),
            stage,
            created_at: now,
        });
        Ok(())
    }

    pub fn couplings_of(&self, pipeline: &str) -> Result<Vec<&Coupling>, Refusal> {
        let all = self.couplings.iter();
        let found: Vec<&Coupling> = all
            .filter(|coupling| coupling.pipeline_name == pipeline || coupling.pipeline.to_string() == pipeline)
            .collect();
        if found.is_empty() {
            return Err(Refusal::not_found("pipeline"));
        }
        Ok(found)
    }

    /// Moves an app into a Private Space, which is made by its first app.
    pub fn place_in_space(&mut self, app: &str, space: &str) -> Result<(), Refusal> {
        self.app_mut(app)?.space = Some(space.to_owned());
        let sources = self.spaces.entry(space.to_owned()).or_default();
        if sources.is_empty() {
            sources.push(SPACE_ADDRESS.to_owned());
        }
        Ok(())
    }
}
