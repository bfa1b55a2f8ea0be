//! `infra check`: what stands in the way, each with its remedy. Changes nothing.

use super::JSON_SCHEMA_VERSION;
use super::context::{Context, Environment, source_url};
use crate::cli::Check;
use crate::cloud::ec2;
use crate::config::{self, Engine as EngineChoice};
use crate::error::{Error, ExitCode, Result};
use crate::host::default_maxmemory;
use crate::plan::preflight::{Facts, Finding, OwnEngine, Owner, Severity, SourceFacts, Unseen, judge};
use crate::platform::heroku::owner;
use crate::redis::info::{Engine, Version};
use crate::redis::{Info, Server, certificate_digest, control};
use serde_json::json;

pub async fn run(context: &Context, arguments: &Check) -> Result<ExitCode> {
    context.interrupt.or(look(context, arguments)).await
}

async fn look(context: &Context, arguments: &Check) -> Result<ExitCode> {
    if arguments.pin {
        return pin(context).await;
    }
    let environment = context.environment().await?;
    let findings = findings(context, &environment).await?;
    show(context, &findings);
    let blockers = findings
        .iter()
        .filter(|finding| finding.severity == Severity::Blocker)
        .count();
    Ok(if blockers == 0 {
        ExitCode::Done
    } else {
        ExitCode::Failed
    })
}

/// Looks at everything that a move needs. `up` calls it too.
pub async fn findings(context: &Context, environment: &Environment) -> Result<Vec<Finding>> {
    let step = context.ui.step("check");
    let config = &context.config;
    let cloud = &environment.cloud;
    let (source, machine, owner) = tokio::join!(
        source(context),
        ec2::machine_and_image(cloud, &config.hosts.instance_type, &config.hosts.image),
        config_var_owner(context),
    );
    let (memory, image) = match machine {
        Ok((machine, image)) => (
            machine.map(|machine| machine.memory_bytes).ok_or_else(|| {
                absent(
                    "instance type",
                    &config.hosts.instance_type,
                    cloud.region(),
                    "hosts.instance_type",
                )
            }),
            image
                .map(|image| image.id)
                .ok_or_else(|| absent("image", &config.hosts.image, cloud.region(), "hosts.image")),
        ),
        Err(error) => {
            let unseen = unseen(error);
            (Err(unseen.clone()), Err(unseen))
        }
    };
    let maxmemory = match (&config.redis.maxmemory, &memory) {
        (Some(given), _) => config::parse_memory(given).unwrap_or(0),
        (None, Ok(bytes)) => default_maxmemory(*bytes),
        (None, Err(_)) => 0,
    };
    let facts = Facts {
        source: source.map_err(unseen),
        own: own_engine(config.redis.engine),
        instance_type: config.hosts.instance_type.clone(),
        instance_memory: memory,
        image: config.hosts.image.clone(),
        image_id: image,
        config_var: config.app.config_var.clone(),
        owner: owner.map_err(unseen),
        maxmemory,
        admin_cidrs: config.hosts.admin_cidrs.clone(),
    };
    let findings = judge(&facts);
    let count = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
    let (blockers, warnings) = (count(Severity::Blocker), count(Severity::Warning));
    let text = format!("{} looked at, {blockers} blockers, {warnings} warnings", findings.len());
    if blockers == 0 {
        step.done(text)
    } else {
        step.failed(text)
    }
    Ok(findings)
}

/// The blockers as one error, for commands that cannot go on with them.
pub fn refuse_blockers(findings: &[Finding]) -> Result<()> {
    let blockers: Vec<_> = findings
        .iter()
        .filter(|finding| finding.severity == Severity::Blocker)
        .collect();
    let Some(first) = blockers.first() else { return Ok(()) };
    let more = if blockers.len() > 1 {
        format!(" (and {} more: `infra check` lists them)", blockers.len() - 1)
    } else {
        String::new()
    };
    Err(Error::failed(format!("begin: {}: {}{more}", first.id, first.found))
        .hint(first.remedy.clone().unwrap_or_default()))
}

fn absent(kind: &str, name: &str, region: &str, field: &str) -> Unseen {
    Unseen {
        why: format!("{region} has no {kind} {name}"),
        remedy: format!("correct {field} in infra.yml"),
    }
}

fn unseen(error: Error) -> Unseen {
    Unseen {
        why: error.chain().join(": "),
        remedy: error.next_step().unwrap_or("see the cause above").to_string(),
    }
}

/// What Debian 13, the default image, installs.
pub fn own_engine(choice: EngineChoice) -> OwnEngine {
    match choice {
        EngineChoice::Redis => OwnEngine {
            engine: Engine::Redis,
            version: Version::new(8, 0, 0),
        },
        EngineChoice::Valkey => OwnEngine {
            engine: Engine::Valkey,
            version: Version::new(8, 1, 0),
        },
    }
}

async fn source(context: &Context) -> Result<SourceFacts> {
    let server = context.source().await?;
    let mut connection = server.connect(0).await?;
    let info = Info::read(&mut connection).await?;
    let permissions = control::permissions(&mut connection).await?;
    Ok(SourceFacts {
        address: address(&server),
        engine: info.engine,
        version: info.own_version(),
        used_memory: info.used_memory,
        maxmemory: info.maxmemory,
        databases: info.keyspace.keys().copied().collect(),
        permissions,
        tls: server.trust.is_some(),
    })
}

fn address(server: &Server) -> String {
    format!("{}:{}", server.host, server.port)
}

async fn config_var_owner(context: &Context) -> Result<Owner> {
    let app = &context.config.app;
    let (vars, attachments) = tokio::try_join!(context.platform.config_vars(), context.platform.attachments())?;
    Ok(match owner(&attachments, &app.name, &app.config_var) {
        Some(attachment) => Owner::Attachment {
            attachment: attachment.name.clone(),
            addon: attachment.addon_name.clone(),
        },
        None if vars.has(&app.config_var) => Owner::Plain,
        None => Owner::Absent,
    })
}

fn show(context: &Context, findings: &[Finding]) {
    let ui = &context.ui;
    if ui.json() {
        ui.data(json!({ "schema_version": JSON_SCHEMA_VERSION, "findings": findings }).to_string());
        return;
    }
    for finding in findings {
        let mark = match finding.severity {
            Severity::Ok => ui.paint("32", "ok     "),
            Severity::Warning => ui.paint("33", "warning"),
            Severity::Blocker => ui.paint("31", "BLOCKER"),
        };
        ui.data(format!("{mark}  {:<14}  {}", finding.id, finding.found));
        if let Some(remedy) = &finding.remedy {
            ui.data(format!("         {:<14}  → {remedy}", ""));
        }
    }
}

/// Shows which certificate the source presents now, and puts it into infra.yml where that file has a place for it.
async fn pin(context: &Context) -> Result<ExitCode> {
    let url = source_url(&context.platform.config_vars().await?, &context.config)?;
    let (host, port) = Server::place_of(&url)?;
    if !url.expose().trim_start().starts_with("rediss://") {
        return Err(
            Error::usage(format!("pin a certificate: the source {host}:{port} speaks no TLS")).hint("no pin is needed"),
        );
    }
    let digest = certificate_digest(&host, port).await?;
    let written = config::write_pin(&context.common.config, &digest.to_string())?;
    if context.ui.json() {
        context.ui.data(
            json!({ "schema_version": JSON_SCHEMA_VERSION, "tls_pin": digest.to_string(), "written": written })
                .to_string(),
        );
    } else {
        context.ui.data(digest.to_string());
    }
    let file = context.common.config.display();
    context.ui.note(if written {
        format!("pinned in {file}; compare it with what the provider says before you trust it")
    } else {
        format!("put it into {file} as source.tls_pin, after comparing it with what the provider says")
    });
    Ok(ExitCode::Done)
}
