//! Effects on the control plane that come with an `Idempotency-Key`: done once, however often they are asked for.

use std::sync::Arc;
use std::time::Duration;

use actix_web::HttpResponse;
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use uuid::Uuid;

use super::Fleet;
use super::lock::Lock;
use crate::control::requests::{self, Begun, Kept};
use crate::error::{ApiError, ApiResult, Code};
use crate::kernel::{OperatorId, request};
use crate::rest::{Answer, Idempotency, Keyed};
use crate::router::MainConn;

/// How long a request with a key waits while as many are worked on as may be.
const PATIENCE: Duration = Duration::from_secs(5);

/// The longest scope that is kept. What is longer names nothing that there is.
const LONGEST: usize = 1000;

/// What is to be done with a request.
pub(super) enum Turn {
    /// The effect; and what its answer is kept under, if the request has a key.
    Do(Claim),
    /// It was done: this was the answer.
    Repeat(Kept),
}

/// How far the same request came before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Before {
    /// It is new.
    Nothing,
    /// It was begun. Perhaps it was done, but no answer was kept.
    Begun,
    /// It was answered.
    Answered,
}

/// The right to do what a request asks for, and the memory of it.
pub(super) struct Claim {
    /// The request. One that a crash interrupted is the same when it is sent again.
    pub(super) id: Uuid,
    before: Before,
    /// Nobody else works on it meanwhile; absent where the request has no key.
    lock: Option<Box<(Lock, OwnedSemaphorePermit)>>,
}

impl Claim {
    /// The request, if the same may be sent again.
    pub(super) fn request(&self) -> Option<Uuid> {
        self.lock.is_some().then_some(self.id)
    }
}

impl Fleet {
    /// Does what an operator asks for, once per key, and answers. It goes on if the caller goes away, and its answer is
    /// kept: there are to be no secrets in it.
    ///
    /// # Errors
    /// 409 `idempotency_in_progress`, 422 `idempotency_key_reused`, or what the effect gives.
    pub(super) async fn once<T, F>(
        &self,
        who: OperatorId,
        idempotency: Idempotency,
        effect: F,
    ) -> ApiResult<HttpResponse>
    where
        T: Serialize + 'static,
        F: AsyncFnOnce(Self) -> ApiResult<Answer<T>> + 'static,
    {
        self.once_known(who, idempotency, async move |fleet: Self, _: Uuid| effect(fleet).await).await
    }

    /// As [`Self::once`], for what makes something: the effect is told the request's id, which is the same when a request
    /// whose answer was not kept is sent again, and gives what it has made under that id before.
    ///
    /// # Errors
    /// As [`Self::once`].
    pub(super) async fn once_known<T, F>(
        &self,
        who: OperatorId,
        idempotency: Idempotency,
        effect: F,
    ) -> ApiResult<HttpResponse>
    where
        T: Serialize + 'static,
        F: AsyncFnOnce(Self, Uuid) -> ApiResult<Answer<T>> + 'static,
    {
        self.once_told(who, idempotency, async move |fleet: Self, id: Uuid, _: Before| effect(fleet, id).await).await
    }

    /// As [`Self::once_known`], for what leaves no trace of the request: the effect is told as well whether it was begun before.
    ///
    /// # Errors
    /// As [`Self::once`].
    pub(super) async fn once_told<T, F>(
        &self,
        who: OperatorId,
        idempotency: Idempotency,
        effect: F,
    ) -> ApiResult<HttpResponse>
    where
        T: Serialize + 'static,
        F: AsyncFnOnce(Self, Uuid, Before) -> ApiResult<Answer<T>> + 'static,
    {
        let claim = match self.turn_of(who, &idempotency).await? {
            Turn::Do(claim) => claim,
            Turn::Repeat(Kept { status, location, version, body }) => {
                return idempotency.respond(Answer::again(status, location, version, body)?, true);
            }
        };
        let fleet = self.clone();
        let doing = actix_web::rt::spawn(request::carried(async move {
            let done = effect(fleet.clone(), claim.id, claim.before).await;
            fleet.settle(claim, done, |answer| serde_json::to_value(answer.data()?).ok()).await
        }));
        idempotency.respond(doing.await.map_err(ApiError::internal)??, false)
    }

    /// As [`Self::once`], for an answer with secrets: its head alone is kept, and the effect is asked for a fresh one when the
    /// same request is sent again. It is told how far that came before.
    ///
    /// # Errors
    /// As [`Self::once`].
    pub(super) async fn once_secret<T, F>(
        &self,
        who: OperatorId,
        idempotency: Idempotency,
        effect: F,
    ) -> ApiResult<HttpResponse>
    where
        T: Serialize + 'static,
        F: AsyncFnOnce(Before) -> ApiResult<Answer<T>> + 'static,
    {
        let claim = match self.turn_of(who, &idempotency).await? {
            Turn::Do(claim) => claim,
            Turn::Repeat(_) => return idempotency.respond(effect(Before::Answered).await?, true),
        };
        let fleet = self.clone();
        let doing = actix_web::rt::spawn(request::carried(async move {
            let done = effect(claim.before).await;
            fleet.settle(claim, done, |_| None).await
        }));
        idempotency.respond(doing.await.map_err(ApiError::internal)??, false)
    }

    /// Looks up what an operator's request did before.
    async fn turn_of(&self, who: OperatorId, idempotency: &Idempotency) -> ApiResult<Turn> {
        let scope = idempotency.scope(&who.to_string());
        if scope.len() > LONGEST {
            return Err(ApiError::new(Code::NotFound));
        }
        let keyed = idempotency.keyed(&self.installation().await?.mac);
        self.turn(&scope, keyed).await
    }

    /// Looks up what a request's key did before. `scope` says whose keys these are, and for what.
    ///
    /// # Errors
    /// 409 `idempotency_in_progress`, 422 `idempotency_key_reused`.
    pub(super) async fn turn(&self, scope: &str, keyed: Option<Keyed>) -> ApiResult<Turn> {
        let Some(keyed) = keyed else {
            return Ok(Turn::Do(Claim { id: Uuid::now_v7(), before: Before::Nothing, lock: None }));
        };
        let place = place(&self.keyed, PATIENCE).await?;
        let name = format!("request {scope}\n{}", keyed.key);
        let Some(lock) = Lock::named(&self.locks, &self.control, &name).await? else {
            return Err(ApiError::new(Code::IdempotencyInProgress).retry_after(Duration::from_secs(1)));
        };
        let (scope, now) = (scope.to_owned(), self.control.clock.now());
        let db = &self.control.db;
        let begun =
            db.transaction(async move |conn: &mut MainConn| requests::begin(conn, &scope, &keyed, now).await).await?;
        let (id, before) = match begun {
            Begun::New(id) => (id, Before::Nothing),
            Begun::Open(id) => (id, Before::Begun),
            Begun::Answered(kept) => {
                lock.release().await;
                return Ok(Turn::Repeat(kept));
            }
        };
        Ok(Turn::Do(Claim { id, before, lock: Some(Box::new((lock, place))) }))
    }

    /// Keeps what came of a claim: the head of its answer, and `body` if there are no secrets in it. An error leaves
    /// nothing behind. Whoever has heard the answer and asks again is not told that it is still worked on.
    pub(super) async fn settle<T>(
        &self,
        claim: Claim,
        done: ApiResult<Answer<T>>,
        body: impl FnOnce(&Answer<T>) -> Option<serde_json::Value>,
    ) -> ApiResult<Answer<T>> {
        let Claim { id, before, lock: Some(held) } = claim else { return done };
        let (lock, _place) = *held;
        let db = &self.control.db;
        match &done {
            Ok(answer) => {
                let (status, location, version) = answer.head();
                let kept = Kept { status, location: location.map(str::to_owned), version, body: body(answer) };
                db.read(async move |conn: &mut MainConn| requests::keep(conn, id, &kept).await).await?;
            }
            // Perhaps half done, or somebody is still at it: the same request goes on with it.
            Err(error) if error.code().status() >= 500 || super::lock::is_busy(error) => {}
            // What came before may have been done: being put off says nothing of it.
            Err(error) if before == Before::Begun && error.code().status() == 429 => {}
            Err(_) => {
                if let Err(error) = db.read(async move |conn: &mut MainConn| requests::forget(conn, id).await).await {
                    tracing::warn!(%error, "a request that failed could not be forgotten; it is gone on with when repeated");
                }
            }
        }
        lock.release().await;
        done
    }
}

/// A place among the requests that are worked on: nobody waits for one for ever.
async fn place(places: &Arc<Semaphore>, patience: Duration) -> ApiResult<OwnedSemaphorePermit> {
    let got = timeout(patience, places.clone().acquire_owned()).await;
    got.map_err(|_| ApiError::new(Code::Overloaded))?.map_err(ApiError::internal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_request_that_finds_no_place_is_told_so() {
        let places = Arc::new(Semaphore::new(1));
        let held = place(&places, PATIENCE).await.expect("a place");
        let refused = place(&places, Duration::from_millis(1)).await.expect_err("none is left");
        assert_eq!(refused.code(), Code::Overloaded);
        drop(held);
        drop(place(&places, PATIENCE).await.expect("it is free again"));
    }
}
