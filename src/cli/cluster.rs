//! `tenantry cluster`: PostgreSQL servers that tenants are placed on.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;

use super::progress::Bar;
use super::tenant::{HaltArgs, TlsArgs, explain, fleet, or_default};
use super::{Context, Partial};
use crate::control::clusters::{Cluster, ClusterChanges, NewCluster};
use crate::fleet::Fleet;
use crate::fleet::view::{ClusterView, DrainedView};

/// What to do with clusters.
#[derive(Debug, Subcommand)]
pub enum ClusterCommand {
    /// Looks at a server, prepares it and takes it in.
    #[command(
        after_help = "Example:\n  tenantry cluster add eu-1 --admin-url-file url --ca-file ca.pem --region eu --connection-budget 200"
    )]
    Add(AddArgs),
    /// Lists clusters.
    #[command(after_help = "Example:\n  tenantry cluster list --output json")]
    List,
    /// Shows one cluster.
    #[command(after_help = "Example:\n  tenantry cluster show eu-1")]
    Show(Named),
    /// Changes a cluster; running servers follow within two seconds.
    #[command(after_help = "Example:\n  tenantry cluster set eu-1 --connection-budget 300")]
    Set(SetArgs),
    /// Keeps new tenants off a cluster and moves its own to others. Again, it resumes.
    #[command(after_help = "Example:\n  tenantry cluster drain eu-1")]
    Drain(DrainArgs),
    /// Forgets a cluster that no tenant lives on.
    #[command(after_help = "Example:\n  tenantry cluster remove eu-1 --yes")]
    Remove(Named),
}

/// A cluster.
#[derive(Debug, Args)]
pub struct Named {
    /// Its name.
    name: String,
}

/// Options of `cluster add`.
#[derive(Debug, Args)]
pub struct AddArgs {
    /// Its name: a-z, 0-9 and '-', beginning with a letter.
    name: String,
    /// File with the URL of its administrator and administrative database.
    #[arg(long, value_name = "FILE")]
    admin_url_file: PathBuf,
    #[command(flatten)]
    tls: TlsArgs,
    /// Where it stands.
    #[arg(long)]
    region: Option<String>,
    /// How many tenants it takes [default: no bound].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    max_tenants: Option<i32>,
    /// The most connections to its tenants' databases, over all nodes [default: 80 % of what the server has].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    connection_budget: Option<i32>,
}

/// Options of `cluster set`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("change").required(true).multiple(true))]
pub struct SetArgs {
    /// Its name.
    name: String,
    /// File with another URL of its administrator.
    #[arg(long, value_name = "FILE", group = "change")]
    admin_url_file: Option<PathBuf>,
    #[command(flatten)]
    tls: TlsArgs,
    /// Where it stands.
    #[arg(long, group = "change")]
    region: Option<String>,
    /// How many tenants it takes, or `default` for no bound.
    #[arg(long, value_name = "N", group = "change")]
    max_tenants: Option<String>,
    /// The most connections to its tenants' databases, over all nodes, or `default` for router.cluster_budget.
    #[arg(long, value_name = "N", group = "change")]
    connection_budget: Option<String>,
}

/// Options of `cluster drain`.
#[derive(Debug, Args)]
pub struct DrainArgs {
    /// Its name.
    name: String,
    /// Let new tenants on again.
    #[arg(long)]
    undo: bool,
    /// Keep new tenants off, and leave those that are there.
    #[arg(long, conflicts_with = "undo")]
    no_move: bool,
    #[command(flatten)]
    halt: HaltArgs,
}

/// Runs one of them.
///
/// # Errors
/// [`super::Refused`] for an unmet precondition; else what failed.
pub async fn run(context: &Context, command: &ClusterCommand) -> anyhow::Result<()> {
    let fleet = fleet(context)?;
    match command {
        ClusterCommand::Add(args) => {
            let new = NewCluster {
                name: args.name.clone(),
                admin: args.tls.target(&args.admin_url_file)?,
                region: args.region.clone(),
                max_tenants: args.max_tenants,
                connection_budget: args.connection_budget,
            };
            print(context, &fleet, fleet.add_cluster_with_budget(&new).await.map_err(explain)?)
        }
        ClusterCommand::List => list(context, &fleet, fleet.clusters().await.map_err(explain)?),
        ClusterCommand::Show(named) => print(context, &fleet, fleet.cluster_now(&named.name).await.map_err(explain)?),
        ClusterCommand::Set(args) => {
            args.tls.go_with("--admin-url-file", args.admin_url_file.as_deref())?;
            let changes = ClusterChanges {
                admin: args.admin_url_file.as_deref().map(|file| args.tls.target(file)).transpose()?,
                region: args.region.clone().map(Some),
                max_tenants: or_default(args.max_tenants.as_deref())?,
                connection_budget: or_default(args.connection_budget.as_deref())?,
                draining: None,
            };
            print(context, &fleet, fleet.set_cluster(&args.name, changes).await.map_err(explain)?)
        }
        ClusterCommand::Drain(args) if !args.undo && !args.no_move => drain(context, &fleet, args).await,
        ClusterCommand::Drain(args) => {
            let changes = ClusterChanges { draining: Some(!args.undo), ..ClusterChanges::default() };
            print(context, &fleet, fleet.set_cluster(&args.name, changes).await.map_err(explain)?)
        }
        ClusterCommand::Remove(named) => {
            context.confirm(&format!("Forgetting cluster '{}'", named.name))?;
            fleet.remove_cluster(&named.name).await.map_err(explain)?;
            let name = &named.name;
            context.print_one(&json!({"name": name, "gone": true}), &[("name", name.clone()), ("gone", "true".into())])
        }
    }
}

fn number(value: Option<i32>) -> String {
    value.map_or_else(|| "-".into(), |value| value.to_string())
}

fn budget(view: &ClusterView) -> String {
    let default = if view.connection_budget_is_default { " (default)" } else { "" };
    format!("{}{default}", view.connection_budget)
}

/// Bytes, for people.
fn size(bytes: i64) -> String {
    const UNITS: [&str; 4] = ["MB", "GB", "TB", "PB"];
    let (mut size, mut unit) = (bytes / 1_000_000, 0);
    while size >= 10_000 && unit + 1 < UNITS.len() {
        (size, unit) = (size / 1000, unit + 1);
    }
    format!("{size} {}", UNITS[unit])
}

fn list(context: &Context, fleet: &Fleet, clusters: Vec<Cluster>) -> anyhow::Result<()> {
    let views: Vec<ClusterView> = clusters.into_iter().map(|cluster| fleet.cluster_view(cluster)).collect();
    let header = ["name", "region", "tenants", "max", "ready", "budget", "free", "version", "size", "draining"];
    let rows = views.iter().map(|c| {
        let region = c.region.clone().unwrap_or_else(|| "-".into());
        let (max, budget) = (number(c.max_tenants), budget(c));
        let (version, size) =
            c.server.as_ref().map_or_else(|| ("-".into(), "-".into()), |s| (s.version.clone(), size(s.bytes)));
        let (tenants, ready, free) =
            (c.tenants.to_string(), c.ready_tenants.to_string(), number(c.head_room.connections));
        vec![c.name.clone(), region, tenants, max, ready, budget, free, version, size, c.draining.to_string()]
    });
    context.print(&views, &header, rows)
}

async fn drain(context: &Context, fleet: &Fleet, args: &DrainArgs) -> anyhow::Result<()> {
    let (cluster, drained) = fleet.drain(&args.name, &args.halt.options(), &Bar::new()).await.map_err(explain)?;
    let view = DrainedView { cluster: fleet.cluster_view(cluster), drained };
    let (moved, failed) = (&view.drained.moved, &view.drained.failed);
    let mut lines = fields(&view.cluster);
    lines.push(("moved", moved.len().to_string()));
    lines.extend(failed.iter().map(|part| ("failed", format!("{}: {}", part.slug, part.error))));
    context.print_one(&view, &lines)?;
    if failed.is_empty() {
        return Ok(());
    }
    let of = moved.len() + failed.len();
    Err(Partial(format!("{} of {of} tenants are still there; drain it again once the causes are mended", failed.len()))
        .into())
}

fn print(context: &Context, fleet: &Fleet, cluster: Cluster) -> anyhow::Result<()> {
    let view = fleet.cluster_view(cluster);
    context.print_one(&view, &fields(&view))
}

fn fields(view: &ClusterView) -> Vec<(&'static str, String)> {
    let server = view.server.as_ref();
    vec![
        ("id", view.id.to_string()),
        ("name", view.name.clone()),
        ("region", view.region.clone().unwrap_or_else(|| "-".into())),
        ("tlsMode", view.tls_mode.to_string()),
        ("tenants", view.tenants.to_string()),
        ("readyTenants", view.ready_tenants.to_string()),
        ("maxTenants", number(view.max_tenants)),
        ("connectionBudget", budget(view)),
        ("draining", view.draining.to_string()),
        ("headRoom.tenants", view.head_room.tenants.map_or_else(|| "-".into(), |left| left.to_string())),
        ("headRoom.connections", number(view.head_room.connections)),
        ("headRoom.beyondBudget", number(view.head_room.beyond_budget)),
        ("server.version", server.map_or_else(|| "-".into(), |s| s.version.clone())),
        ("server.maxConnections", number(server.map(|s| s.max_connections))),
        ("server.connections", number(server.map(|s| s.connections))),
        ("server.bytes", server.map_or_else(|| "-".into(), |s| format!("{} ({})", s.bytes, size(s.bytes)))),
        ("server.extensions", server.map_or_else(|| "-".into(), |s| s.extensions.join(" "))),
        ("server.probedAt", server.map_or_else(|| "-".into(), |s| s.probed_at.to_rfc3339())),
        ("createdAt", view.created_at.to_rfc3339()),
    ]
}
