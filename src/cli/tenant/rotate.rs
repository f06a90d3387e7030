//! `tenant rotate-credentials`.

use std::path::PathBuf;

use clap::Args;

use super::make::{HaltArgs, TlsArgs};
use super::{explain, fleet};
use crate::cli::progress::Bar;
use crate::cli::{Context, Partial};
use crate::fleet::Fleet;
use crate::fleet::view::{RotatedView, TenantView};

/// Options of `tenant rotate-credentials`.
#[derive(Debug, Args)]
pub struct RotateArgs {
    /// Slug or id.
    #[arg(value_name = "SLUG", required_unless_present = "all")]
    tenant: Option<String>,
    /// Every tenant, a few at a time; those that could not be rotated are listed.
    #[arg(long, conflicts_with_all = ["tenant", "database_url_file"])]
    all: bool,
    /// File with another URL of a dedicated database, whose password was changed there.
    #[arg(long, value_name = "FILE")]
    database_url_file: Option<PathBuf>,
    /// File with the server's own URL, where a pooler stands in between.
    #[arg(long, value_name = "FILE", requires = "database_url_file")]
    direct_url_file: Option<PathBuf>,
    #[command(flatten)]
    tls: TlsArgs,
    #[command(flatten)]
    halt: HaltArgs,
}

pub(super) async fn run(context: &Context, args: &RotateArgs) -> anyhow::Result<()> {
    args.tls.go_with("--database-url-file", args.database_url_file.as_deref())?;
    let fleet = fleet(context)?;
    let Some(name) = &args.tenant else { return all(context, &fleet, args).await };
    let tenant = fleet.get(name).await.map_err(explain)?;
    if let Some(file) = &args.database_url_file {
        let (pooled, direct) = args.tls.targets(file, args.direct_url_file.as_deref())?;
        let replaced = fleet.replace_url(tenant.id, &pooled, direct.as_ref().unwrap_or(&pooled)).await;
        let view = TenantView::from(replaced.map_err(explain)?);
        return context.print_one(&view, &super::manage::fields(&view));
    }
    let rotated = fleet.rotate(tenant.id, &args.halt.options(), &Bar::new()).await.map_err(explain)?;
    let view = RotatedView::from(rotated);
    let mut fields = super::manage::fields(&view.tenant);
    let total: i64 = view.steps.iter().map(|step| step.ms).sum();
    fields.push(("steps", format!("{} in {total} ms", view.steps.len())));
    context.print_one(&view, &fields)
}

async fn all(context: &Context, fleet: &Fleet, args: &RotateArgs) -> anyhow::Result<()> {
    let done = fleet.rotate_all(&args.halt.options(), &Bar::new()).await.map_err(explain)?;
    let failed = done.failed.iter().map(|part| format!("{}: {}", part.slug, part.error)).collect::<Vec<_>>();
    let fields = [("rotated", done.rotated.to_string()), ("failed", failed.join("\n        "))];
    context.print_one(&done, &fields)?;
    if done.failed.is_empty() {
        return Ok(());
    }
    let of = done.rotated + done.failed.len();
    Err(Partial(format!(
        "{} of {of} tenants were not rotated; run it again once the causes are mended",
        done.failed.len()
    ))
    .into())
}
