//! `tenant move`.

use clap::{ArgGroup, Args};
use serde_json::json;

use super::make::HaltArgs;
use super::{explain, fleet};
use crate::cli::Context;
use crate::cli::progress::Bar;
use crate::cli::spans::hold;
use crate::config::Span;
use crate::fleet::MoveTenant;
use crate::fleet::relocate::Method;
use crate::fleet::view::{MovedView, TenantView};

/// Options of `tenant move`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").required(true).args(["to", "abort", "confirm"]).multiple(true))]
pub struct MoveArgs {
    /// Slug or id.
    #[arg(value_name = "SLUG")]
    tenant: String,
    /// Cluster to move it to.
    #[arg(long, value_name = "CLUSTER")]
    to: Option<String>,
    /// How long its requests may wait, at most 10m; past that the move is taken back.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = hold)]
    hold_deadline: Span,
    /// How the rows get there: dump or replicate [default: by the size of its database].
    #[arg(long)]
    method: Option<Method>,
    /// Take a move back that is under way: the tenant stays where it is.
    #[arg(long, conflicts_with_all = ["to", "hold_deadline", "method", "confirm"])]
    abort: bool,
    /// Drop the old copy of a tenant that was moved, now instead of after the grace period.
    #[arg(long, conflicts_with_all = ["to", "hold_deadline", "method"])]
    confirm: bool,
    #[command(flatten)]
    halt: HaltArgs,
}

pub(super) async fn run(context: &Context, args: &MoveArgs) -> anyhow::Result<()> {
    let fleet = fleet(context)?;
    let tenant = fleet.get(&args.tenant).await.map_err(explain)?;
    if args.abort {
        let view = TenantView::from(fleet.abort_move(tenant.id, &Bar::new()).await.map_err(explain)?);
        return context.print_one(&view, &super::manage::fields(&view));
    }
    if args.confirm {
        context.confirm(&format!("Dropping the old copy of tenant '{}'", tenant.slug))?;
        let dropped = fleet.confirm_move(tenant.id).await.map_err(explain)?;
        let mut value = serde_json::to_value(TenantView::from(tenant.clone()))?;
        value["copiesDropped"] = json!(dropped);
        let mut fields = super::manage::fields(&tenant.into());
        fields.push(("copiesDropped", dropped.to_string()));
        return context.print_one(&value, &fields);
    }
    let wanted = MoveTenant { to: args.to.clone(), hold_deadline: args.hold_deadline.0, method: args.method };
    let moved = fleet.relocate(tenant.id, &wanted, &args.halt.options(), &Bar::new()).await.map_err(explain)?;
    let view = MovedView::from(moved);
    let mut fields = super::manage::fields(&view.tenant);
    fields.extend([
        ("from", view.relocation.from.clone()),
        ("to", view.relocation.to.clone()),
        ("method", view.relocation.method.to_string()),
        ("pauseMs", view.relocation.pause_ms.to_string()),
    ]);
    let of_table = |table: &crate::fleet::relocate::TableChecksum| {
        format!("{} {} rows {}", table.table, table.rows, table.checksum)
    };
    fields.extend(view.relocation.checksums.iter().map(|table| ("checksum", of_table(table))));
    context.print_one(&view, &fields)
}
