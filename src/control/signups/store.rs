//! Rows and queries.

use std::fmt;

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::result::{DatabaseErrorKind, Error as DbError};
use diesel::sql_types::Bool;
use diesel_async::RunQueryDsl;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use crate::control::operations::{OperationKind, OperationState};
use crate::control::schema::{operations as o, signups as s, tenants as t};
use crate::error::{ApiError, ApiResult};
use crate::kernel::crypto::{MasterKeys, Place, Sealed};
use crate::kernel::{OperationId, Slug, TenantId};
use crate::router::{MainConn, TenantStatus};

/// Sign-ups that may wait at the same time.
const MOST_WAITING: i64 = 10_000;

const fn place(id: OperationId) -> Place {
    Place::new("signups", "admin_sealed", id.uuid())
}

/// Who wants to be a tenant's first administrator.
#[derive(Clone)]
pub struct FirstPerson {
    /// Address to log in with.
    pub email: String,
    /// First name.
    pub first_name: String,
    /// Last name.
    pub last_name: String,
    /// Argon2id hash of the password, in PHC form.
    pub password_hash: SecretString,
}

// Nothing of it belongs into a log.
impl fmt::Debug for FirstPerson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FirstPerson(…)")
    }
}

/// As it is sealed.
#[derive(Serialize, Deserialize)]
struct Plain {
    email: String,
    first_name: String,
    last_name: String,
    password_hash: String,
}

/// A sign-up that waits for an operator.
#[derive(Debug, Clone)]
pub struct SignUp {
    /// The job.
    pub id: OperationId,
    /// Public name of the tenant to be.
    pub slug: Slug,
    /// Display name.
    pub name: String,
    /// The first administrator.
    pub admin: FirstPerson,
    /// When it was asked for.
    pub created_at: DateTime<Utc>,
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = s)]
struct Row {
    id: OperationId,
    slug: String,
    name: String,
    admin_sealed: Vec<u8>,
    created_at: DateTime<Utc>,
}

impl Row {
    fn open(self, keys: &MasterKeys) -> ApiResult<SignUp> {
        let plain = keys.open(place(self.id), &Sealed::from(self.admin_sealed)).map_err(ApiError::internal)?;
        let Plain { email, first_name, last_name, password_hash } =
            serde_json::from_slice(&plain).map_err(ApiError::internal)?;
        Ok(SignUp {
            id: self.id,
            slug: self.slug.parse().map_err(|error: crate::kernel::slug::SlugError| ApiError::internal(error))?,
            name: self.name,
            admin: FirstPerson { email, first_name, last_name, password_hash: password_hash.into() },
            created_at: self.created_at,
        })
    }
}

/// Keeps a sign-up beside its job.
///
/// # Errors
/// `already_exists` for a slug that another one waits for.
pub async fn insert(
    conn: &mut MainConn,
    keys: &MasterKeys,
    id: OperationId,
    (slug, name): (&Slug, &str),
    admin: &FirstPerson,
) -> ApiResult<()> {
    let plain = Plain {
        email: admin.email.clone(),
        first_name: admin.first_name.clone(),
        last_name: admin.last_name.clone(),
        password_hash: admin.password_hash.expose_secret().to_owned(),
    };
    let plain = zeroize::Zeroizing::new(serde_json::to_vec(&plain).map_err(ApiError::internal)?);
    let done = diesel::insert_into(s::table)
        .values((
            s::id.eq(id),
            s::slug.eq(slug.to_string()),
            s::name.eq(name),
            s::admin_sealed.eq(Vec::from(keys.seal(place(id), &plain))),
        ))
        .execute(conn)
        .await;
    match done {
        Err(DbError::DatabaseError(DatabaseErrorKind::UniqueViolation, _)) => {
            Err(ApiError::already_exists("slug", format!("The slug '{slug}' is taken. Choose another one.")))
        }
        other => Ok(other.map(drop)?),
    }
}

/// Whether no more may wait. Strangers fill it, from however many addresses.
///
/// # Errors
/// If the control plane does not answer.
pub async fn is_full(conn: &mut MainConn) -> ApiResult<bool> {
    let last = s::table.select(s::id).offset(MOST_WAITING - 1).first::<OperationId>(conn).await.optional()?;
    Ok(last.is_some())
}

/// Those that wait for an operator.
macro_rules! waiting {
    () => {
        s::table.inner_join(o::table.on(o::id.eq(s::id))).filter(o::state.eq(OperationState::Queued.as_str()))
    };
}

/// Which of those that wait.
#[derive(Debug, Clone, Copy, Default)]
pub struct SignUpFilter {
    /// At most so many; all if absent.
    pub limit: Option<i64>,
    /// Those that came after this one.
    pub after: Option<OperationId>,
    /// Those that came before this one, the nearest first.
    pub before: Option<OperationId>,
}

/// Those that wait, the longest waiting first: their ids grow with time.
///
/// # Errors
/// If the control plane does not answer, or a secret does not open.
pub async fn list(conn: &mut MainConn, keys: &MasterKeys, filter: SignUpFilter) -> ApiResult<Vec<SignUp>> {
    let mut query = waiting!().select(Row::as_select()).into_boxed();
    query = match filter.before {
        Some(before) => query.filter(s::id.lt(before)).order(s::id.desc()),
        None => query.order(s::id.asc()),
    };
    if let Some(after) = filter.after {
        query = query.filter(s::id.gt(after));
    }
    if let Some(limit) = filter.limit {
        query = query.limit(limit);
    }
    let rows: Vec<Row> = query.load(conn).await?;
    rows.into_iter().map(|row| row.open(keys)).collect()
}

/// How many wait.
///
/// # Errors
/// If the control plane does not answer.
pub async fn count(conn: &mut MainConn) -> ApiResult<i64> {
    Ok(waiting!().count().get_result(conn).await?)
}

/// One that waits, by its job.
///
/// # Errors
/// As [`list`].
pub async fn find(conn: &mut MainConn, keys: &MasterKeys, id: OperationId) -> ApiResult<Option<SignUp>> {
    let row: Option<Row> = waiting!().filter(s::id.eq(id)).select(Row::as_select()).first(conn).await.optional()?;
    row.map(|row| row.open(keys)).transpose()
}

/// The next that wait, by id: after this one, and of those that came before a moment.
///
/// # Errors
/// If the control plane does not answer.
pub async fn waiting(
    conn: &mut MainConn,
    after: Option<OperationId>,
    before: Option<DateTime<Utc>>,
    most: i64,
) -> ApiResult<Vec<OperationId>> {
    let mut query = waiting!().select(s::id).order(s::id.asc()).limit(most).into_boxed();
    if let Some(after) = after {
        query = query.filter(s::id.gt(after));
    }
    if let Some(before) = before {
        query = query.filter(s::created_at.lt(before));
    }
    Ok(query.load(conn).await?)
}

/// Cancels those of these that still wait, forgets who asked, and gives how many they were.
///
/// # Errors
/// If the control plane does not answer.
pub async fn refuse(conn: &mut MainConn, ids: &[OperationId], said: &str) -> ApiResult<usize> {
    let wait = o::table.filter(o::id.eq_any(ids)).filter(o::state.eq(OperationState::Queued.as_str()));
    let refused = diesel::update(wait)
        .set((o::state.eq(OperationState::Cancelled.as_str()), o::error.eq(said), o::finished_at.eq(diesel::dsl::now)))
        .execute(conn)
        .await?;
    diesel::delete(s::table.filter(s::id.eq_any(ids))).execute(conn).await?;
    Ok(refused)
}

/// The job of the one that waits for a slug.
///
/// # Errors
/// If the control plane does not answer.
pub async fn find_by_slug(conn: &mut MainConn, slug: &Slug) -> ApiResult<Option<OperationId>> {
    Ok(s::table.filter(s::slug.eq(slug.to_string())).select(s::id).first(conn).await.optional()?)
}

/// Forgets who asked.
///
/// # Errors
/// If the control plane does not answer.
pub async fn remove(conn: &mut MainConn, id: OperationId) -> ApiResult<()> {
    diesel::delete(s::table.find(id)).execute(conn).await?;
    Ok(())
}

/// Cancels those that have waited since before `since`, and forgets who asked wherever it is decided.
///
/// # Errors
/// If the control plane does not answer.
pub async fn purge(conn: &mut MainConn, since: DateTime<Utc>) -> ApiResult<()> {
    let waited = s::table.filter(s::created_at.le(since)).select(s::id);
    diesel::update(o::table.filter(o::id.eq_any(waited)).filter(o::state.eq(OperationState::Queued.as_str())))
        .set((
            o::state.eq(OperationState::Cancelled.as_str()),
            o::error.eq("Nobody decided in time."),
            o::finished_at.eq(diesel::dsl::now),
        ))
        .execute(conn)
        .await?;
    let decided = o::table.filter(o::id.eq(s::id)).filter(o::state.eq(OperationState::Queued.as_str()));
    diesel::delete(s::table.filter(diesel::dsl::not(diesel::dsl::exists(decided)))).execute(conn).await?;
    Ok(())
}

/// Tenants whose making was begun by a stranger before `since` and never came to its end, nor was wholly taken back.
///
/// # Errors
/// If the control plane does not answer.
pub async fn unfinished(conn: &mut MainConn, since: DateTime<Utc>) -> ApiResult<Vec<TenantId>> {
    let strangers = diesel::dsl::sql::<Bool>("input->>'signUp' IS NOT NULL");
    let half_made = t::table.filter(t::status.eq(TenantStatus::Provisioning.as_str())).select(t::id.nullable());
    let found: Vec<Option<TenantId>> = o::table
        .filter(o::kind.eq(OperationKind::Create.as_str()))
        .filter(o::state.ne(OperationState::Done.as_str()))
        .filter(o::tenant_id.eq_any(half_made))
        .filter(o::started_at.le(since))
        .filter(strangers)
        .select(o::tenant_id)
        .load(conn)
        .await?;
    Ok(found.into_iter().flatten().collect())
}
