//! What is remembered of an effect: a row of the tenant's database, and the lock on its key meanwhile.

use std::time::Duration;

use actix_web::http::StatusCode;
use chrono::{DateTime, TimeDelta, Utc};
use diesel::sql_types::{BigInt, Bool, Timestamptz};
use diesel::{
    ExpressionMethods as _, OptionalExtension as _, QueryDsl as _, Queryable, Selectable, SelectableHelper as _,
};
use diesel_async::RunQueryDsl as _;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Answer, Keyed, Memory};
use crate::error::{ApiError, ApiResult, Code};
use crate::kernel::crypto::sha256;
use crate::router::TenantTx;

/// How long an answer is kept.
const KEPT: TimeDelta = TimeDelta::hours(24);

diesel::table! {
    idempotency_records (scope, key) {
        scope -> Text,
        key -> Text,
        fingerprint -> Bytea,
        status -> Int4,
        headers -> Jsonb,
        body -> Nullable<Jsonb>,
        created_at -> Timestamptz,
        expires_at -> Timestamptz,
    }
}

#[derive(Serialize, Deserialize)]
struct KeptHeaders {
    location: Option<String>,
    version: Option<i64>,
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = idempotency_records)]
pub(super) struct Record {
    fingerprint: Vec<u8>,
    status: i32,
    headers: Value,
    body: Option<Value>,
    expires_at: DateTime<Utc>,
}

impl Record {
    /// Whether what was kept is all that was answered. Whatever is made is answered with what it is.
    pub(super) fn is_whole(&self) -> bool {
        self.body.is_some() || self.status != i32::from(StatusCode::CREATED.as_u16())
    }

    /// The answer that was kept.
    pub(super) fn answer(self) -> ApiResult<Answer<Value>> {
        let KeptHeaders { location, version } = serde_json::from_value(self.headers).map_err(ApiError::internal)?;
        let status = u16::try_from(self.status).ok().and_then(|s| StatusCode::from_u16(s).ok());
        let status = status.ok_or_else(|| ApiError::internal("a kept answer has no status"))?;
        Ok(Answer { status, location, version, data: self.body })
    }
}

/// Everything about one request that names its effect.
pub(super) struct Claim {
    pub(super) scope: String,
    pub(super) keyed: Keyed,
    pub(super) now: DateTime<Utc>,
}

impl Claim {
    /// Holds the key until the transaction ends, and finds what it did before.
    pub(super) async fn take(&self, conn: &mut TenantTx) -> ApiResult<Option<Record>> {
        let Keyed { key, fingerprint } = &self.keyed;
        let digest = sha256(format!("{}\n{key}", self.scope).as_bytes());
        let mut lock = [0; 8];
        lock.copy_from_slice(&digest[..8]);
        let lock =
            diesel::dsl::sql::<Bool>("pg_try_advisory_xact_lock(").bind::<BigInt, _>(i64::from_be_bytes(lock)).sql(")");
        if !diesel::select(lock).get_result::<bool>(conn).await? {
            return Err(ApiError::new(Code::IdempotencyInProgress).retry_after(Duration::from_secs(1)));
        }
        let mine = idempotency_records::table.find((&self.scope, key));
        let Some(record) = mine.select(Record::as_select()).first(conn).await.optional()? else { return Ok(None) };
        if record.expires_at <= self.now {
            diesel::delete(mine).execute(conn).await?;
            return Ok(None);
        }
        if record.fingerprint != *fingerprint {
            return Err(ApiError::new(Code::IdempotencyKeyReused));
        }
        Ok(Some(record))
    }

    /// Forgets some that nobody came back for. Those that somebody else is at are left to them: nobody waits here.
    async fn sweep(&self, conn: &mut TenantTx) -> ApiResult<()> {
        diesel::sql_query(
            "DELETE FROM idempotency_records WHERE (scope, key) IN (SELECT scope, key FROM idempotency_records \
             WHERE expires_at <= $1 ORDER BY expires_at LIMIT 100 FOR UPDATE SKIP LOCKED)",
        )
        .bind::<Timestamptz, _>(self.now)
        .execute(conn)
        .await?;
        Ok(())
    }

    /// Remembers what came of it.
    pub(super) async fn keep(&self, conn: &mut TenantTx, answer: &Answer<Value>, memory: Memory) -> ApiResult<()> {
        use idempotency_records as r;
        self.sweep(conn).await?;
        let headers = KeptHeaders { location: answer.location.clone(), version: answer.version };
        let mut body = answer.data.clone().filter(|_| memory != Memory::Head);
        if let (Memory::Without(secret), Some(Value::Object(members))) = (memory, &mut body) {
            members.remove(secret);
        }
        diesel::insert_into(r::table)
            .values((
                r::scope.eq(&self.scope),
                r::key.eq(&self.keyed.key),
                r::fingerprint.eq(&self.keyed.fingerprint),
                r::status.eq(i32::from(answer.status.as_u16())),
                r::headers.eq(serde_json::to_value(headers).map_err(ApiError::internal)?),
                r::body.eq(body),
                r::created_at.eq(self.now),
                r::expires_at.eq(self.now + KEPT),
            ))
            .execute(conn)
            .await?;
        Ok(())
    }
}
