//! The infra.yml of a world.

use super::World;

impl World {
    pub(super) fn infra_yml(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("infra.yml")).unwrap()
    }

    pub(super) fn write_infra_yml(&self, text: &str) {
        std::fs::write(self.folder.path().join("infra.yml"), text).unwrap();
    }

    /// Writes infra.yml with these lines behind what every test needs; the pin stays.
    pub fn configure(&self, more: &str) {
        let before = std::fs::read_to_string(self.folder.path().join("infra.yml")).unwrap_or_default();
        let pin = before.lines().find(|line| line.contains("tls_pin")).unwrap_or_default();
        self.write_infra_yml(&format!(
            "name: demo\nsource:\n{pin}\n  config_var: REDIS_URL\napp: {{name: demo}}\nhosts:\n  admin_cidrs: [10.77.0.1/32]\n  app_cidrs: [10.77.0.0/16]\n{}",
            self.with_engine(more)
        ));
    }

    /// Writes infra.yml with only this said of hosts; the pin stays.
    pub fn configure_hosts(&self, hosts: &str) {
        self.configure("");
        let text = self.infra_yml();
        let before = text.find("hosts:").unwrap();
        let engine = self.with_engine("");
        self.write_infra_yml(&format!("{}{hosts}\n{engine}", &text[..before]));
    }

    /// Puts one text into infra.yml in the place of another.
    pub fn edit(&self, old: &str, new: &str) {
        let text = self.infra_yml();
        assert!(text.contains(old), "{text}");
        self.write_infra_yml(&text.replacen(old, new, 1));
    }

    /// Lets the pair run this engine.
    pub fn configure_engine(&self, engine: &'static str) {
        self.engine.set(Some(engine));
        let text = self.infra_yml();
        self.write_infra_yml(&format!("{text}{}", self.with_engine("")));
    }

    /// Returns the name of the pair's engine, as its files and its unit on hosts have it.
    pub fn engine(&self) -> &'static str {
        self.engine.get().unwrap_or("redis")
    }

    /// Adds the engine to these lines of infra.yml, which may say more about `redis`.
    pub(super) fn with_engine(&self, lines: &str) -> String {
        match self.engine.get() {
            None => lines.into(),
            Some(engine) if lines.contains("redis: {") => {
                lines.replacen("redis: {", &format!("redis: {{engine: {engine}, "), 1)
            }
            Some(engine) => format!("{lines}redis: {{engine: {engine}}}\n"),
        }
    }

    /// infra.yml of a pair that follows nobody from the beginning.
    pub fn without_a_source(&self) {
        let text = self.infra_yml();
        let (before, after) = (text.find("source:").unwrap(), text.find("app:").unwrap());
        self.write_infra_yml(&format!(
            "{}source: {{none: true}}\n{}",
            &text[..before],
            &text[after..]
        ));
    }
}
