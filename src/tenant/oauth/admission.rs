//! Whether an app's token is good, and what it may do: read in one query, remembered for a moment, as sessions are.

use std::sync::Arc;
use std::time::Instant;

use chrono::{DateTime, Utc};
use diesel::QueryResult;
use diesel::prelude::*;
use diesel::sql_types::{Array, Bool, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use moka::future::Cache;
use moka::policy::EvictionPolicy;
use uuid::Uuid;

use super::{SINCE, scopes};
use crate::kernel::{Clock, OauthClientId, OauthGrantId, TenantId, UserId};
use crate::router::{Access, AccessClaims, AppBearer, Error, Result, TenantConn, TenantDb};
use crate::tenant::api_keys::rules::effective;
use crate::tenant::auth::admission::{REMEMBERED, shared};

const MOST: u64 = 50_000;

/// What was read of a token; nothing, if there is nothing behind it any more.
#[derive(Debug, Clone)]
pub(in crate::tenant) struct Verdict {
    /// Taken before the query began.
    pub read_at: Instant,
    app: Option<(AppBearer, Arc<Access>)>,
}

impl Verdict {
    /// Whose change makes it void: the app's, and the person's.
    pub(in crate::tenant) fn of(&self, claims: &AccessClaims) -> Vec<Uuid> {
        let person = self.app.as_ref().map(|(app, _)| app.user.uuid());
        [claims.client_id.map(OauthClientId::uuid), Some(claims.sub.uuid()), person].into_iter().flatten().collect()
    }
}

/// The tokens that were seen lately.
#[derive(Debug)]
pub(in crate::tenant) struct AppAdmission {
    clock: Clock,
    verdicts: Cache<(TenantId, Uuid), Verdict>,
}

impl AppAdmission {
    pub(in crate::tenant) fn new(clock: Clock) -> Self {
        let lru = EvictionPolicy::lru();
        Self {
            clock,
            verdicts: Cache::builder().max_capacity(MOST).eviction_policy(lru).time_to_live(REMEMBERED).build(),
        }
    }

    /// What is known of a token.
    pub(in crate::tenant) async fn verdict(&self, db: &TenantDb, claims: &AccessClaims) -> Result<Verdict> {
        let db = db.router().at_schema(db.clone(), SINCE).await?;
        let place = (db.tenant().id, claims.jti);
        self.verdicts.try_get_with(place, self.read(&db, claims)).await.map_err(shared)
    }

    /// Forgets it.
    pub(in crate::tenant) async fn forget(&self, tenant: TenantId, claims: &AccessClaims) {
        self.verdicts.invalidate(&(tenant, claims.jti)).await;
    }

    /// Admits whoever has a good one.
    pub(in crate::tenant) fn admit(verdict: Verdict) -> Result<(AppBearer, Arc<Access>)> {
        verdict.app.ok_or(Error::TokenRevoked)
    }

    async fn read(&self, db: &TenantDb, claims: &AccessClaims) -> Result<Verdict> {
        let (read_at, grant) = (Instant::now(), OauthGrantId::from(claims.sid.uuid()));
        let read = async |conn: &mut TenantConn| presented(conn, grant).await.map_err(Error::from);
        let found = db.read(read).await?.filter(|found| found.stands(claims, self.clock.now()));
        let app = found.map(|found| {
            let said = scopes::read(claims.scope.as_deref().unwrap_or_default());
            let given: Vec<String> =
                said.into_iter().filter(|s| found.scopes.contains(s) && found.client_scopes.contains(s)).collect();
            let bearer = AppBearer { client: found.client_id, grant, user: found.person_id };
            let access = Access {
                roles: Vec::new(),
                permissions: effective(&given, &found.permissions),
                password_change_required: found.password_change_required,
            };
            (bearer, Arc::new(access))
        });
        Ok(Verdict { read_at, app })
    }
}

/// What an app was given as it is when it is used, with what the person may do now for whom it acts.
#[derive(Debug, Clone, QueryableByName)]
struct Presented {
    #[diesel(sql_type = SqlUuid)]
    client_id: OauthClientId,
    #[diesel(sql_type = Nullable<SqlUuid>)]
    user_id: Option<UserId>,
    #[diesel(sql_type = SqlUuid)]
    person_id: UserId,
    #[diesel(sql_type = Array<Text>)]
    scopes: Vec<String>,
    #[diesel(sql_type = Array<Text>)]
    client_scopes: Vec<String>,
    #[diesel(sql_type = Timestamptz)]
    expires_at: DateTime<Utc>,
    #[diesel(sql_type = Bool)]
    stands: bool,
    #[diesel(sql_type = Bool)]
    password_change_required: bool,
    #[diesel(sql_type = Array<Text>)]
    permissions: Vec<String>,
}

impl Presented {
    fn stands(&self, claims: &AccessClaims, now: DateTime<Utc>) -> bool {
        let whose = self.user_id.map_or(self.client_id.uuid(), UserId::uuid);
        self.stands && now < self.expires_at && claims.client_id == Some(self.client_id) && claims.sub.uuid() == whose
    }
}

async fn presented(conn: &mut TenantConn, grant: OauthGrantId) -> QueryResult<Option<Presented>> {
    diesel::sql_query(
        "SELECT c.id AS client_id, g.user_id, u.id AS person_id, g.scopes, c.scopes AS client_scopes, g.expires_at, \
         g.revoked_at IS NULL AND c.enabled AND u.status = 'active' \
         AND (g.user_id IS NOT NULL OR 'client_credentials' = ANY (c.grants)) AS stands, u.password_change_required, \
         ARRAY(SELECT p.name FROM permissions p WHERE p.id IN (SELECT rp.permission_id FROM role_permissions rp \
         WHERE rp.role_id IN (SELECT roles_of(u.id)))) AS permissions \
         FROM oauth_grants g JOIN oauth_clients c ON c.id = g.client_id \
         JOIN users u ON u.id = COALESCE(g.user_id, c.owner_id) WHERE g.id = $1",
    )
    .bind::<SqlUuid, _>(grant)
    .get_result(conn)
    .await
    .optional()
}
