//! `fleet doctor`.

use crate::cli::tenant::{explain, fleet};
use crate::cli::{Context, Output, Partial};
use crate::fleet::doctor::{Finding, Severity};

pub(super) async fn run(context: &Context) -> anyhow::Result<()> {
    let diagnosis = fleet(context)?.diagnose().await.map_err(explain)?;
    match context.output {
        Output::Json => context.say(&serde_json::to_string_pretty(&diagnosis)?)?,
        Output::Table => tell(context, &diagnosis.findings)?,
    }
    let looked = format!("{} tenants on {} clusters looked at", diagnosis.tenants, diagnosis.clusters);
    conclude(context, &diagnosis.findings, &looked)
}

/// Each finding with what mends it.
pub(in crate::cli) fn tell(context: &Context, findings: &[Finding]) -> anyhow::Result<()> {
    for finding in findings {
        let Finding { severity, code, subject, said, remedy } = finding;
        context.say(&format!("{severity}  {code}  {subject}: {said}\n  mend: {remedy}"))?;
    }
    Ok(())
}

/// Exit code 3 if there is anything to report.
pub(in crate::cli) fn conclude(context: &Context, findings: &[Finding], looked: &str) -> anyhow::Result<()> {
    if findings.is_empty() {
        context.progress(&format!("{looked}: nothing to report"));
        return Ok(());
    }
    let errors = findings.iter().filter(|finding| finding.severity == Severity::Error).count();
    Err(Partial(format!("{looked}: {errors} errors, {} warnings", findings.len() - errors)).into())
}
