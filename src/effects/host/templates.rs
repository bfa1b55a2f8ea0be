//! The texts of `templates/`, compiled into the program, and their rendering.

use crate::model::error::{Doing, Result};
use serde::Serialize;

pub const REDIS_CONF: &str = include_str!("../../../templates/redis.conf.tera");
pub const USERS_ACL: &str = include_str!("../../../templates/users.acl.tera");
pub const ENGINE_DROP_IN: &str = include_str!("../../../templates/engine.service.conf.tera");
pub const ENGINE_STARTS: &str = include_str!("../../../templates/engine-starts.conf");
pub const SYSCTL: &str = include_str!("../../../templates/sysctl.conf");
pub const HUGE_PAGES_UNIT: &str = include_str!("../../../templates/infra-huge-pages.service");
pub const HOST_ENV: &str = include_str!("../../../templates/host.env.tera");
pub const GUARD: &str = include_str!("../../../templates/infra-guard.sh");
pub const ROLE: &str = include_str!("../../../templates/infra-role.sh");
pub const AGENT_ENV: &str = include_str!("../../../templates/agent.env.tera");
pub const AGENT_SERVICE: &str = include_str!("../../../templates/infra-agent.service.tera");
pub const TUNNEL_SERVICE: &str = include_str!("../../../templates/infra-tunnel.service.tera");
pub const COPY_SERVICE: &str = include_str!("../../../templates/infra-copy.service.tera");
pub const RESTORE: &str = include_str!("../../../templates/infra-restore.sh");
pub const BACKUP_SERVICE: &str = include_str!("../../../templates/infra-backup.service");
pub const BACKUP_TIMER: &str = include_str!("../../../templates/infra-backup.timer.tera");
pub const FACTS: &str = include_str!("../../../templates/facts.sh");
pub const APPLY: &str = include_str!("../../../templates/apply.sh");
pub const GROW: &str = include_str!("../../../templates/grow.sh");
pub const FIRST_CONTACT: &str = include_str!("../../../templates/first-contact.sh");
pub const ONLY_HERE: &str = include_str!("../../../templates/only-here.sh");
pub const REHEARSAL: &str = include_str!("../../../templates/rehearsal.sh");
pub const REHEARSAL_CONF: &str = include_str!("../../../templates/rehearsal.conf.tera");
pub const REHEARSAL_ACL: &str = include_str!("../../../templates/rehearsal.acl.tera");
pub const SSH: &str = include_str!("../../../templates/sshd.conf");
pub const EXPORTER: &str = include_str!("../../../templates/exporter.service.conf.tera");
pub const FIREWALL: &str = include_str!("../../../templates/firewall.nft");
pub const FIREWALL_UNIT: &str = include_str!("../../../templates/infra-firewall.service");
pub const UPGRADE: &str = include_str!("../../../templates/upgrade.sh");
pub const UPGRADES: &str = include_str!("../../../templates/upgrades.conf");
pub const NEEDRESTART: &str = include_str!("../../../templates/needrestart.conf");
pub const CLOUD_CONFIG: &str = include_str!("../../../templates/cloud-config.tera");

/// Fills in a template. Nothing is escaped, since none of them is HTML.
pub fn render(name: &str, template: &str, values: &impl Serialize) -> Result<String> {
    tera::Context::from_serialize(values)
        .and_then(|context| tera::Tera::one_off(template, &context, false))
        .doing(|| format!("render {name}"))
}
