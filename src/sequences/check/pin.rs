//! `infra check --pin`: shows the source's certificate, and pins it unless a public authority vouches for it.

use crate::effects::redis::{Certificate, Digest, Trust, shown_chain, trust};
use crate::model::config::{self, SourceTls};
use crate::model::error::{Error, ExitCode, Result};
use crate::sequences::context::Context;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

pub(super) async fn run(context: &Context) -> Result<ExitCode> {
    let server = context.source().await?;
    if server.trust.is_none() {
        return Err(Error::usage(format!("pin a certificate: {server} speaks no TLS")).hint("no pin is needed"));
    }
    let chain = shown_chain(&server.host, server.port).await?;
    let public = Trust::Public.judge(&chain, &server.host)?;
    let look = Look {
        pin: Digest::of(&chain[0]).to_string(),
        leaf: trust::read(&chain[0])?,
        sent: chain.len(),
        verified: public.is_ok(),
    };
    let source = &context.config.source;
    let (ui, file) = (&context.ui, context.common.config.display());
    match (public, source.tls) {
        (Err(refusal), Some(SourceTls::Verify)) => {
            return Err(Error::failed(format!("trust {server} by authority and name"))
                .because(refusal)
                .hint(format!(
                    "to pin this certificate instead, remove `tls: verify` from {file} and run `infra check --pin` again"
                )));
        }
        (Ok(()), _) if source.tls_pin.is_none() => {
            ui.report(look.fields(None), look.lines());
            ui.note(format!(
                "a public authority vouches for it and for {}: there is nothing to pin",
                server.host
            ));
            return Ok(ExitCode::Done);
        }
        (Ok(()), _) => ui.note(format!(
            "a public authority vouches for it too: without source.tls_pin, {file} would need no change when it is renewed"
        )),
        (Err(refusal), None) => ui.note(format!("no public authority vouches for this certificate, so it has to be pinned: {refusal}")),
    }
    let written = config::write_pin(&context.common.config, &look.pin)?;
    ui.report(look.fields(Some(written)), look.lines());
    ui.note(if written {
        format!("pinned in {file}; compare it with what the provider says before you trust it")
    } else {
        format!("put it into {file} as source.tls_pin, after comparing it with what the provider says")
    });
    Ok(ExitCode::Done)
}

/// Names that are printed; `--json` has all.
const MOST_NAMES: usize = 10;

/// The certificates that the server has shown.
struct Look {
    pin: String,
    leaf: Certificate,
    /// How many certificates it sent.
    sent: usize,
    /// True if a public authority has signed the certificate for the URL's host.
    verified: bool,
}

impl Look {
    /// `written`: whether the pin is in the file now; `None` if there is nothing to pin.
    fn fields(&self, written: Option<bool>) -> Value {
        json!({
            "tls_pin": written.map(|_| &self.pin),
            "written": written.unwrap_or(false),
            "digest": self.pin,
            "issuer": self.leaf.issuer,
            "subject": self.leaf.subject,
            "names": self.leaf.names,
            "ends": self.leaf.ends.to_string(),
            "version": self.leaf.version,
            "sent": self.sent,
            "verified": self.verified,
        })
    }

    fn lines(&self) -> Vec<String> {
        let names = match self.leaf.names.as_slice() {
            [] => format!("no name (version {})", self.leaf.version),
            names if names.len() > MOST_NAMES => {
                let more = names.len() - MOST_NAMES;
                format!("{} and {more} more", names[..MOST_NAMES].join(", "))
            }
            names => names.join(", "),
        };
        let sent = match self.sent {
            1 => "1 certificate".to_string(),
            more => format!("{more} certificates"),
        };
        vec![
            self.pin.clone(),
            format!("issuer   {}", self.leaf.issuer),
            format!("subject  {}", self.leaf.subject),
            format!("names    {names}"),
            format!(
                "ends     {}, in {} days",
                self.leaf.ends.to_zoned(TimeZone::UTC).date(),
                self.leaf.days_left(Timestamp::now())
            ),
            format!("sent     {sent}"),
        ]
    }
}
