//! Whether a foreign token is good, and what its bearer may do: remembered for a moment, as sessions are.

use std::sync::Arc;
use std::time::Instant;

use moka::future::Cache;
use moka::policy::EvictionPolicy;
use url::Url;

use super::SINCE;
use super::rules::{self, MatchBy};
use super::store::{self, Bearer, IssuerRow, Mark};
use crate::kernel::crypto::sha256;
use crate::kernel::{Clock, RoleId, TenantId, TokenIssuerId};
use crate::outbound::OutboundError;
use crate::router::{Access, Error, ForeignBearer, Result, TenantConn, TenantDb};
use crate::tenant::auth::admission::{REMEMBERED, shared};
use crate::tenant::jose::{Claims, Fault, Foreign, Head, Key, NoKey, Rules};
use crate::tenant::users::rules::email_key;

const MOST: u64 = 50_000;
const MOST_TENANTS: u64 = 10_000;

/// An issuer with the words that stand for roles.
#[derive(Debug)]
struct Known {
    row: IssuerRow,
    words: Vec<(String, RoleId)>,
}

/// A token that was found good.
#[derive(Debug, Clone)]
struct Verdict {
    /// Taken before it was last seen that the issuer stands.
    read_at: Instant,
    bearer: ForeignBearer,
    access: Arc<Access>,
    /// Unix seconds.
    expires: f64,
}

/// The issuers and tokens that were seen lately.
#[derive(Debug)]
pub(in crate::tenant) struct ForeignAdmission {
    clock: Clock,
    issuers: Cache<TenantId, Arc<Vec<Known>>>,
    verdicts: Cache<(TenantId, [u8; 32]), Verdict>,
    /// When a tenant's issuers were last changed here: what was found before does not count any more.
    changes: Cache<TenantId, Instant>,
}

impl ForeignAdmission {
    pub(in crate::tenant) fn new(clock: Clock) -> Self {
        let lru = EvictionPolicy::lru;
        Self {
            clock,
            issuers: Cache::builder()
                .max_capacity(MOST_TENANTS)
                .eviction_policy(lru())
                .time_to_live(REMEMBERED)
                .build(),
            verdicts: Cache::builder().max_capacity(MOST).eviction_policy(lru()).time_to_live(REMEMBERED).build(),
            changes: Cache::builder()
                .max_capacity(MOST_TENANTS)
                .eviction_policy(lru())
                .time_to_live(2 * REMEMBERED)
                .build(),
        }
    }

    /// A tenant's issuers have changed. To be called after the commit.
    pub(in crate::tenant) async fn forget(&self, tenant: TenantId) {
        self.changes.insert(tenant, Instant::now()).await;
        self.issuers.invalidate(&tenant).await;
    }

    /// Whether what was read then counts: not for longer than it is remembered, however long keys took since.
    async fn is_current(&self, tenant: TenantId, read_at: Instant) -> bool {
        let changed = self.changes.get(&tenant).await;
        read_at.elapsed() < REMEMBERED && changed.is_none_or(|changed| changed < read_at)
    }

    /// Admits whoever brings a token of an issuer that this tenant has registered.
    pub(in crate::tenant) async fn admit(
        &self,
        foreign: &Foreign,
        db: &TenantDb,
        token: &str,
    ) -> Result<(ForeignBearer, Arc<Access>)> {
        let tenant = db.tenant().id;
        // What cannot be a token is refused before the database is asked whose it might be.
        let head = Head::read(token).map_err(invalid)?;
        if db.tenant().schema_version < SINCE {
            return Err(Error::TokenInvalid("no issuers"));
        }
        let place = (tenant, sha256(token.as_bytes()));
        if let Some(verdict) = self.verdicts.get(&place).await
            && self.is_current(tenant, verdict.read_at).await
        {
            self.check_end(db, verdict.expires)?;
            return Ok((verdict.bearer, verdict.access));
        }
        let mut verdict = self.judge(foreign, db, &head, token).await?;
        if verdict.is_none() {
            // The issuer was changed or removed after it was read, perhaps while its keys were asked for.
            self.issuers.invalidate(&tenant).await;
            verdict = self.judge(foreign, db, &head, token).await?;
        }
        let verdict = verdict.ok_or(Error::TokenInvalid("issuer"))?;
        self.verdicts.insert(place, verdict.clone()).await;
        Ok((verdict.bearer, verdict.access))
    }

    /// What is to be said of a token; nothing, if its issuer is not as it was read any more.
    async fn judge(&self, foreign: &Foreign, db: &TenantDb, head: &Head, token: &str) -> Result<Option<Verdict>> {
        let issuers = self.issuers.try_get_with(db.tenant().id, read(db)).await.map_err(shared)?;
        let issuer = Claims::unverified_issuer(token).map_err(invalid)?;
        let known = issuers.iter().find(|known| known.row.issuer == issuer);
        let known = known.ok_or(Error::TokenInvalid("issuer"))?;
        let claims = verify(foreign, db, &known.row, head, token).await?;
        let expires = claims.exp.ok_or(Error::TokenInvalid("exp"))?;
        self.check_end(db, expires)?;
        let (now, leeway) = (self.clock.now().timestamp(), leeway(db));
        let rules = Rules { issuer: &known.row.issuer, audience: &known.row.audience, now, leeway };
        claims.check(rules).map_err(invalid)?;
        bearer(db, known, &claims, expires).await
    }

    #[expect(clippy::cast_precision_loss, reason = "seconds of our era are exact in a double")]
    fn check_end(&self, db: &TenantDb, expires: f64) -> Result<()> {
        let good = expires + leeway(db) as f64 > self.clock.now().timestamp() as f64;
        if good { Ok(()) } else { Err(Error::TokenExpired) }
    }
}

fn leeway(db: &TenantDb) -> i64 {
    i64::try_from(db.router().config().clock_leeway.as_secs()).unwrap_or(0)
}

fn invalid(fault: Fault) -> Error {
    Error::TokenInvalid(fault.0)
}

async fn read(db: &TenantDb) -> Result<Arc<Vec<Known>>> {
    let (rows, words) = db
        .read(async |conn: &mut TenantConn| -> Result<_> { Ok((store::list(conn).await?, store::words(conn).await?)) })
        .await?;
    let known = |row: IssuerRow| {
        let own = words.iter().filter(|(issuer, ..)| *issuer == row.id);
        Known { words: own.map(|(_, word, role, _)| (word.clone(), *role)).collect(), row }
    };
    Ok(Arc::new(rows.into_iter().filter(|row| row.enabled).map(known).collect()))
}

async fn verify(foreign: &Foreign, db: &TenantDb, row: &IssuerRow, head: &Head, token: &str) -> Result<Claims> {
    let key = match (&row.jwks_url, &row.secret_sealed) {
        (Some(address), _) => {
            let address = Url::parse(address).map_err(|_| Error::TokenInvalid("address of keys"))?;
            foreign.key(db.tenant().id, &address, head).await.map_err(|error| match error {
                NoKey::Fault(fault) => invalid(fault),
                NoKey::Outbound(error) => unreachable_keys(row.id, &error),
            })?
        }
        (None, Some(sealed)) => {
            let secret = store::open(db, row.id, sealed).map_err(|error| {
                tracing::error!(issuer = %row.id, %error, "the secret of a token issuer does not open");
                Error::TokenInvalid("secret")
            })?;
            Key::secret(&secret)
        }
        (None, None) => return Err(Error::TokenInvalid("keys")),
    };
    key.verify(head, token).map_err(invalid)
}

/// Without keys nobody can tell whether the token is good: it is not.
fn unreachable_keys(issuer: TokenIssuerId, error: &OutboundError) -> Error {
    tracing::warn!(%issuer, %error, "the keys of a token issuer cannot be had");
    Error::TokenInvalid("keys unreachable")
}

async fn bearer(db: &TenantDb, known: &Known, claims: &Claims, expires: f64) -> Result<Option<Verdict>> {
    let (row, read_at) = (&known.row, Instant::now());
    let mark = match row.match_by {
        MatchBy::Subject => Mark { subject: Some((row.issuer.clone(), claims.sub.clone())), ..Mark::default() },
        MatchBy::UserId => {
            let id = claims.sub.parse().map_err(|_| Error::TokenInvalid("sub is no id"))?;
            Mark { user: Some(id), ..Mark::default() }
        }
        MatchBy::Email => {
            let email = claims.text(&row.email_claim).filter(|_| claims.is_true("email_verified"));
            Mark {
                email_key: Some(email_key(email.ok_or(Error::TokenInvalid("no verified address"))?)),
                ..Mark::default()
            }
        }
    };
    let roles: Option<Vec<RoleId>> = row.roles_claim.as_ref().map(|claim| {
        let said = claims.words(claim);
        known.words.iter().filter(|(word, _)| said.contains(&word.as_str())).map(|(_, role)| *role).collect()
    });
    let (mark, roles) = (&mark, roles.as_deref());
    let (stands, found) = db
        .read(async |conn: &mut TenantConn| -> Result<(bool, Option<Bearer>)> {
            Ok((store::is_as_read(conn, row).await?, store::bearer(conn, mark, roles).await?))
        })
        .await?;
    if !stands {
        return Ok(None);
    }
    let found = found.ok_or(Error::TokenInvalid("nobody here"))?;
    if !found.active {
        return Err(Error::TokenRevoked);
    }
    let access = Access {
        roles: found.roles,
        permissions: rules::effective(found.permissions, &row.ceiling),
        password_change_required: found.password_change_required,
    };
    let bearer = ForeignBearer { issuer: row.id, user: found.id };
    Ok(Some(Verdict { read_at, bearer, access: Arc::new(access), expires }))
}
