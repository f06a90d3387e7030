//! `fleet drift`.

use clap::Args;

use crate::cli::progress::Bar;
use crate::cli::tenant::{explain, fleet};
use crate::cli::{Context, Output, Partial};

/// Options of `fleet drift`.
#[derive(Debug, Args)]
pub struct DriftArgs {
    /// These tenants only, by slug or id.
    #[arg(long, value_name = "SLUG,…", value_delimiter = ',')]
    only: Vec<String>,
}

pub(super) async fn run(context: &Context, args: &DriftArgs) -> anyhow::Result<()> {
    let report = fleet(context)?.drift(&args.only, &Bar::new()).await.map_err(explain)?;
    match context.output {
        Output::Json => context.say(&serde_json::to_string_pretty(&report)?)?,
        Output::Table => {
            for tenant in &report.tenants {
                context.say(&format!("{} at schema version {}", tenant.slug, tenant.schema_version))?;
                for difference in &tenant.differences {
                    context.say(&format!("  {difference}"))?;
                }
                if let Some(error) = &tenant.error {
                    context.say(&format!("  ! not compared: {error}"))?;
                }
            }
        }
    }
    if report.tenants.is_empty() {
        context.progress(&format!("{} tenants compared: no drift", report.compared));
        return Ok(());
    }
    let silent = report.tenants.iter().filter(|tenant| tenant.error.is_some()).count();
    let differ = report.tenants.len() - silent;
    Err(Partial(format!("{differ} tenants differ, {silent} could not be compared")).into())
}
