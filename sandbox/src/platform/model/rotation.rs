//! New credentials of an add-on by its provider: everything attached follows, copies do not.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{Action, Change, Platform, Refusal};

impl Platform {
    /// Replaces values of an add-on, by the name after the attachment's. Each attached app gets one
    /// release and restarts; a plain variable with a copy keeps the old value.
    pub fn rotate(
        &mut self,
        addon: &str,
        values: BTreeMap<String, String>,
        now: Timestamp,
    ) -> Result<Vec<Action>, Refusal> {
        let found = self.addon(addon)?;
        let (id, name) = (found.id, found.name.clone());
        let service = found.plan.split(':').next().unwrap_or_default().to_owned();
        let unknown = values.keys().find(|suffix| !found.values.contains_key(*suffix));
        if let Some(unknown) = unknown {
            return Err(Refusal::invalid(format!("{name} has no value {unknown}")));
        }
        for addon in self.addons.iter_mut().filter(|addon| addon.id == id) {
            addon.values.extend(values.clone());
            addon.updated_at = now;
        }
        let mut attached: BTreeMap<_, Vec<String>> = BTreeMap::new();
        for item in self.attachments.iter().filter(|item| item.addon == id) {
            attached.entry(item.app).or_default().push(item.name.clone());
        }
        let mut actions = Vec::new();
        for (app, names) in attached {
            // The add-on's values are in force at once; a release phase only delays the restart.
            let description = format!("Update {} by {service}", names.join(", "));
            actions.extend(self.begin(app, Change::Vars(BTreeMap::new()), description, now));
        }
        Ok(actions)
    }
}

#[cfg(test)]
mod tests {
    use super::super::AttachRequest;
    use super::*;

    fn now() -> Timestamp {
        Timestamp::from_second(1_763_856_000).unwrap()
    }

    fn url(value: &str) -> BTreeMap<String, String> {
        [("URL".to_owned(), value.to_owned())].into()
    }

    #[test]
    fn every_attached_app_follows_and_a_plain_copy_stays() {
        let mut platform = Platform::new("seed");
        let formation: BTreeMap<_, _> = [("web".to_owned(), (vec!["serve".to_owned()], 1))].into();
        for app in ["owner", "guest", "copier"] {
            platform
                .create_app(app, "us", formation.clone(), BTreeMap::new(), now())
                .unwrap();
        }
        platform
            .provide_addon(
                "owner",
                "redis-oval-1",
                "hosted:mini",
                url("redis://old"),
                "REDIS",
                now(),
            )
            .unwrap();
        for name in ["REDIS", "CACHE"] {
            let request = AttachRequest {
                addon: "redis-oval-1".into(),
                app: "guest".into(),
                name: Some(name.into()),
                confirm: None,
            };
            platform.attach(request, now()).unwrap();
        }
        let copy = [("REDIS_URL".to_owned(), Some("redis://old".to_owned()))].into();
        platform.patch_vars("copier", copy, now()).unwrap();
        let releases = |platform: &Platform, app: &str| platform.app(app).unwrap().releases.len();
        let before = ["owner", "guest", "copier"].map(|app| releases(&platform, app));

        let actions = platform.rotate("redis-oval-1", url("redis://new"), now()).unwrap();
        assert_eq!(
            actions.len(),
            4,
            "both attached apps restart their one dyno: {actions:?}"
        );
        let made = ["owner", "guest", "copier"].map(|app| releases(&platform, app));
        assert_eq!(made, [before[0] + 1, before[1] + 1, before[2]]);
        let var = |app: &str, name: &str| platform.config_vars(platform.app(app).unwrap())[name].clone();
        assert_eq!(var("owner", "REDIS_URL"), "redis://new");
        assert_eq!(var("guest", "REDIS_URL"), "redis://new");
        assert_eq!(var("guest", "CACHE_URL"), "redis://new");
        assert_eq!(var("copier", "REDIS_URL"), "redis://old");
        let unknown = [("TLS_URL".to_owned(), "x".to_owned())].into();
        assert_eq!(platform.rotate("redis-oval-1", unknown, now()).unwrap_err().status, 422);
    }
}
