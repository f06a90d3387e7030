//! `Idempotency-Key`: the effect and the memory of it in one transaction of the tenant's database.

use actix_web::dev::Payload;
use actix_web::http::StatusCode;
use actix_web::http::header::{ETAG, LOCATION};
use actix_web::{FromRequest, HttpMessage, HttpRequest, HttpResponse};
use chrono::{DateTime, TimeDelta, Utc};
use diesel::sql_types::{BigInt, Bool};
use diesel::{
    ExpressionMethods as _, OptionalExtension as _, QueryDsl as _, Queryable, Selectable, SelectableHelper as _,
};
use diesel_async::RunQueryDsl as _;
use futures_util::future::{FutureExt as _, LocalBoxFuture};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::body::BodyDigest;
use super::envelope::{Envelope, RequestId};
use super::etag::{Versioned, tag};
use super::gate::Gate;
use crate::error::{ApiError, ApiResult, Code};
use crate::kernel::crypto::{MacKey, sha256};
use crate::router::{TenantDb, TenantTx, Work};

const HEADER: &str = "idempotency-key";
const REPLAYED: &str = "idempotency-replayed";
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

/// What an effect answers, in a form that can be kept and given again.
#[derive(Debug)]
pub struct Answer<T> {
    status: StatusCode,
    location: Option<String>,
    version: Option<i64>,
    data: Option<T>,
}

impl<T> Answer<T> {
    /// 200 with `data`.
    pub const fn ok(data: T) -> Self {
        Self { status: StatusCode::OK, location: None, version: None, data: Some(data) }
    }

    /// 201 with what was made.
    pub fn created(data: T) -> Self {
        Self { status: StatusCode::CREATED, ..Self::ok(data) }
    }

    /// 202 with what is under way.
    pub fn accepted(data: T) -> Self {
        Self { status: StatusCode::ACCEPTED, ..Self::ok(data) }
    }

    /// 204.
    #[must_use]
    pub const fn no_content() -> Self {
        Self { status: StatusCode::NO_CONTENT, location: None, version: None, data: None }
    }

    /// The path of `Location`.
    #[must_use]
    pub fn location(mut self, location: impl Into<String>) -> Self {
        self.location = Some(location.into());
        self
    }

    /// 200 with `data` and its version.
    pub fn tagged(data: T) -> Self
    where
        T: Versioned,
    {
        let version = data.version();
        Self::ok(data).etag(version)
    }

    /// The version, for `ETag`.
    #[must_use]
    pub const fn etag(mut self, version: i64) -> Self {
        self.version = Some(version);
        self
    }
}

/// Whether an effect with secrets in its answer is run for the first time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replay {
    /// For the first time.
    First,
    /// The effect was done before; its answer was not kept, so give a fresh one for what is there now.
    Again,
}

#[derive(Serialize, Deserialize)]
struct KeptHeaders {
    location: Option<String>,
    version: Option<i64>,
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = idempotency_records)]
struct Record {
    fingerprint: Vec<u8>,
    status: i32,
    headers: Value,
    body: Option<Value>,
    expires_at: DateTime<Utc>,
}

/// Everything about one request that names its effect.
struct Claim {
    scope: String,
    key: String,
    fingerprint: Vec<u8>,
    now: DateTime<Utc>,
}

impl Claim {
    /// Holds the key until the transaction ends, and finds what it did before.
    async fn take(&self, conn: &mut TenantTx) -> ApiResult<Option<Record>> {
        let digest = sha256(format!("{}\n{}", self.scope, self.key).as_bytes());
        let mut lock = [0; 8];
        lock.copy_from_slice(&digest[..8]);
        let lock =
            diesel::dsl::sql::<Bool>("pg_try_advisory_xact_lock(").bind::<BigInt, _>(i64::from_be_bytes(lock)).sql(")");
        if !diesel::select(lock).get_result::<bool>(conn).await? {
            return Err(ApiError::new(Code::IdempotencyInProgress).retry_after(std::time::Duration::from_secs(1)));
        }
        let mine = idempotency_records::table.find((&self.scope, &self.key));
        let Some(record) = mine.select(Record::as_select()).first(conn).await.optional()? else { return Ok(None) };
        if record.expires_at <= self.now {
            diesel::delete(mine).execute(conn).await?;
            return Ok(None);
        }
        if record.fingerprint != self.fingerprint {
            return Err(ApiError::new(Code::IdempotencyKeyReused));
        }
        Ok(Some(record))
    }

    async fn keep(&self, conn: &mut TenantTx, answer: &Answer<Value>, body: Option<&Value>) -> ApiResult<()> {
        use idempotency_records as r;
        let headers = KeptHeaders { location: answer.location.clone(), version: answer.version };
        diesel::insert_into(r::table)
            .values((
                r::scope.eq(&self.scope),
                r::key.eq(&self.key),
                r::fingerprint.eq(&self.fingerprint),
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

impl Answer<Value> {
    fn of<T: Serialize>(answer: Answer<T>) -> ApiResult<Self> {
        let Answer { status, location, version, data } = answer;
        let data = data.map(|data| serde_json::to_value(data)).transpose().map_err(ApiError::internal)?;
        Ok(Self { status, location, version, data })
    }

    fn kept(record: Record) -> ApiResult<Self> {
        let headers: KeptHeaders = serde_json::from_value(record.headers).map_err(ApiError::internal)?;
        let status = u16::try_from(record.status).ok().and_then(|s| StatusCode::from_u16(s).ok());
        let status = status.ok_or_else(|| ApiError::internal("a kept answer has no status"))?;
        Ok(Self { status, location: headers.location, version: headers.version, data: record.body })
    }

    fn respond(self, request: &HttpRequest, replayed: bool) -> HttpResponse {
        let mut builder = HttpResponse::build(self.status);
        if let Some(location) = self.location {
            builder.insert_header((LOCATION, location));
        }
        if let Some(version) = self.version {
            builder.insert_header((ETAG, tag(version)));
        }
        if replayed {
            builder.insert_header((REPLAYED, "true"));
        }
        match self.data {
            Some(data) => Envelope::respond(RequestId::of(request), &mut builder, data),
            None => builder.finish(),
        }
    }
}

/// The `Idempotency-Key` of a request, if it has one. Every POST with an effect runs it through here.
#[derive(Debug)]
pub struct Idempotency {
    request: HttpRequest,
    key: Option<String>,
}

impl Idempotency {
    /// Runs an effect once per key, in one transaction with the memory of its answer. Without a key it simply runs.
    /// `actor` is whose keys these are: the caller's id.
    ///
    /// # Errors
    /// 409 `idempotency_in_progress`, 422 `idempotency_key_reused`, or what the effect gives; nothing is kept then.
    pub async fn run<T, F>(self, db: &TenantDb, actor: &str, effect: F) -> ApiResult<HttpResponse>
    where
        T: Serialize + Send,
        F: for<'c> AsyncFnOnce(&'c mut TenantTx) -> ApiResult<Answer<T>>
            + for<'c> Work<&'c mut TenantTx, ApiResult<Answer<T>>, Fut: Send>
            + Send,
    {
        let claim = self.claim(db, actor);
        let (answer, replayed) = db
            .transaction(async move |conn: &mut TenantTx| -> ApiResult<(Answer<Value>, bool)> {
                let Some(claim) = claim else { return Ok((Answer::of(effect(conn).await?)?, false)) };
                if let Some(record) = claim.take(conn).await? {
                    return Ok((Answer::kept(record)?, true));
                }
                let answer = Answer::of(effect(conn).await?)?;
                claim.keep(conn, &answer, answer.data.as_ref()).await?;
                Ok((answer, false))
            })
            .await?;
        Ok(answer.respond(&self.request, replayed))
    }

    /// As [`Self::run`], for an effect that may refuse and leave something behind, as a counted guess: with an inner error
    /// the transaction is committed, and no answer is kept.
    ///
    /// # Errors
    /// As [`Self::run`], and the inner error.
    pub async fn run_or_refuse<T, F>(self, db: &TenantDb, actor: &str, effect: F) -> ApiResult<HttpResponse>
    where
        T: Serialize + Send,
        F: for<'c> AsyncFnOnce(&'c mut TenantTx) -> ApiResult<ApiResult<Answer<T>>>
            + for<'c> Work<&'c mut TenantTx, ApiResult<ApiResult<Answer<T>>>, Fut: Send>
            + Send,
    {
        let claim = self.claim(db, actor);
        let (answer, replayed) = db
            .transaction(async move |conn: &mut TenantTx| -> ApiResult<ApiResult<(Answer<Value>, bool)>> {
                if let Some(claim) = &claim
                    && let Some(record) = claim.take(conn).await?
                {
                    return Ok(Ok((Answer::kept(record)?, true)));
                }
                let answer = match effect(conn).await? {
                    Ok(answer) => Answer::of(answer)?,
                    Err(refused) => return Ok(Err(refused)),
                };
                if let Some(claim) = claim {
                    claim.keep(conn, &answer, answer.data.as_ref()).await?;
                }
                Ok(Ok((answer, false)))
            })
            .await??;
        Ok(answer.respond(&self.request, replayed))
    }

    /// As [`Self::run`], for answers that carry a token or a password: no body is kept, and on a replay the effect is
    /// asked for a fresh answer.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub async fn run_secret<T, F>(self, db: &TenantDb, actor: &str, effect: F) -> ApiResult<HttpResponse>
    where
        T: Serialize + Send,
        F: for<'c> AsyncFnOnce((&'c mut TenantTx, Replay)) -> ApiResult<Answer<T>>
            + for<'c> Work<(&'c mut TenantTx, Replay), ApiResult<Answer<T>>, Fut: Send>
            + Send,
    {
        let claim = self.claim(db, actor);
        let (answer, replayed) = db
            .transaction(async move |conn: &mut TenantTx| -> ApiResult<(Answer<Value>, bool)> {
                let Some(claim) = claim else { return Ok((Answer::of(effect((conn, Replay::First)).await?)?, false)) };
                if claim.take(conn).await?.is_some() {
                    return Ok((Answer::of(effect((conn, Replay::Again)).await?)?, true));
                }
                let answer = Answer::of(effect((&mut *conn, Replay::First)).await?)?;
                claim.keep(conn, &answer, None).await?;
                Ok((answer, false))
            })
            .await?;
        Ok(answer.respond(&self.request, replayed))
    }

    /// As [`Self::run_secret`], for effects that can be refused: what a refusal has counted stays, and no answer of it is kept.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub async fn run_judged<T, F>(self, db: &TenantDb, actor: &str, effect: F) -> ApiResult<HttpResponse>
    where
        T: Serialize + Send,
        F: for<'c> AsyncFnOnce((&'c mut TenantTx, Replay)) -> ApiResult<ApiResult<Answer<T>>>
            + for<'c> Work<(&'c mut TenantTx, Replay), ApiResult<ApiResult<Answer<T>>>, Fut: Send>
            + Send,
    {
        let claim = self.claim(db, actor);
        let judged = db
            .transaction(async move |conn: &mut TenantTx| -> ApiResult<ApiResult<(Answer<Value>, bool)>> {
                let known = match &claim {
                    Some(claim) => claim.take(conn).await?.is_some(),
                    None => false,
                };
                let replay = if known { Replay::Again } else { Replay::First };
                let answer = match effect((&mut *conn, replay)).await? {
                    Ok(answer) => Answer::of(answer)?,
                    Err(refused) => return Ok(Err(refused)),
                };
                if let Some(claim) = claim.filter(|_| !known) {
                    claim.keep(conn, &answer, None).await?;
                }
                Ok(Ok((answer, known)))
            })
            .await?;
        let (answer, replayed) = judged?;
        Ok(answer.respond(&self.request, replayed))
    }

    fn claim(&self, db: &TenantDb, actor: &str) -> Option<Claim> {
        let key = self.key.clone()?;
        let router = db.router();
        let body = self.request.extensions().get::<BodyDigest>().map(|digest| digest.0);
        Some(Claim {
            scope: self.scope(actor),
            key,
            fingerprint: fingerprint(&router.installation().mac, body),
            now: router.config().clock.now(),
        })
    }
}

/// Keyed, so that a stolen table does not serve to try passwords out against.
fn fingerprint(mac: &MacKey, body: Option<[u8; 32]>) -> Vec<u8> {
    let body = body.unwrap_or_else(|| sha256(b""));
    mac.digest("idempotency", &[&body]).to_vec()
}

fn read_key(request: &HttpRequest) -> ApiResult<Option<String>> {
    let mut values = request.headers().get_all(HEADER);
    let Some(value) = values.next() else { return Ok(None) };
    let text = value.to_str().ok().filter(|text| (1..=255).contains(&text.len()));
    let printable = text.filter(|text| text.bytes().all(|b| (b' '..=b'~').contains(&b)));
    match printable {
        Some(text) if values.next().is_none() => Ok(Some(text.to_owned())),
        _ => Err(ApiError::new(Code::MalformedRequest)
            .detail("Idempotency-Key is one value of 1 to 255 printable ASCII characters.")),
    }
}

/// A request's key and what tells its body from others, for effects that are remembered elsewhere than in a tenant's
/// database.
#[derive(Debug, Clone)]
pub struct Keyed {
    /// `Idempotency-Key`.
    pub key: String,
    /// Keyed digest of the body.
    pub fingerprint: Vec<u8>,
}

impl Idempotency {
    /// What its key counts for: one effect of one caller.
    #[must_use]
    pub fn scope(&self, actor: &str) -> String {
        format!("{} {} {actor}", self.request.method(), self.request.path())
    }

    /// The key of the request, if it has one.
    #[must_use]
    pub fn keyed(&self, mac: &MacKey) -> Option<Keyed> {
        let body = self.request.extensions().get::<BodyDigest>().map(|digest| digest.0);
        Some(Keyed { key: self.key.clone()?, fingerprint: fingerprint(mac, body) })
    }

    /// Answers the request.
    ///
    /// # Errors
    /// If `answer` cannot be written as JSON.
    pub fn respond<T: Serialize>(&self, answer: Answer<T>, replayed: bool) -> ApiResult<HttpResponse> {
        Ok(Answer::of(answer)?.respond(&self.request, replayed))
    }
}

impl<T> Answer<T> {
    /// What it holds.
    #[must_use]
    pub const fn data(&self) -> Option<&T> {
        self.data.as_ref()
    }

    /// Its status, `Location` and version.
    #[must_use]
    pub fn head(&self) -> (u16, Option<&str>, Option<i64>) {
        (self.status.as_u16(), self.location.as_deref(), self.version)
    }

    /// An answer that was given before.
    ///
    /// # Errors
    /// If `status` is none.
    pub fn again(status: u16, location: Option<String>, version: Option<i64>, data: Option<T>) -> ApiResult<Self> {
        let status = StatusCode::from_u16(status).map_err(ApiError::internal)?;
        Ok(Self { status, location, version, data })
    }
}

impl FromRequest for Idempotency {
    type Error = ApiError;
    type Future = LocalBoxFuture<'static, ApiResult<Self>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let request = request.clone();
        async move {
            Gate::pass(&request).await;
            read_key(&request).map(|key| Self { request, key })
        }
        .boxed_local()
    }
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn keys_are_short_and_printable() {
        let key = |value: &str| read_key(&TestRequest::post().insert_header((HEADER, value)).to_http_request());
        assert_eq!(key("a b-1").unwrap().as_deref(), Some("a b-1"));
        assert_eq!(read_key(&TestRequest::post().to_http_request()).unwrap(), None);
        for bad in ["", "ä", &"x".repeat(256)] {
            assert_eq!(key(bad).unwrap_err().code(), Code::MalformedRequest);
        }
    }

    #[test]
    fn fingerprints_are_keyed() {
        let (one, two) = (MacKey::new(b"one"), MacKey::new(b"two"));
        assert_eq!(fingerprint(&one, None), fingerprint(&one, Some(sha256(b""))));
        assert_ne!(fingerprint(&one, None), fingerprint(&two, None));
    }
}
