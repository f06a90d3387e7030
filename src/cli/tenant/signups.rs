//! `tenant signups`: who waits for a tenant of their own.

use clap::{Args, Subcommand};

use super::manage::fields;
use super::{explain, fleet};
use crate::cli::Context;
use crate::control::signups::SignUpFilter;
use crate::fleet::api::WaitingView;
use crate::fleet::view::TenantView;
use crate::kernel::OperationId;

/// What to do with them.
#[derive(Debug, Subcommand)]
pub enum SignUpsCommand {
    /// Lists who waits, the longest waiting first.
    #[command(after_help = "Example:\n  tenantry tenant signups list --output json")]
    List,
    /// Makes the tenant that somebody waits for.
    #[command(after_help = "Example:\n  tenantry tenant signups approve 01890000-0000-7000-8000-000000000000")]
    Approve(One),
    /// Sends somebody away; what they said of themselves is forgotten.
    #[command(after_help = "Example:\n  tenantry tenant signups refuse 01890000-0000-7000-8000-000000000000")]
    Refuse(One),
}

/// One of them.
#[derive(Debug, Args)]
pub struct One {
    /// Its id, as `list` shows it.
    id: OperationId,
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
        SignUpsCommand::Refuse(one) => {
            let job = fleet.refuse_sign_up(one.id).await.map_err(explain)?;
            context.progress(&format!("{} is refused", job.id));
            Ok(())
        }
    }
}
