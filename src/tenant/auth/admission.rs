//! The session behind a token, and what its person may do: read in one query, remembered for a moment.
//!
//! Of somebody whose rights were read before, the query asks the session, the person and the marks of their rights only
//! (`V3__rights_marks.sql`): on a connection just opened that costs PostgreSQL half as much. The marks say whether the
//! rights are still those that are known; if not, they are read. Of somebody never seen here, the session itself says with
//! which rights and marks it was opened or refreshed (`V25__rights_of_sessions.sql`).
//!
//! Revocation holds everywhere within two seconds because nothing is remembered longer than [`REMEMBERED`]; on the node
//! where it happens it holds at once, because that node marks the person as changed.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use diesel::QueryResult;
use moka::future::Cache;
use moka::policy::EvictionPolicy;
use uuid::Uuid;

use super::rights::{Known, KnownRights};
use super::store::{KNOWN_SINCE, MARKED_SINCE, Rights, Standing, standing, standing_with_known, standing_with_rights};
use crate::kernel::opaque::OpaqueToken;
use crate::kernel::{ApiKeyId, Clock, OauthClientId, SessionId, TenantId, UserId};
use crate::outbound::Outbound;
use crate::router::{
    Access, AccessClaims, Admission, AppBearer, Error, ForeignBearer, KeyHolder, Result, TenantConn, TenantDb,
};
use crate::tenant::api_keys::admission::KeyAdmission;
use crate::tenant::jose::Foreign;
use crate::tenant::oauth::admission::AppAdmission;
use crate::tenant::token_issuers::admission::ForeignAdmission;
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
    /// By the schema that they were read from, too: rights may come with a newer one.
    verdicts: Cache<(TenantId, SessionId, i32), Verdict>,
    /// When a session, an app, a person or (nil) what concerns a whole tenant was last changed here: what was read before does
    /// not count any more.
    changes: Cache<(TenantId, Uuid), Instant>,
    rights: KnownRights,
    keys: KeyAdmission,
    apps: AppAdmission,
    foreign: Foreign,
    foreign_tokens: ForeignAdmission,
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
        let foreign = Foreign::new(Outbound::new(Vec::new()), &clock);
        let (keys, foreign_tokens) = (KeyAdmission::new(clock.clone()), ForeignAdmission::new(clock.clone()));
        let apps = AppAdmission::new(clock.clone());
        Self { keys, apps, foreign, foreign_tokens, clock, verdicts, changes, rights: KnownRights::new() }
    }

    /// The same, whose issuers of tokens are reached by this client.
    #[must_use]
    pub fn reaching(self, outbound: Outbound) -> Self {
        Self { foreign: Foreign::new(outbound, &self.clock), ..self }
    }

    /// What is known of issuers.
    pub(in crate::tenant) const fn foreign(&self) -> &Foreign {
        &self.foreign
    }

    /// A session has ended. To be called after the commit.
    pub async fn forget(&self, tenant: TenantId, session: SessionId) {
        self.changes.insert((tenant, session.uuid()), Instant::now()).await;
    }

    /// A person's sessions, roles or status have changed. To be called after the commit.
    pub async fn forget_user(&self, tenant: TenantId, user: UserId) {
        self.changes.insert((tenant, user.uuid()), Instant::now()).await;
    }

    /// What roles allow has changed, or sessions of many have ended. To be called after the commit.
    pub async fn forget_tenant(&self, tenant: TenantId) {
        self.changes.insert((tenant, Uuid::nil()), Instant::now()).await;
    }

    /// An API key was changed or revoked. To be called after the commit.
    pub async fn forget_key(&self, tenant: TenantId, key: ApiKeyId) {
        self.keys.forget(tenant, key).await;
    }

    /// An app was changed or removed, or what it was given has ended. To be called after the commit.
    pub async fn forget_app(&self, tenant: TenantId, client: OauthClientId) {
        self.changes.insert((tenant, client.uuid()), Instant::now()).await;
    }

    /// A tenant's token issuers have changed. To be called after the commit.
    pub(in crate::tenant) async fn forget_issuers(&self, tenant: TenantId) {
        self.foreign_tokens.forget(tenant).await;
    }

    /// Whether nothing has changed of these and of the tenant as a whole since something was read of them.
    async fn is_current(&self, tenant: TenantId, ids: Vec<Uuid>, read_at: Instant) -> bool {
        for id in ids.into_iter().chain([Uuid::nil()]) {
            if self.changes.get(&(tenant, id)).await.is_some_and(|changed| changed >= read_at) {
                return false;
            }
        }
        true
    }

    async fn verdict(&self, db: &TenantDb, claims: &AccessClaims) -> Result<Verdict> {
        let tenant = db.tenant().id;
        let key = (tenant, claims.sid, db.tenant().schema_version);
        let mut verdict = self.remembered(db, key, claims.sub).await?;
        for _ in 1..ATTEMPTS {
            let of = [Some(claims.sid.uuid()), verdict.user.map(UserId::uuid)];
            if self.is_current(tenant, of.into_iter().flatten().collect(), verdict.read_at).await {
                break;
            }
            self.verdicts.invalidate(&key).await;
            verdict = self.remembered(db, key, claims.sub).await?;
        }
        Ok(verdict)
    }

    async fn remembered(&self, db: &TenantDb, key: (TenantId, SessionId, i32), user: UserId) -> Result<Verdict> {
        self.verdicts.try_get_with(key, self.read(db, key.1, user)).await.map_err(shared)
    }

    /// Reads what the next request of a session will ask for, who may come while it is read.
    pub(super) async fn look_ahead(&self, db: &TenantDb, session: SessionId, user: UserId) {
        let tenant = db.tenant();
        // Whatever is wrong, that request will see it.
        let _ = self.remembered(db, (tenant.id, session, tenant.schema_version), user).await;
    }

    async fn read(&self, db: &TenantDb, session: SessionId, user: UserId) -> Result<Verdict> {
        let read_at = Instant::now();
        let known = self.rights.get(db.tenant(), user).await;
        let marked = db.tenant().schema_version >= MARKED_SINCE;
        let schema = db.tenant().schema_version;
        let look = Look { session, user, known: known.as_ref().filter(|_| marked), schema };
        let seen = db.read(async |conn: &mut TenantConn| look.read(conn).await.map_err(Error::from)).await?;
        let Some((standing, rights)) = seen else { return Ok(Verdict { read_at, user: None, access: None }) };
        let access = match (rights, &known) {
            _ if !self.stands(&standing) => None,
            (Some(rights), _) => Some(self.rights.learn(db.tenant(), &standing, rights).await),
            (None, known) => known.as_ref().map(|known| known.access(standing.password_change_required())),
        };
        Ok(Verdict { read_at, user: Some(standing.user_id), access })
    }

    fn stands(&self, standing: &Standing) -> bool {
        standing.revoked_at.is_none()
            && self.clock.now() < standing.expires_at
            && standing.status() == UserStatus::Active.as_str()
    }
}

/// What is asked of a tenant's database about a session.
struct Look<'a> {
    session: SessionId,
    /// Whose it is, as the token says.
    user: UserId,
    /// That person's rights as last read.
    known: Option<&'a Known>,
    /// Whether the database has marks.
    schema: i32,
}

impl Look<'_> {
    /// The session, if there is one. Without rights if those that are known hold.
    async fn read(&self, conn: &mut TenantConn) -> QueryResult<Option<(Standing, Option<Rights>)>> {
        if let Some(known) = self.known {
            match standing(conn, self.session).await? {
                None => return Ok(None),
                Some(standing) if standing.user_id == self.user && known.holds(&standing) => {
                    return Ok(Some((standing, None)));
                }
                Some(_) => {}
            }
        } else if self.schema >= KNOWN_SINCE {
            match standing_with_known(conn, self.session).await? {
                None => return Ok(None),
                Some((standing, Some(rights))) => return Ok(Some((standing, Some(rights)))),
                Some((_, None)) => {}
            }
        }
        let read = standing_with_rights(conn, self.session, self.schema).await?;
        Ok(read.map(|(standing, rights)| (standing, Some(rights))))
    }
}

#[async_trait]
impl Admission for SessionAdmission {
    async fn admit(&self, db: &TenantDb, claims: &AccessClaims) -> Result<Arc<Access>> {
        let verdict = self.verdict(db, claims).await?;
        match verdict.access {
            Some(access) if verdict.user == Some(claims.sub) => Ok(access),
            _ => Err(Error::TokenRevoked),
        }
    }

    async fn admit_key(
        &self,
        db: &TenantDb,
        key: &OpaqueToken,
        from: Option<IpAddr>,
    ) -> Result<(KeyHolder, Arc<Access>)> {
        self.keys.admit(db, key, from).await
    }

    async fn admit_app(&self, db: &TenantDb, claims: &AccessClaims) -> Result<(AppBearer, Arc<Access>)> {
        let tenant = db.tenant().id;
        let mut verdict = self.apps.verdict(db, claims).await?;
        for _ in 1..ATTEMPTS {
            if self.is_current(tenant, verdict.of(claims), verdict.read_at).await {
                break;
            }
            self.apps.forget(tenant, claims).await;
            verdict = self.apps.verdict(db, claims).await?;
        }
        AppAdmission::admit(verdict)
    }

    async fn admit_foreign(&self, db: &TenantDb, token: &str) -> Result<(ForeignBearer, Arc<Access>)> {
        self.foreign_tokens.admit(&self.foreign, db, token).await
    }
}

/// The error of a query that several requests waited for.
pub(in crate::tenant) fn shared(error: Arc<Error>) -> Error {
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
