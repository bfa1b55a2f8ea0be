//! The end of an add-on.

use jiff::Timestamp;

use super::{Action, AttachmentState, Change, Platform, Refusal};

impl Platform {
    /// Ends an add-on that no other app uses: its attachments and their variables go with it.
    pub fn destroy_addon(&mut self, app: &str, addon: &str, now: Timestamp) -> Result<Vec<Action>, Refusal> {
        let app = self.app(app)?;
        let (app, app_name) = (app.id, app.name.clone());
        let addon = self.addon(addon)?;
        let (id, name) = (addon.id, addon.name.clone());
        if addon.owner != app {
            return Err(Refusal::not_found("add-on"));
        }
        if self.attachments_of_addon(id).iter().any(|item| item.app != app) {
            return Err(Refusal::invalid(format!(
                "Cannot destroy resource {name} of {app_name}: another app uses it"
            )));
        }
        for item in self.attachments.iter_mut().filter(|item| item.addon == id) {
            item.state = AttachmentState::Detaching;
            item.updated_at = now;
        }
        let description = format!("Remove {name} add-on");
        Ok(self.begin(app, Change::Destroy(id), description, now))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::platform::model::AttachRequest;

    fn url() -> BTreeMap<String, String> {
        BTreeMap::from([("URL".to_owned(), "postgres://one".to_owned())])
    }

    #[test]
    fn an_add_on_goes_with_its_variables_unless_another_app_uses_it() {
        let now = Timestamp::UNIX_EPOCH;
        let mut platform = Platform::new("seed");
        for app in ["demo", "other"] {
            platform
                .create_app(app, "us", BTreeMap::new(), BTreeMap::new(), now)
                .unwrap();
        }
        platform
            .provide_addon("demo", "postgres-1", "hosted:mini", url(), "DATABASE", now)
            .unwrap();
        let request = AttachRequest {
            addon: "postgres-1".into(),
            app: "other".into(),
            name: Some("REPORTS".into()),
            confirm: None,
        };
        let (attachment, _) = platform.attach(request, now).unwrap();
        assert!(platform.destroy_addon("demo", "postgres-1", now).is_err());
        platform.detach(&attachment.to_string(), now).unwrap();
        assert!(platform.destroy_addon("other", "postgres-1", now).is_err());
        platform.destroy_addon("demo", "postgres-1", now).unwrap();
        assert!(platform.addon("postgres-1").is_err());
        let app = platform.app("demo").unwrap();
        assert!(!platform.config_vars(app).contains_key("DATABASE_URL"));
        assert_eq!(
            app.releases.last().map(|release| release.description.as_str()),
            Some("Remove postgres-1 add-on")
        );
    }
}
