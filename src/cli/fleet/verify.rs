//! `fleet verify`.

use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail};
use clap::Args;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::evidence::{Evidence, signature_of};
use crate::cli::progress::Bar;
use crate::cli::remote::server_url;
use crate::cli::serve::stop_signal;
use crate::cli::tenant::{explain, fleet};
use crate::cli::{Context, Output, Refused};
use crate::control::documents::Signature;
use crate::fleet::Fleet;
use crate::fleet::proof::Report;
use crate::fleet::web::Client;

/// Options of `fleet verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// Write the report as JSON here, its signature beside it (FILE.sig) and a page to read (the same name, `.html`, which
    /// FILE itself cannot be).
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Prove nothing; say whether this installation signed that report, and what it says.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["report", "url", "ca_file"])]
    check: Option<PathBuf>,
    /// Address of the server [default: that of the data directory, or the configured listener on this machine].
    #[arg(long)]
    url: Option<Url>,
    /// PEM of the CAs to trust for an https address [default: the system's].
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
}

pub(super) async fn run(context: &Context, args: &VerifyArgs) -> anyhow::Result<()> {
    let fleet = fleet(context)?;
    if let Some(file) = &args.check {
        return check(context, &fleet, file).await;
    }
    let client = Client::new(server_url(context, args.url.as_ref())?, args.ca_file.as_deref())?;
    let evidence = args.report.as_deref().map(Evidence::begin).transpose()?;
    let (signal, stop) = (stop_signal()?, CancellationToken::new());
    let told = stop.clone();
    tokio::spawn(async move {
        signal.await;
        told.cancel();
    });
    let report = fleet.prove(&client, &Bar::new(), &stop).await.map_err(explain)?;
    // Said before it is written, and written whether it was heard or not: what was proven is not lost.
    let said = say(context, &report);
    if let Some(evidence) = evidence {
        write(&fleet, &report, evidence).await?;
    }
    said?;
    if report.passed {
        return Ok(());
    }
    bail!("the isolation is not proven: {} faults", report.faults.len())
}

fn say(context: &Context, report: &Report) -> anyhow::Result<()> {
    match context.output {
        Output::Json => context.say(&serde_json::to_string_pretty(report)?),
        Output::Table => tell(context, report),
    }
}

fn tell(context: &Context, report: &Report) -> anyhow::Result<()> {
    for check in &report.checks {
        let word = if check.passed { "passed" } else { "FAILED" };
        context.say(&format!("{word}  {} ({}): {}", check.name, check.tried, check.said))?;
    }
    if let Some(noisy) = &report.noisy_neighbour {
        context.say(&format!(
            "        99th percentile of one canary {:.1} ms, while the other is noisy {:.1} ms: x {:.1}",
            noisy.quiet.p99_ms, noisy.noisy.p99_ms, noisy.p99_ratio
        ))?;
    }
    for fault in &report.faults {
        context.say(&format!("fault   {}  {}: {}", fault.code, fault.subject, fault.said))?;
    }
    Ok(())
}

async fn write(fleet: &Fleet, report: &Report, evidence: Evidence) -> anyhow::Result<()> {
    let (document, signature) = fleet.sign_report(report).await.map_err(explain)?;
    evidence.put(document.as_bytes(), report, &signature)
}

async fn check(context: &Context, fleet: &Fleet, file: &Path) -> anyhow::Result<()> {
    let unreadable = |path: &Path, error: &io::Error| {
        Refused::new(format!("cannot read {}: {error}", path.display()), "name a report of `fleet verify --report`")
    };
    let document = std::fs::read(file).map_err(|error| unreadable(file, &error))?;
    let beside = signature_of(file);
    let signature = std::fs::read(&beside).map_err(|error| match error.kind() {
        // That is an answer: without a signature nothing is proven.
        io::ErrorKind::NotFound => anyhow!("{} is not signed: there is no {}", file.display(), beside.display()),
        _ => unreadable(&beside, &error).into(),
    })?;
    let signature = serde_json::from_slice::<Signature>(&signature);
    let signature = signature.with_context(|| format!("{} is no signature", beside.display()))?;
    if !fleet.has_signed(document.clone(), signature.clone()).await.map_err(explain)? {
        bail!("{} is not as this installation signed it", file.display());
    }
    let report: serde_json::Value = serde_json::from_slice(&document)?;
    let fields = [
        ("signed", "true".to_owned()),
        ("keyId", signature.key_id.to_string()),
        ("at", report["at"].as_str().unwrap_or_default().to_owned()),
        ("passed", report["passed"].to_string()),
    ];
    let value = serde_json::json!({
        "signed": true, "keyId": signature.key_id, "at": report["at"], "passed": report["passed"],
    });
    context.print_one(&value, &fields)
}
