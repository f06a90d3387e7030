//! `tenant backup`, `backups`, and `restore`.

use clap::Args;

use super::make::HaltArgs;
use super::manage::fields;
use super::{explain, fleet};
use crate::cli::Context;
use crate::cli::progress::Bar;
use crate::fleet::backup::BackupTenant;
use crate::fleet::restore::RestoreTenant;
use crate::fleet::view::RestoredView;
use crate::kernel::{BackupId, Slug};

/// Options of `tenant backup`.
#[derive(Debug, Args)]
pub struct BackupArgs {
    /// Slug or id.
    #[arg(value_name = "SLUG")]
    tenant: String,
    #[command(flatten)]
    halt: HaltArgs,
}

/// Options of `tenant restore`.
#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// Slug or id.
    #[arg(value_name = "SLUG")]
    tenant: String,
    /// Backup to restore; without it, an archived tenant is given back to its users.
    #[arg(long, value_name = "ID")]
    backup: Option<BackupId>,
    /// Restore it as a new tenant of this name, instead of in place.
    #[arg(long = "as", value_name = "NEWSLUG", requires = "backup")]
    beside: Option<Slug>,
    #[command(flatten)]
    halt: HaltArgs,
}

pub(super) async fn backup(context: &Context, args: &BackupArgs) -> anyhow::Result<()> {
    let fleet = fleet(context)?;
    let tenant = fleet.get(&args.tenant).await.map_err(explain)?;
    let made = fleet.backup(tenant.id, BackupTenant::default(), &args.halt.options(), &Bar::new()).await;
    let made = made.map_err(explain)?;
    let backup = &made.backup;
    let fields = [
        ("id", backup.id.to_string()),
        ("slug", backup.slug.to_string()),
        ("bytes", number(backup.bytes)),
        ("rows", number(backup.rows)),
        ("createdAt", backup.created_at.to_rfc3339()),
    ];
    context.print_one(&made, &fields)
}

pub(super) async fn backups(context: &Context, tenant: &str) -> anyhow::Result<()> {
    let found = fleet(context)?.backups(tenant).await.map_err(explain)?;
    let rows = found.iter().map(|backup| {
        vec![
            backup.id.to_string(),
            backup.state.to_string(),
            if backup.scheduled { "schedule" } else { "operator" }.to_owned(),
            number(backup.bytes),
            number(backup.rows),
            backup.schema_version.to_string(),
            backup.created_at.to_rfc3339(),
        ]
    });
    context.print(&found, &["id", "state", "made by", "bytes", "rows", "schema", "created"], rows)
}

pub(super) async fn restore(context: &Context, args: &RestoreArgs) -> anyhow::Result<()> {
    let Some(backup) = args.backup else { return super::manage::restore(context, &args.tenant).await };
    let wanted = RestoreTenant { backup, beside: args.beside.clone() };
    let restored = fleet(context)?.restore_backup(&args.tenant, &wanted, &args.halt.options(), &Bar::new()).await;
    let view = RestoredView::from(restored.map_err(explain)?);
    let mut fields = fields(&view.tenant);
    fields.push(("backupId", view.backup_id.to_string()));
    context.print_one(&view, &fields)
}

fn number(number: Option<i64>) -> String {
    number.map_or_else(|| "-".into(), |number| number.to_string())
}
