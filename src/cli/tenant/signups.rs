//! `tenant signups`: who waits for a tenant of their own.

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use serde_json::json;

use super::manage::fields;
use super::{explain, fleet};
use crate::cli::Context;
use crate::control::signups::SignUpFilter;
use crate::fleet::api::WaitingView;
use crate::fleet::view::TenantView;
use crate::kernel::OperationId;
use crate::rest::within_reach;

/// What to do with them.
#[derive(Debug, Subcommand)]
pub enum SignUpsCommand {
    /// Lists who waits, the longest waiting first.
    #[command(after_help = "Example:\n  tenantry tenant signups list --output json")]
    List,
    /// Makes the tenant that somebody waits for.
    #[command(after_help = "Example:\n  tenantry tenant signups approve 01890000-0000-7000-8000-000000000000")]
    Approve(One),
    /// Sends somebody away, or everybody; what they said of themselves is forgotten.
    #[command(
        after_help = "Examples:\n  tenantry tenant signups refuse 01890000-0000-7000-8000-000000000000\n  tenantry tenant signups refuse --before 2026-03-01T12:00:00Z --yes"
    )]
    Refuse(Which),
}

/// One of them.
#[derive(Debug, Args)]
pub struct One {
    /// Its id, as `list` shows it.
    id: OperationId,
}

/// One of them, or many.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct Which {
    /// Its id, as `list` shows it.
    id: Option<OperationId>,
    /// All that wait.
    #[arg(long)]
    all: bool,
    /// All that came before this time, as `2026-03-01T12:00:00Z`.
    #[arg(long, value_name = "TIME")]
    before: Option<DateTime<Utc>>,
}

pub(super) async fn run(context: &Context, command: &SignUpsCommand) -> anyhow::Result<()> {
    let fleet = fleet(context)?;
    match command {
        SignUpsCommand::List => {
            let waiting = fleet.sign_ups(SignUpFilter::default()).await.map_err(explain)?;
            let views: Vec<WaitingView> = waiting.into_iter().map(Into::into).collect();
            let rows = views.iter().map(|one| {
                let since = one.created_at.to_rfc3339();
                vec![one.id.to_string(), one.slug.to_string(), one.name.clone(), one.admin_email.clone(), since]
            });
            context.print(&views, &["id", "slug", "name", "admin", "since"], rows)
        }
        SignUpsCommand::Approve(one) => {
            let view = TenantView::from(fleet.approve_sign_up(one.id).await.map_err(explain)?);
            context.print_one(&view, &fields(&view))
        }
        SignUpsCommand::Refuse(Which { id: Some(id), .. }) => {
            let job = fleet.refuse_sign_up(*id).await.map_err(explain)?;
            context.progress(&format!("{} is refused", job.id));
            Ok(())
        }
        SignUpsCommand::Refuse(Which { before, .. }) => {
            let which = before.map_or_else(String::new, |before| format!(" that came before {}", before.to_rfc3339()));
            context.confirm(&format!("Refusing all sign-ups{which}"))?;
            let refused = fleet.refuse_sign_ups(before.map(within_reach)).await.map_err(explain)?;
            context.print_one(&json!({"refused": refused}), &[("refused", refused.to_string())])
        }
    }
}
