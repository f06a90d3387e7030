//! Which side may be written to: said by the role, in the database itself.

use std::time::Duration;

use diesel_async::SimpleAsyncConnection as _;
use tokio::time::{Instant, sleep, timeout};

use super::run::Run;
use crate::error::{ApiError, ApiResult, Code};
use crate::fleet::{admin, sql};
use crate::router::{AdminConn, Target};

/// Between two looks at the server.
const LOOK: Duration = Duration::from_millis(20);
/// After this, connections that nobody works on are ended: their node has not heard of the hold.
const IDLE: Duration = Duration::from_millis(1500);
/// How long a server may take to end the sessions of a role.
const SHUT_OUT: Duration = Duration::from_secs(15);
/// What late-comers are given once the role cannot log in.
const LATE: Duration = Duration::from_secs(2);

/// Whether a role may log in.
pub(super) async fn set_login(server: &Target, role: &str, may: bool) -> ApiResult<()> {
    let_in(&mut admin::open(server).await?, role, may).await
}

/// The same, over an open connection of the administrator.
pub(super) async fn let_in(server: &mut AdminConn, role: &str, may: bool) -> ApiResult<()> {
    let alter = format!("ALTER ROLE {} {}", sql::ident(role), if may { "LOGIN" } else { "NOLOGIN" });
    server.batch_execute(&alter).await.map_err(ApiError::internal)
}

/// Waits until the nodes have let go of the source, then nobody is let in any more.
pub(super) async fn fence(run: &Run<'_>) -> ApiResult<()> {
    let role = &run.tenant.role_name;
    let mut server = admin::open(&run.source.admin).await?;
    let patience = run.fleet.settings.drain_timeout.min(run.left() / 2);
    drain(&mut server, role, patience).await?;
    let_in(&mut server, role, false).await?;
    // Whoever came in between finishes too.
    drain(&mut server, role, LATE.min(run.left() / 2)).await
}

/// Nobody comes in as a role any more, by whatever password, and nobody is there who did.
///
/// # Errors
/// 503 if the server does not end them.
pub(super) async fn shut_out(server: &mut AdminConn, role: &str) -> ApiResult<()> {
    let alter = format!("ALTER ROLE {} NOLOGIN PASSWORD NULL", sql::ident(role));
    server.batch_execute(&alter).await.map_err(admin::failed)?;
    // Our own have said goodbye already.
    let gone = timeout(SHUT_OUT, drain(server, role, IDLE));
    gone.await.unwrap_or_else(|_| {
        Err(ApiError::new(Code::TenantDatabaseUnavailable)
            .detail("The server does not end the sessions of the copy's role."))
    })
}

/// Waits until no connection of a role is left. In the end they are ended.
async fn drain(server: &mut AdminConn, role: &str, patience: Duration) -> ApiResult<()> {
    let of_role = format!("FROM pg_stat_activity WHERE usename = {}", sql::literal(role));
    let left = format!("SELECT count(*) > 0 AS yes {of_role}");
    let end = format!("SELECT pg_terminate_backend(pid)::text AS word {of_role}");
    let begun = Instant::now();
    while admin::ask(server, &left).await? {
        if begun.elapsed() >= patience {
            let ended = admin::words(server, &end).await?.len();
            tracing::warn!(role, ended, "connections of a tenant that is moved were ended");
        } else if begun.elapsed() >= IDLE {
            admin::words(server, &format!("{end} AND state = 'idle' AND state_change < now() - interval '1s'")).await?;
        }
        sleep(LOOK).await;
    }
    Ok(())
}
