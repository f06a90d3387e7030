//! `tenant clone` and `tenant export`.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::make::{AdminArgs, HaltArgs, print};
use super::{explain, fleet, text_file};
use crate::cli::Context;
use crate::cli::progress::Bar;
use crate::fleet::clone::{CloneTenant, Mask};
use crate::kernel::Slug;

/// Options of `tenant clone`.
#[derive(Debug, Args)]
pub struct CloneArgs {
    /// Slug or id of the original.
    #[arg(value_name = "SLUG")]
    tenant: String,
    /// Public name of the clone: 3 to 48 of a-z, 0-9 and '-', beginning with a letter and not ending with '-'.
    #[arg(value_name = "NEWSLUG")]
    clone: Slug,
    /// File with rules (TOML or JSON) that take personal data out of it; `default` for those of the built-in schema.
    #[arg(long, value_name = "FILE")]
    mask: Option<PathBuf>,
    /// People keep their passwords and invitations.
    #[arg(long)]
    keep_credentials: bool,
    #[command(flatten)]
    admin: AdminArgs,
    #[command(flatten)]
    halt: HaltArgs,
}

/// Options of `tenant export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// Slug or id.
    #[arg(value_name = "SLUG")]
    tenant: String,
    /// Directory to write to: empty, or not there yet.
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    #[command(flatten)]
    halt: HaltArgs,
}

pub(super) async fn clone(context: &Context, args: &CloneArgs) -> anyhow::Result<()> {
    let mask = match &args.mask {
        Some(path) if path.as_os_str() == "default" => Some(Mask::built_in()),
        Some(path) => Some(Mask::parse(&text_file(path)?).map_err(explain)?),
        None => None,
    };
    let wanted = CloneTenant {
        slug: args.clone.clone(),
        mask,
        keep_credentials: args.keep_credentials,
        admin: args.admin.read()?,
    };
    let fleet = fleet(context)?;
    let source = fleet.get(&args.tenant).await.map_err(explain)?;
    let made = fleet.clone_tenant(source.id, &wanted, &args.halt.options(), &Bar::new()).await.map_err(explain)?;
    print(context, made)
}

pub(super) async fn export(context: &Context, args: &ExportArgs) -> anyhow::Result<()> {
    let fleet = fleet(context)?;
    let tenant = fleet.get(&args.tenant).await.map_err(explain)?;
    let done = fleet.export(tenant.id, &args.to, &args.halt.options(), &Bar::new()).await.map_err(explain)?;
    let manifest = &done.manifest;
    let rows: u64 = manifest.tables.iter().map(|table| table.rows).sum();
    let view = json!({"directory": args.to, "manifest": manifest, "steps": done.steps});
    let fields = [
        ("directory", args.to.display().to_string()),
        ("tables", manifest.tables.len().to_string()),
        ("rows", rows.to_string()),
        ("leftOut", manifest.left_out.join(", ")),
    ];
    context.print_one(&view, &fields)
}
