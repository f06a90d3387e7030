//! Self-service sign-up: a stranger gets a tenant of their own, at once or when an operator has agreed.

mod decide;
mod limit;
mod sweep;

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::json;
use uuid::Uuid;

pub use limit::Standing;

use super::provision::Asked;
use super::{AdminPassword, CreateTenant, FirstAdmin, Fleet, OperationOptions, Silent, Welcome, lock};
use crate::config::{Network, SignUpMode};
use crate::control::operations::{self, NewOperation, Operation, OperationKind};
use crate::control::signups::{self, FirstPerson};
use crate::control::tenants;
use crate::error::{ApiError, ApiResult, Code};
use crate::kernel::{OperationId, Slug, TenantId};
use crate::router::{MainConn, TenantStatus};
use crate::tenant::auth::session::SignIn;

/// When whoever finds too many waiting, or no room, may come again: operators decide, not machines.
const WHEN_FULL: Duration = Duration::from_mins(10);

/// Who may sign up.
#[derive(Debug, Clone)]
pub struct SignUpSettings {
    /// Everybody, whom an operator agrees to, or nobody.
    pub mode: SignUpMode,
    /// How often one address may ask within an hour.
    pub per_hour: u32,
    /// Addresses that may ask as often as they like.
    pub unlimited: Vec<Network>,
}

/// A tenant that a stranger wants.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Public name.
    pub slug: Slug,
    /// Display name.
    pub name: String,
    /// Who is to be its first administrator, with a password of their choice.
    pub admin: FirstAdmin,
}

/// A sign-up that waits for an operator.
#[derive(Debug, Clone)]
pub struct Waiting {
    /// The job.
    pub id: OperationId,
    /// Public name of the tenant to be.
    pub slug: Slug,
    /// Display name.
    pub name: String,
    /// Address of its first administrator.
    pub admin_email: String,
    /// When it was asked for.
    pub created_at: DateTime<Utc>,
}

/// What came of a sign-up.
#[derive(Debug)]
pub enum Made {
    /// The tenant was made just now; and its first administrator's first session, if they were welcomed already.
    Now(TenantId, Option<Box<SignIn>>),
    /// It had been made before.
    Before(TenantId),
}

impl Made {
    /// The tenant.
    #[must_use]
    pub const fn id(&self) -> TenantId {
        match self {
            Self::Now(id, _) | Self::Before(id) => *id,
        }
    }
}

fn taken(slug: &Slug) -> ApiError {
    ApiError::already_exists("slug", format!("The slug '{slug}' is taken. Choose another one."))
}

/// What keeps tenants from being made is the operator's to mend, who reads it in the log: a stranger hears that there is no room now.
fn without_the_operators_part(error: ApiError) -> ApiError {
    if error.code() != Code::Conflict || !error.fields().is_empty() || lock::is_busy(&error) {
        return error;
    }
    ApiError::new(Code::Overloaded).retry_after(WHEN_FULL).caused_by(error)
}

impl Fleet {
    /// Makes a stranger's tenant. `request` is what asks for it: sent again after a crash, it goes on where it was. Without a
    /// welcome an operator has agreed to it, and is told what is in the way.
    ///
    /// # Errors
    /// `already_exists` for a taken slug; 503 `overloaded` where no cluster has room. Whatever fails, nothing of the tenant is
    /// left.
    pub async fn sign_up(&self, wanted: &Wanted, request: Uuid, welcome: Option<&Welcome>) -> ApiResult<Made> {
        let done = self.make_signed_up(wanted, request, welcome).await;
        if welcome.is_some() { done.map_err(without_the_operators_part) } else { done }
    }

    async fn make_signed_up(&self, wanted: &Wanted, request: Uuid, welcome: Option<&Welcome>) -> ApiResult<Made> {
        let slug = wanted.slug.clone();
        let found = self
            .control
            .db
            .read(async move |conn: &mut MainConn| {
                if signups::find_by_slug(conn, &slug).await?.is_some_and(|waiting| waiting.uuid() != request) {
                    return Err(taken(&slug));
                }
                let Some(tenant) = tenants::find_by_slug(conn, &slug).await? else { return Ok(None) };
                if !operations::began(conn, tenant.id, request).await? {
                    return Err(taken(&slug));
                }
                let open = operations::find_open(conn, tenant.id).await?;
                Ok(Some((tenant, open.is_some_and(|open| open.kind == OperationKind::Delete))))
            })
            .await?;
        let anew = found.is_none();
        match found {
            // It was made, and nobody could be told.
            Some((made, _)) if made.status != TenantStatus::Provisioning => return Ok(Made::Before(made.id)),
            // It failed, and could not be taken back then.
            Some((failed, true)) => self.delete_unfinished(failed.id).await?,
            _ => {}
        }
        let create = CreateTenant {
            name: Some(wanted.name.clone()),
            admin: Some(wanted.admin.clone()),
            ..CreateTenant::named(wanted.slug.clone())
        };
        let asked = Asked { sign_up: Some(request), anew, ..Asked::default() };
        let made = self.create_for(&create, asked, welcome, &OperationOptions::default(), &Silent).await;
        match made {
            Ok(made) => Ok(Made::Now(made.tenant.id, made.first_session.map(Box::new))),
            Err(error) => {
                self.take_back(&wanted.slug, request).await;
                Err(error)
            }
        }
    }

    /// A stranger's slug is not held by what could not be made. What cannot be taken back now is swept later.
    async fn take_back(&self, slug: &Slug, request: Uuid) {
        let named = slug.clone();
        let begun = self.control.db.read(async move |conn: &mut MainConn| {
            let Some(tenant) = tenants::find_by_slug(conn, &named).await? else { return Ok(None) };
            let ours = operations::began(conn, tenant.id, request).await?;
            Ok::<_, ApiError>(Some(tenant).filter(|tenant| ours && tenant.status == TenantStatus::Provisioning))
        });
        let gone = match begun.await {
            Ok(Some(tenant)) => self.delete_unfinished(tenant.id).await,
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = gone {
            tracing::warn!(%slug, %error, cause = ?error.cause(), "a sign-up that failed is taken back later");
        }
    }

    /// Keeps a stranger's wish until an operator decides: see [`Self::approve_sign_up`]. What the request of this id has
    /// asked for before is given again.
    ///
    /// # Errors
    /// `already_exists` for a slug that is taken, or waited for; 503 `overloaded` while too many wait.
    pub async fn ask_for_tenant(&self, wanted: &Wanted, request: Option<Uuid>) -> ApiResult<Operation> {
        if let Some(request) = request {
            let db = &self.control.db;
            let asked =
                db.read(async move |conn: &mut MainConn| operations::find_requested(conn, request).await).await?;
            if let Some(asked) = asked {
                return Ok(asked);
            }
        }
        // Before any work is done for it. Those who ask at this very moment may still come in.
        if self.control.db.read(async |conn: &mut MainConn| signups::is_full(conn).await).await? {
            return Err(ApiError::new(Code::Overloaded).retry_after(WHEN_FULL));
        }
        let AdminPassword::Given(password) = &wanted.admin.password else {
            return Err(ApiError::internal("a stranger chooses the password"));
        };
        wanted.admin.check(&self.passwords).await?;
        let admin = FirstPerson {
            email: wanted.admin.email.clone(),
            first_name: wanted.admin.first_name.clone(),
            last_name: wanted.admin.last_name.clone(),
            password_hash: self.passwords.of_nobody().hash(password.clone()).await?.into(),
        };
        let (slug, name, keys) = (wanted.slug.clone(), wanted.name.clone(), self.control.keys.clone());
        self.control
            .db
            .transaction(async move |conn: &mut MainConn| {
                if tenants::find_by_slug(conn, &slug).await?.is_some() {
                    return Err(taken(&slug));
                }
                let input = json!({"slug": slug, "approval": true, "request": request});
                let new = NewOperation {
                    kind: OperationKind::Create,
                    tenant: None,
                    input,
                    background: false,
                    requested_by: None,
                };
                let waiting = operations::begin_waiting(conn, &new).await?;
                signups::insert(conn, &keys, waiting.id, (&slug, &name), &admin).await?;
                Ok(waiting)
            })
            .await
    }
}
