//! `fleet status`.

use crate::cli::tenant::{explain, fleet};
use crate::cli::{Context, Output, Partial};

pub(super) async fn run(context: &Context) -> anyhow::Result<()> {
    let status = fleet(context)?.migration_status().await.map_err(explain)?;
    let rows = status.versions.iter().map(|group| {
        let schema = format!("V{}", group.schema_version);
        vec![schema, format!("V{}", group.operator_version), group.at_head.to_string(), group.tenants.to_string()]
    });
    context.print(&status, &["schema", "operator", "at head", "tenants"], rows)?;
    if context.output == Output::Table {
        if let Some(run) = &status.run {
            let error = run.error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
            context.say(&format!("run {} is {}{error}", run.id, run.state))?;
        }
        for failed in &status.failed {
            let retry = failed.next_retry_at.map_or_else(
                || "tried again by the next `tenantry fleet migrate`".to_owned(),
                |at| format!("tried again at {}", at.to_rfc3339()),
            );
            context.say(&format!("{}: {} ({} attempts; {retry})", failed.slug, failed.error, failed.attempts))?;
        }
    }
    if status.is_clear() {
        return Ok(());
    }
    Err(Partial(format!("{} of {} tenants are at the head", status.at_head, status.total)).into())
}
