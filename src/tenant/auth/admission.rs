//! The session behind a token, and what its person may do: read in one query, remembered for a moment.
//!
//! Revocation holds everywhere within two seconds because nothing is remembered longer than [`REMEMBERED`]; on the node
//! where it happens it holds at once, because that node marks the person as changed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use moka::future::Cache;
use moka::policy::EvictionPolicy;
use uuid::Uuid;

use super::store;
use crate::kernel::{Clock, SessionId, TenantId, UserId};
use crate::router::{Access, AccessClaims, Admission, Error, Result, TenantConn, TenantDb};
use crate::tenant::users::rules::UserStatus;

/// How long an answer is used.
pub const REMEMBERED: Duration = Duration::from_millis(1500);
const MAX_SESSIONS: u64 = 50_000;
const MAX_CHANGES: u64 = 50_000;
/// An answer is read anew at most so often for one request, should changes keep coming in between.
const ATTEMPTS: usize = 3;

/// What was read. A refusal is remembered too: a revoked token costs no more than a good one.
#[derive(Debug, Clone)]
struct Verdict {
    /// Taken before the query began.
    read_at: Instant,
    user: Option<UserId>,
    access: Option<Arc<Access>>,
}

/// Admits whoever's session stands.
#[derive(Debug)]
pub struct SessionAdmission {
    clock: Clock,
    verdicts: Cache<(TenantId, SessionId), Verdict>,
    /// When a session or a person was last changed here: what was read before does not count any more.
    changes: Cache<(TenantId, Uuid), Instant>,
}

impl SessionAdmission {
    /// An admission with nothing remembered.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        let verdicts = Cache::builder()
            .max_capacity(MAX_SESSIONS)
            .eviction_policy(EvictionPolicy::lru())
            .time_to_live(REMEMBERED)
            .build();
        let changes = Cache::builder()
            .max_capacity(MAX_CHANGES)
            .eviction_policy(EvictionPolicy::lru())
            .time_to_live(2 * REMEMBERED)
            .build();
        Self { clock, verdicts, changes }
    }

    /// A session has ended. To be called after the commit.
    pub async fn forget(&self, tenant: TenantId, session: SessionId) {
        self.changes.insert((tenant, session.uuid()), Instant::now()).await;
    }

    /// A person's sessions, roles or status have changed. To be called after the commit.
    pub async fn forget_user(&self, tenant: TenantId, user: UserId) {
        self.changes.insert((tenant, user.uuid()), Instant::now()).await;
    }

    async fn is_current(&self, tenant: TenantId, session: SessionId, verdict: &Verdict) -> bool {
        let mut ids = [Some(session.uuid()), verdict.user.map(UserId::uuid)].into_iter().flatten();
        let (first, second) = (ids.next(), ids.next());
        for id in [first, second].into_iter().flatten() {
            if self.changes.get(&(tenant, id)).await.is_some_and(|changed| changed >= verdict.read_at) {
                return false;
            }
        }
        true
    }

    async fn verdict(&self, db: &TenantDb, session: SessionId) -> Result<Verdict> {
        let tenant = db.tenant().id;
        let key = (tenant, session);
        let mut verdict = self.remembered(db, key).await?;
        for _ in 1..ATTEMPTS {
            if self.is_current(tenant, session, &verdict).await {
                break;
            }
            self.verdicts.invalidate(&key).await;
            verdict = self.remembered(db, key).await?;
        }
        Ok(verdict)
    }

    async fn remembered(&self, db: &TenantDb, key: (TenantId, SessionId)) -> Result<Verdict> {
        self.verdicts.try_get_with(key, self.read(db, key.1)).await.map_err(shared)
    }

    async fn read(&self, db: &TenantDb, session: SessionId) -> Result<Verdict> {
        let read_at = Instant::now();
        let row =
            db.read(async |conn: &mut TenantConn| store::standing(conn, session).await.map_err(Error::from)).await?;
        let now = self.clock.now();
        let Some(row) = row else { return Ok(Verdict { read_at, user: None, access: None }) };
        let stands = row.revoked_at.is_none() && now < row.expires_at && row.status == UserStatus::Active.as_str();
        let access = stands.then(|| {
            Arc::new(Access {
                roles: row.roles,
                permissions: row.permissions.into_iter().collect(),
                password_change_required: row.password_change_required,
            })
        });
        Ok(Verdict { read_at, user: Some(row.user_id), access })
    }
}

#[async_trait]
impl Admission for SessionAdmission {
    async fn admit(&self, db: &TenantDb, claims: &AccessClaims) -> Result<Arc<Access>> {
        let verdict = self.verdict(db, claims.sid).await?;
        match verdict.access {
            Some(access) if verdict.user == Some(claims.sub) => Ok(access),
            _ => Err(Error::TokenRevoked),
        }
    }
}

/// The error of a query that several requests waited for.
fn shared(error: Arc<Error>) -> Error {
    let error = match Arc::try_unwrap(error) {
        Ok(error) => return error,
        Err(shared) => shared,
    };
    match &*error {
        Error::PoolExhausted { retry_after } => Error::PoolExhausted { retry_after: *retry_after },
        Error::TenantUnavailable { retry_after } => Error::TenantUnavailable { retry_after: *retry_after },
        Error::DatabaseUnavailable { retry_after, source } => {
            Error::DatabaseUnavailable { retry_after: *retry_after, source: source.clone() }
        }
        Error::Deadline => Error::Deadline,
        _ => Error::DatabaseUnavailable { retry_after: Duration::from_secs(1), source: Some(error) },
    }
}
