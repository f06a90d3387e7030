//! Rows and queries.

use chrono::{DateTime, TimeDelta, Utc};
use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use crate::control::schema::request_records as r;
use crate::error::{ApiError, ApiResult, Code};
use crate::rest::Keyed;
use crate::router::MainConn;

/// How long an answer is kept.
const KEPT: TimeDelta = TimeDelta::hours(24);

/// An answer that was given before.
#[derive(Debug, Clone)]
pub struct Kept {
    /// HTTP status.
    pub status: u16,
    /// `Location`.
    pub location: Option<String>,
    /// `ETag`.
    pub version: Option<i64>,
    /// What the answer held, unless it held secrets.
    pub body: Option<serde_json::Value>,
}

/// What is known of a key.
#[derive(Debug)]
pub enum Begun {
    /// The request is new; its identity.
    New(Uuid),
    /// It was begun and has no answer: a crash kept it from its end, say. Its identity.
    Open(Uuid),
    /// It was answered.
    Answered(Kept),
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = r)]
struct Row {
    id: Uuid,
    fingerprint: Vec<u8>,
    status: Option<i32>,
    location: Option<String>,
    version: Option<i64>,
    body: Option<serde_json::Value>,
    expires_at: DateTime<Utc>,
}

/// Finds what a key did before, or enters it. The caller holds the lock of the key.
///
/// # Errors
/// 422 `idempotency_key_reused` if it came with another body.
pub async fn begin(conn: &mut MainConn, scope: &str, keyed: &Keyed, now: DateTime<Utc>) -> ApiResult<Begun> {
    let mine = r::table.filter(r::scope.eq(scope)).filter(r::key.eq(&keyed.key));
    let found: Option<Row> = mine.select(Row::as_select()).first(conn).await.optional()?;
    match found {
        Some(row) if row.expires_at > now => {
            if row.fingerprint != keyed.fingerprint {
                return Err(ApiError::new(Code::IdempotencyKeyReused));
            }
            let Some(status) = row.status else { return Ok(Begun::Open(row.id)) };
            let status = u16::try_from(status).map_err(ApiError::internal)?;
            Ok(Begun::Answered(Kept { status, location: row.location, version: row.version, body: row.body }))
        }
        expired => {
            if let Some(row) = expired {
                forget(conn, row.id).await?;
            }
            let id = Uuid::now_v7();
            diesel::insert_into(r::table)
                .values((
                    r::id.eq(id),
                    r::scope.eq(scope),
                    r::key.eq(&keyed.key),
                    r::fingerprint.eq(&keyed.fingerprint),
                    r::expires_at.eq(now + KEPT),
                ))
                .execute(conn)
                .await?;
            Ok(Begun::New(id))
        }
    }
}

/// Keeps the answer.
///
/// # Errors
/// If the control plane does not answer.
pub async fn keep(conn: &mut MainConn, id: Uuid, answer: &Kept) -> ApiResult<()> {
    diesel::update(r::table.find(id))
        .set((
            r::status.eq(i32::from(answer.status)),
            r::location.eq(&answer.location),
            r::version.eq(answer.version),
            r::body.eq(&answer.body),
        ))
        .execute(conn)
        .await?;
    Ok(())
}

/// Forgets a request: its key may be used again.
///
/// # Errors
/// If the control plane does not answer.
pub async fn forget(conn: &mut MainConn, id: Uuid) -> ApiResult<()> {
    diesel::delete(r::table.find(id)).execute(conn).await?;
    Ok(())
}

/// Forgets what is too old to be asked for again.
///
/// # Errors
/// If the control plane does not answer.
pub async fn trim(conn: &mut MainConn, now: DateTime<Utc>) -> ApiResult<()> {
    diesel::delete(r::table.filter(r::expires_at.le(now))).execute(conn).await?;
    Ok(())
}
