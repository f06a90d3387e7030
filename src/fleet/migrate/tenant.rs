//! One tenant: one connection, one look, and what is missing.

use std::error::Error;
use std::time::{Duration, Instant};

use tokio_postgres::error::DbError;

use crate::control::migration_runs::{Finished, RunTenant};
use crate::fleet::migrations::Migrations;
use crate::kernel::InstallationId;
use crate::router::Target;
use crate::router::migrate::{MigrateError, MigrateOptions, back_off, migrate_all};
use crate::router::stamp::Stamp;

/// A tenant that has its turn.
#[derive(Debug)]
pub(super) struct Turn {
    pub(super) tenant: RunTenant,
    /// How it is reached; none if it cannot be known.
    pub(super) target: Option<Target>,
    /// Whether it was removed since the plan was made.
    pub(super) gone: bool,
    /// Which try this is.
    pub(super) attempt: i32,
    /// How many migrations all tries have applied.
    pub(super) applied: i32,
    /// What it is at, as far as anybody could look.
    pub(super) at: Option<(i32, i32)>,
    /// What it is at by the registry, if that is exactly a part of today's migrations.
    pub(super) known: Option<Vec<i32>>,
}

/// What a try led to.
pub(super) enum Tried {
    /// It is known what became of the tenant.
    Over(Finished),
    /// Somebody else held a lock.
    Conflict(MigrateError),
}

/// How long a tenant is waited for that another command works on: a backup, an export or a move takes its time.
const LONGEST: Duration = Duration::from_secs(60 * 60);
/// Looks whether it is free come later and later, up to this one.
const LATEST_LOOK: u32 = 3;

/// Why a tenant is put aside.
#[derive(Debug)]
pub(super) enum Aside {
    /// Another command works on it, and has since then, at so many looks. It was not tried.
    WorkedOn { since: Instant, looks: u32 },
    /// It was tried, and somebody else held a lock.
    Conflict(MigrateError),
}

impl Aside {
    pub(super) fn worked_on() -> Self {
        Self::WorkedOn { since: Instant::now(), looks: 1 }
    }

    /// Another command works on it, still or by now.
    pub(super) fn or_worked_on(self) -> Self {
        match self {
            Self::WorkedOn { since, looks } => Self::WorkedOn { since, looks: looks + 1 },
            Self::Conflict(_) => Self::worked_on(),
        }
    }

    /// How long it is left alone.
    pub(super) fn pause(&self, attempt: i32) -> Duration {
        match self {
            Self::WorkedOn { looks, .. } => back_off(*looks.min(&LATEST_LOOK)),
            Self::Conflict(_) => back_off(u32::try_from(attempt).unwrap_or(1).max(1)),
        }
    }

    /// Whether this was not said yet.
    pub(super) fn is_news(&self) -> bool {
        !matches!(self, Self::WorkedOn { looks, .. } if *looks > 1)
    }

    /// Whether it was waited for long enough.
    pub(super) fn takes_too_long(&self) -> bool {
        matches!(self, Self::WorkedOn { since, .. } if since.elapsed() >= LONGEST)
    }

    /// What the operator is told.
    pub(super) fn said(&self, slug: &str) -> String {
        match self {
            Self::WorkedOn { .. } => format!(
                "another command works on this tenant (`GET /api/v1/admin/jobs?tenantId={slug}`); run again when it has ended"
            ),
            Self::Conflict(error) => said(error),
        }
    }
}

impl Turn {
    /// Tries it. `patience` is how long a lock is waited for at most.
    pub(super) async fn attempt(
        &mut self,
        migrations: &Migrations,
        installation: InstallationId,
        patience: Patience,
        resumed: bool,
    ) -> Tried {
        let begun = Instant::now();
        if self.gone {
            let over = self.over(Ok(()), None, begun, false);
            return Tried::Over(Finished { gone: true, at_head: false, to: None, ..over });
        }
        let Some(target) = &self.target else {
            return Tried::Over(self.over(Err("its address is not known".into()), None, begun, resumed));
        };
        let options = MigrateOptions {
            lock_timeout: patience.lock,
            attempts: 1,
            wait: patience.wait,
            statement_timeout: Some(patience.statement),
            role: None,
            stamp: Some(Stamp { tenant_id: self.tenant.tenant_id, installation_id: installation }),
            // Told the first time alone: whoever was in the way may have migrated it.
            at: self.known.take(),
        };
        let (applied, done) = migrate_all(target, &[&migrations.built_in, &migrations.operator], &options).await;
        self.applied += applied.iter().map(|applied| i32::try_from(applied.count).unwrap_or(i32::MAX)).sum::<i32>();
        if applied.iter().any(|applied| applied.to > 0) {
            self.at = Some((applied[0].to, applied[1].to));
        }
        match done {
            Err(error) if error.is_conflict() => Tried::Conflict(error),
            done => {
                let migration = done.as_ref().err().and_then(MigrateError::migration);
                Tried::Over(self.over(done.map_err(|error| said(&error)), migration, begun, resumed))
            }
        }
    }

    /// It was tried often enough.
    pub(super) fn give_up(&self, why: &Aside, resumed: bool) -> Finished {
        let migration = match why {
            Aside::Conflict(error) => error.migration(),
            Aside::WorkedOn { .. } => None,
        };
        self.over(Err(why.said(&self.tenant.slug)), migration, Instant::now(), resumed)
    }

    fn over(&self, done: Result<(), String>, migration: Option<String>, begun: Instant, resumed: bool) -> Finished {
        Finished {
            tenant: self.tenant.tenant_id,
            at_head: done.is_ok(),
            gone: false,
            to: self.at,
            applied: self.applied,
            // One that was interrupted may have applied something, and died before it could say so.
            retire: self.applied > 0 || resumed,
            attempts: self.attempt,
            migration,
            error: done.err(),
            ms: i64::try_from(begun.elapsed().as_millis()).unwrap_or(i64::MAX),
        }
    }
}

/// How long a try waits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// For a lock within a transaction: the traffic queues up behind.
    pub(super) lock: Duration,
    /// For another runner, and for a lock outside of a transaction: nobody queues up behind.
    pub(super) wait: Duration,
    /// For one statement.
    pub(super) statement: Duration,
}

/// An error with its causes. Of what the server said the message alone: its detail may quote somebody's data.
fn said(error: &MigrateError) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let line = match find_server(cause) {
            Some(server) => format!(": {}", server.message()),
            None => format!(": {cause}"),
        };
        text.push_str(&line);
        if find_server(cause).is_some() {
            break;
        }
        next = cause.source();
    }
    text
}

fn find_server<'e>(cause: &'e (dyn Error + 'static)) -> Option<&'e DbError> {
    cause.downcast_ref::<DbError>()
}
