//! `tenant kept`.

use clap::Args;
use serde_json::json;

use super::{explain, fleet};
use crate::cli::Context;
use crate::fleet::view::KeptView;

/// Options of `tenant kept`.
#[derive(Debug, Args)]
pub struct KeptArgs {
    /// Slug or id; the id alone of a tenant that is gone [default: all tenants].
    #[arg(value_name = "SLUG")]
    tenant: Option<String>,
    /// Drop them, now instead of after the grace period.
    #[arg(long, requires = "tenant")]
    drop: bool,
}

pub(super) async fn run(context: &Context, args: &KeptArgs) -> anyhow::Result<()> {
    let fleet = fleet(context)?;
    if let Some(tenant) = args.tenant.as_deref().filter(|_| args.drop) {
        context.confirm(&format!("Dropping the databases that are kept of tenant '{tenant}'"))?;
        let dropped = fleet.drop_kept_now(tenant).await.map_err(explain)?;
        return context.print_one(&json!({"databasesDropped": dropped}), &[("databasesDropped", dropped.to_string())]);
    }
    let found = fleet.kept(args.tenant.as_deref()).await.map_err(explain)?;
    let views: Vec<KeptView> = found.into_iter().map(Into::into).collect();
    let rows = views.iter().map(|kept| {
        vec![
            kept.slug.clone().unwrap_or_else(|| kept.tenant_id.to_string()),
            kept.cluster.clone(),
            kept.database_name.clone(),
            kept.left_by.to_string(),
            kept.kept_since.to_rfc3339(),
            kept.purge_after.to_rfc3339(),
        ]
    });
    context.print(&views, &["tenant", "cluster", "database", "left by", "since", "goes"], rows)
}
