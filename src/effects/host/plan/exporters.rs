//! Tests of the description of a host with exporters: packages, units, files and sshd.

use super::tests::settings;
use crate::effects::host::Description;
use crate::effects::host::description::{Content, File};
use crate::effects::host::exporters::LOGIN;
use crate::effects::host::lockdown::SSH_SETTINGS;
use crate::effects::host::settings::Exporters;

fn described(exporters: Option<Exporters>) -> Description {
    let mut settings = settings();
    settings.exporters = exporters;
    settings.describe().unwrap()
}

fn exporters(scraped: bool) -> Exporters {
    Exporters {
        private: [10, 77, 0, 9].into(),
        scraped,
    }
}

fn text(description: &Description, path: &str) -> String {
    let file = description.files.iter().find(|file| file.path == path);
    file.unwrap_or_else(|| panic!("no {path}")).content.text().to_string()
}

fn states(description: &Description) -> Vec<(bool, Option<bool>)> {
    let ours = description
        .units
        .iter()
        .filter(|unit| unit.name.starts_with("prometheus-"));
    ours.map(|unit| (unit.enabled, unit.active)).collect()
}

#[test]
fn exporters_are_off_unless_they_are_asked_for() {
    let off = described(None);
    assert_eq!(states(&off), [(false, Some(false)); 2]);
    assert!(!off.packages.iter().any(|package| package.contains("exporter")));
    assert!(!off.files.iter().any(|file| file.path.contains("exporter")));
    assert!(text(&off, SSH_SETTINGS).contains("\nDisableForwarding yes\n"));
}

#[test]
fn they_listen_on_loopback_until_somebody_may_scrape() {
    let folder = "/etc/systemd/system/prometheus-";
    let listens = |scraped| {
        let description = described(Some(exporters(scraped)));
        assert_eq!(states(&description), [(true, Some(true)); 2]);
        ["node", "redis"].map(|kind| {
            let text = text(&description, &format!("{folder}{kind}-exporter.service.d/infra.conf"));
            let address = text.split("web.listen-address=").nth(1).unwrap();
            address.split_whitespace().next().unwrap().to_string()
        })
    };
    assert_eq!(listens(false), ["127.0.0.1:9100", "127.0.0.1:9121"]);
    assert_eq!(listens(true), ["10.77.0.9:9100", "10.77.0.9:9121"]);
}

#[test]
fn the_password_is_in_one_file_that_others_cannot_read() {
    let description = described(Some(exporters(true)));
    let password = settings().passwords.monitoring.used;
    let holders: Vec<&File> = description
        .files
        .iter()
        .filter(|file| file.content.text().contains(password.expose()))
        .collect();
    assert_eq!(holders.len(), 1, "{holders:?}");
    assert_eq!((holders[0].path.as_str(), holders[0].mode), (LOGIN, 0o640));
    assert!(matches!(holders[0].content, Content::Secret(_)));
    let login: serde_json::Value = serde_json::from_str(holders[0].content.text()).unwrap();
    assert_eq!(login["rediss://monitoring@10.77.0.9:6379"], password.expose());
}

#[test]
fn ssh_leads_to_the_exporters_alone_and_only_if_nobody_scrapes() {
    let ssh = |scraped| text(&described(Some(exporters(scraped))), SSH_SETTINGS);
    assert!(ssh(true).contains("\nDisableForwarding yes\n"));
    let forwarding = ssh(false);
    assert!(!forwarding.contains("\nDisableForwarding yes\n"), "{forwarding}");
    for line in [
        "AllowTcpForwarding local",
        "PermitOpen 127.0.0.1:9100 127.0.0.1:9121",
        "AllowStreamLocalForwarding no",
        "AllowAgentForwarding no",
        "X11Forwarding no",
    ] {
        assert!(forwarding.lines().any(|other| other == line), "{line}: {forwarding}");
    }
}
