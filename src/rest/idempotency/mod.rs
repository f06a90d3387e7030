//! `Idempotency-Key`: the effect and the memory of it in one transaction of the tenant's database.
//!
//! `key.rs` reads the header, `record.rs` is the memory, `answer.rs` what is remembered.

mod answer;
mod key;
mod record;

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpMessage, HttpRequest, HttpResponse};
use futures_util::future::{FutureExt as _, LocalBoxFuture};
use serde::Serialize;
use serde_json::Value;

pub use self::answer::{Answer, Outcome};
pub use self::key::Keyed;
use self::record::{Claim, Record};
use super::body::BodyDigest;
use super::gate::Gate;
use crate::error::{ApiError, ApiResult};
use crate::kernel::crypto::MacKey;
use crate::router::{TenantDb, TenantTx, Work};

/// Whether an effect with secrets in its answer is run for the first time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replay {
    /// For the first time.
    First,
    /// The effect was done before; its answer was not kept, so give a fresh one for what is there now.
    Again,
}

/// What holds a secret that is shown once, and kept nowhere.
pub trait ShownOnce: Serialize {
    /// The member that holds it.
    const SECRET: &'static str;
}

/// How much of an answer is remembered.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Memory {
    /// All of it: it is given again.
    Whole,
    /// All but this member: what is left is given again.
    Without(&'static str),
    /// That there was one: the effect is asked for another.
    Head,
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
    pub async fn run<O, F>(self, db: &TenantDb, actor: &str, effect: F) -> ApiResult<HttpResponse>
    where
        O: Outcome,
        F: for<'c> AsyncFnOnce(&'c mut TenantTx) -> ApiResult<O>
            + for<'c> Work<&'c mut TenantTx, ApiResult<O>, Fut: Send>
            + Send,
    {
        let effect = async move |(conn, _): (&mut TenantTx, Replay)| -> ApiResult<O> { effect(conn).await };
        self.once(db, actor, Memory::Whole, effect).await
    }

    /// As [`Self::run`], for answers with a secret that is shown once: a replay tells the same without it.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub async fn run_shown_once<O, F>(self, db: &TenantDb, actor: &str, effect: F) -> ApiResult<HttpResponse>
    where
        O: Outcome<Data: ShownOnce>,
        F: for<'c> AsyncFnOnce(&'c mut TenantTx) -> ApiResult<O>
            + for<'c> Work<&'c mut TenantTx, ApiResult<O>, Fut: Send>
            + Send,
    {
        let effect = async move |(conn, _): (&mut TenantTx, Replay)| -> ApiResult<O> { effect(conn).await };
        self.once(db, actor, Memory::Without(O::Data::SECRET), effect).await
    }

    /// As [`Self::run`], for answers that carry a token or a password: no body is kept, and on a replay the effect is
    /// asked for a fresh answer.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub async fn run_secret<O, F>(self, db: &TenantDb, actor: &str, effect: F) -> ApiResult<HttpResponse>
    where
        O: Outcome,
        F: for<'c> AsyncFnOnce((&'c mut TenantTx, Replay)) -> ApiResult<O>
            + for<'c> Work<(&'c mut TenantTx, Replay), ApiResult<O>, Fut: Send>
            + Send,
    {
        self.once(db, actor, Memory::Head, effect).await
    }

    async fn once<O, F>(self, db: &TenantDb, actor: &str, memory: Memory, effect: F) -> ApiResult<HttpResponse>
    where
        O: Outcome,
        F: for<'c> AsyncFnOnce((&'c mut TenantTx, Replay)) -> ApiResult<O>
            + for<'c> Work<(&'c mut TenantTx, Replay), ApiResult<O>, Fut: Send>
            + Send,
    {
        let claim = self.claim(db, actor);
        let judged = db
            .transaction(async move |conn: &mut TenantTx| -> ApiResult<ApiResult<(Answer<Value>, Replay)>> {
                let before = match &claim {
                    Some(claim) => claim.take(conn).await?,
                    None => None,
                };
                let replay = match before {
                    // What an earlier release remembered of a request that is remembered whole since is its head alone.
                    Some(record) if memory != Memory::Head && !record.is_whole() => return Err(made_before()),
                    Some(record) if memory != Memory::Head => return Ok(Ok((record.answer()?, Replay::Again))),
                    Some(_) => Replay::Again,
                    None => Replay::First,
                };
                // A refusal is an outcome, not an error: what it leaves behind is committed.
                let answer = match effect((&mut *conn, replay)).await?.judged() {
                    Ok(answer) => answer.written()?,
                    Err(refused) => return Ok(Err(refused)),
                };
                if let (Some(claim), Replay::First) = (&claim, replay) {
                    claim.keep(conn, &answer, memory).await?;
                }
                Ok(Ok((answer, replay)))
            })
            .await?;
        let (answer, replay) = judged?;
        Ok(answer.respond(&self.request, replay == Replay::Again))
    }

    /// What the same request was answered before, for an effect that begins outside of its transaction: asked before it
    /// begins. The transaction then is [`Self::run`]'s.
    ///
    /// # Errors
    /// 409 `idempotency_in_progress`, 422 `idempotency_key_reused`.
    pub async fn replayed(&self, db: &TenantDb, actor: &str) -> ApiResult<Option<HttpResponse>> {
        let Some(claim) = self.claim(db, actor) else { return Ok(None) };
        let before = db
            .transaction(async move |conn: &mut TenantTx| -> ApiResult<Option<Record>> { claim.take(conn).await })
            .await?;
        let Some(record) = before else { return Ok(None) };
        Ok(Some(record.answer()?.respond(&self.request, true)))
    }

    /// Answers a request that is remembered elsewhere than in a tenant's database.
    ///
    /// # Errors
    /// If `answer` cannot be written as JSON.
    pub fn respond<T: Serialize>(&self, answer: Answer<T>, replayed: bool) -> ApiResult<HttpResponse> {
        Ok(answer.written()?.respond(&self.request, replayed))
    }

    /// What its key counts for: one effect of one caller.
    #[must_use]
    pub fn scope(&self, actor: &str) -> String {
        format!("{} {} {actor}", self.request.method(), self.request.match_info().as_str())
    }

    /// The key of the request, if it has one.
    #[must_use]
    pub fn keyed(&self, mac: &MacKey) -> Option<Keyed> {
        let key = self.key.clone()?;
        let body = self.request.extensions().get::<BodyDigest>().map(|digest| digest.0);
        Some(Keyed { key, fingerprint: key::fingerprint(mac, body) })
    }

    fn claim(&self, db: &TenantDb, actor: &str) -> Option<Claim> {
        let router = db.router();
        Some(Claim {
            scope: self.scope(actor),
            keyed: self.keyed(&router.installation().mac)?,
            now: router.config().clock.now(),
        })
    }
}

impl FromRequest for Idempotency {
    type Error = ApiError;
    type Future = LocalBoxFuture<'static, ApiResult<Self>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let request = request.clone();
        async move {
            Gate::pass(&request).await;
            key::read(&request).map(|key| Self { request, key })
        }
        .boxed_local()
    }
}
/// Nothing is made twice under one key.
fn made_before() -> ApiError {
    ApiError::already_exists("Idempotency-Key", "It was made before, and the answer was not kept: look for it.")
}
