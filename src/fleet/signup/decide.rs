//! What an operator says to those who wait.

use chrono::{DateTime, Utc};
use serde_json::json;

use super::{Waiting, Wanted};
use crate::control::operations::{self, Operation, OperationState};
use crate::control::signups::{self, SignUp, SignUpFilter};
use crate::control::tenants::TenantRecord;
use crate::error::{ApiError, ApiResult};
use crate::fleet::lock::{self, Lock};
use crate::fleet::{AdminPassword, FirstAdmin, Fleet, refused};
use crate::kernel::OperationId;
use crate::router::MainConn;

/// How many are refused at a time.
const BATCH: i64 = 200;
const REFUSED: &str = "An operator refused it.";

/// Two operators do not both decide: what the right to do so is called.
fn deciding(id: OperationId) -> String {
    format!("sign-up {id}")
}

impl Fleet {
    /// Sign-ups that wait, the longest waiting first.
    ///
    /// # Errors
    /// If the control plane does not answer.
    pub async fn sign_ups(&self, filter: SignUpFilter) -> ApiResult<Vec<Waiting>> {
        let (keys, db) = (self.control.keys.clone(), &self.control.db);
        let list = db.read(async move |conn: &mut MainConn| signups::list(conn, &keys, filter).await).await?;
        Ok(list
            .into_iter()
            .map(|one| Waiting {
                id: one.id,
                slug: one.slug,
                name: one.name,
                admin_email: one.admin.email,
                created_at: one.created_at,
            })
            .collect())
    }

    /// How many sign-ups wait.
    ///
    /// # Errors
    /// If the control plane does not answer.
    pub(in crate::fleet) async fn count_waiting(&self) -> ApiResult<i64> {
        self.control.db.read(async |conn: &mut MainConn| signups::count(conn).await).await
    }

    async fn waiting_sign_up(&self, id: OperationId) -> ApiResult<SignUp> {
        let keys = self.control.keys.clone();
        let found = self.control.db.read(async move |conn: &mut MainConn| signups::find(conn, &keys, id).await).await?;
        found.ok_or_else(|| ApiError::not_found("sign-up"))
    }

    /// Makes the tenant that somebody waits for. Interrupted, the same call goes on.
    ///
    /// # Errors
    /// 404 if nobody waits with this id; `already_exists` if the slug was given to somebody else meanwhile.
    pub async fn approve_sign_up(&self, id: OperationId) -> ApiResult<TenantRecord> {
        let _lock = self.deciding(id).await?;
        let SignUp { slug, name, admin, .. } = self.waiting_sign_up(id).await?;
        let admin = FirstAdmin {
            email: admin.email,
            password: AdminPassword::Hashed(admin.password_hash),
            first_name: admin.first_name,
            last_name: admin.last_name,
        };
        let tenant = self.sign_up(&Wanted { slug, name, admin }, id.uuid(), None).await?.id();
        let made = self.get(&tenant.to_string()).await?;
        let result = json!({"tenantId": made.id, "slug": made.slug});
        self.decide(id, OperationState::Done, None, Some(result)).await?;
        Ok(made)
    }

    /// Sends somebody away who waits; what they said of themselves is forgotten.
    ///
    /// # Errors
    /// 404 if nobody waits with this id.
    pub async fn refuse_sign_up(&self, id: OperationId) -> ApiResult<Operation> {
        let _lock = self.deciding(id).await?;
        self.waiting_sign_up(id).await?;
        self.decide(id, OperationState::Cancelled, Some(REFUSED), None).await
    }

    /// Sends all away who wait, or who came before a moment, and gives how many they were. Those that somebody decides about
    /// at this moment are left to them.
    ///
    /// # Errors
    /// If the control plane does not answer: those before are refused, and the same call goes on.
    pub async fn refuse_sign_ups(&self, before: Option<DateTime<Utc>>) -> ApiResult<usize> {
        let (mut refused, mut after) = (0, None);
        loop {
            let batch = async move |conn: &mut MainConn| {
                let ids = signups::waiting(conn, after, before, BATCH).await?;
                let names: Vec<String> = ids.iter().copied().map(deciding).collect();
                let free = lock::free_until_commit(conn, &names).await?;
                let ours = ids.iter().zip(free).filter_map(|(id, free)| free.then_some(*id));
                let ours: Vec<OperationId> = ours.collect();
                Ok::<_, ApiError>((ids.last().copied(), signups::refuse(conn, &ours, REFUSED).await?))
            };
            let (last, some) = self.control.db.transaction(batch).await?;
            refused += some;
            if last.is_none() {
                return Ok(refused);
            }
            after = last;
        }
    }

    async fn deciding(&self, id: OperationId) -> ApiResult<Lock> {
        let lock = Lock::named(&self.locks, &self.control, &deciding(id)).await?;
        lock.ok_or_else(|| refused("Somebody is deciding about this sign-up."))
    }

    async fn decide(
        &self,
        id: OperationId,
        state: OperationState,
        said: Option<&'static str>,
        result: Option<serde_json::Value>,
    ) -> ApiResult<Operation> {
        self.control
            .db
            .transaction(async move |conn: &mut MainConn| {
                signups::remove(conn, id).await?;
                if let Some(result) = result {
                    operations::set_result(conn, id, &result).await?;
                }
                operations::finish(conn, id, state, said).await?;
                operations::get(conn, id).await
            })
            .await
    }

    /// The job of a sign-up, for the stranger who asked: its id, which nobody else was told, is all they have.
    ///
    /// # Errors
    /// 404 if there is none, or it is no sign-up's.
    pub async fn sign_up_job(&self, id: OperationId) -> ApiResult<Operation> {
        let job = self.control.db.read(async move |conn: &mut MainConn| operations::get(conn, id).await).await?;
        if job.is_sign_up() { Ok(job) } else { Err(ApiError::not_found("job")) }
    }
}
