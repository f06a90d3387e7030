//! `tenant list`, `show`, `set`, and what changes a tenant's state.

use clap::Args;

use super::{explain, fleet};
use crate::cli::progress::Bar;
use crate::cli::{Context, Usage};
use crate::control::tenants::{TenantChanges, TenantFilter, TenantRecord};
use crate::fleet::DeleteTenant;
use crate::fleet::view::{DeletedView, TenantView};
use crate::router::{Registration, TenantStatus};

/// Options of `tenant list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Only those in this state: provisioning, active, suspended or archived.
    #[arg(long)]
    status: Option<TenantStatus>,
    /// At most so many [default: all].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(1..))]
    limit: Option<i64>,
}

/// Options of `tenant set`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("change").required(true).multiple(true))]
pub struct SetArgs {
    /// Slug or id.
    #[arg(value_name = "SLUG")]
    tenant: String,
    /// Display name.
    #[arg(long, group = "change")]
    name: Option<String>,
    /// Who may register: open, invite or closed.
    #[arg(long, group = "change")]
    registration: Option<Registration>,
    /// Ceiling of its connections, or `default`.
    #[arg(long, value_name = "N", group = "change")]
    max_connections: Option<String>,
    /// Its share where connections are scarce, against other tenants' of the cluster: 1 to 100, at first 1.
    #[arg(long, value_name = "N", group = "change", value_parser = clap::value_parser!(i32).range(1..=100))]
    weight: Option<i32>,
}

/// Options of `tenant delete`.
#[derive(Debug, Args)]
pub struct DeleteArgs {
    /// Slug or id.
    #[arg(value_name = "SLUG")]
    tenant: String,
    /// Drop it now instead of after the grace period.
    #[arg(long)]
    now: bool,
    /// Also drop what is in a dedicated database, which otherwise stays with its owner.
    #[arg(long, requires = "now")]
    drop_dedicated_data: bool,
}

/// A number, or `default` for the configuration's own.
pub(in crate::cli) fn or_default(text: Option<&str>) -> anyhow::Result<Option<Option<i32>>> {
    match text {
        None => Ok(None),
        Some("default") => Ok(Some(None)),
        Some(number) => match number.parse() {
            Ok(number) if number > 0 => Ok(Some(Some(number))),
            _ => Err(Usage(format!("'{number}' is neither a number from 1 nor 'default'")).into()),
        },
    }
}

pub(super) fn fields(tenant: &TenantView) -> Vec<(&'static str, String)> {
    vec![
        ("id", tenant.id.to_string()),
        ("slug", tenant.slug.to_string()),
        ("name", tenant.name.clone()),
        ("status", tenant.status.to_string()),
        ("kind", tenant.kind.to_string()),
        ("cluster", tenant.cluster.clone().unwrap_or_else(|| "-".into())),
        ("databaseName", tenant.database_name.clone()),
        ("registration", tenant.registration.to_string()),
        ("maxConnections", tenant.max_connections.map_or_else(|| "-".into(), |max| max.to_string())),
        ("weight", tenant.weight.to_string()),
        ("plan", tenant.plan.clone().unwrap_or_else(|| "-".into())),
        ("schemaVersion", tenant.schema_version.to_string()),
        ("createdAt", tenant.created_at.to_rfc3339()),
    ]
}

fn print(context: &Context, tenant: TenantRecord) -> anyhow::Result<()> {
    let view = TenantView::from(tenant);
    context.print_one(&view, &fields(&view))
}

pub(super) async fn list(context: &Context, args: &ListArgs) -> anyhow::Result<()> {
    let filter = TenantFilter { status: args.status, limit: args.limit, ..TenantFilter::default() };
    let found = fleet(context)?.list(filter).await.map_err(explain)?;
    let views: Vec<TenantView> = found.into_iter().map(Into::into).collect();
    let header = ["slug", "status", "kind", "cluster", "schema", "name", "id"];
    let rows = views.iter().map(|t| {
        let cluster = t.cluster.clone().unwrap_or_else(|| "-".into());
        vec![
            t.slug.to_string(),
            t.status.to_string(),
            t.kind.to_string(),
            cluster,
            t.schema_version.to_string(),
            t.name.clone(),
            t.id.to_string(),
        ]
    });
    context.print(&views, &header, rows)
}

pub(super) async fn show(context: &Context, tenant: &str) -> anyhow::Result<()> {
    print(context, fleet(context)?.get(tenant).await.map_err(explain)?)
}

pub(super) async fn set(context: &Context, args: &SetArgs) -> anyhow::Result<()> {
    let changes = TenantChanges {
        name: args.name.clone(),
        registration: args.registration,
        max_connections: or_default(args.max_connections.as_deref())?,
        weight: args.weight,
    };
    let fleet = fleet(context)?;
    let tenant = fleet.get(&args.tenant).await.map_err(explain)?;
    print(context, fleet.set(tenant.id, None, changes).await.map_err(explain)?)
}

pub(super) async fn suspend(context: &Context, tenant: &str) -> anyhow::Result<()> {
    let fleet = fleet(context)?;
    let tenant = fleet.get(tenant).await.map_err(explain)?;
    print(context, fleet.suspend(tenant.id).await.map_err(explain)?)
}

pub(super) async fn resume(context: &Context, tenant: &str) -> anyhow::Result<()> {
    let fleet = fleet(context)?;
    let tenant = fleet.get(tenant).await.map_err(explain)?;
    print(context, fleet.resume(tenant.id).await.map_err(explain)?)
}

pub(super) async fn archive(context: &Context, tenant: &str) -> anyhow::Result<()> {
    let fleet = fleet(context)?;
    let tenant = fleet.get(tenant).await.map_err(explain)?;
    print(context, fleet.archive(tenant.id).await.map_err(explain)?)
}

pub(super) async fn restore(context: &Context, tenant: &str) -> anyhow::Result<()> {
    let fleet = fleet(context)?;
    let tenant = fleet.get(tenant).await.map_err(explain)?;
    print(context, fleet.restore(tenant.id).await.map_err(explain)?)
}

pub(super) async fn delete(context: &Context, args: &DeleteArgs) -> anyhow::Result<()> {
    let fleet = fleet(context)?;
    let tenant = fleet.get(&args.tenant).await.map_err(explain)?;
    let at_once = args.now || tenant.status == TenantStatus::Provisioning;
    let what = if at_once { "Dropping" } else { "Archiving, and after the grace period dropping," };
    context.confirm(&format!("{what} tenant '{}' and all its data", tenant.slug))?;
    let how = DeleteTenant { now: args.now, drop_dedicated_data: args.drop_dedicated_data, ..DeleteTenant::default() };
    let deleted = DeletedView::from(fleet.delete(tenant.id, how, &Bar::new()).await.map_err(explain)?);
    let until = deleted.purge_after.map_or_else(|| "-".into(), |until| until.to_rfc3339());
    let fields = [
        ("id", deleted.id.to_string()),
        ("slug", deleted.slug.to_string()),
        ("gone", deleted.gone.to_string()),
        ("purgeAfter", until),
    ];
    context.print_one(&deleted, &fields)
}
