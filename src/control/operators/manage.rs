//! Operators and what they did, for administrators.

use std::collections::BTreeSet;

use actix_web::{get, patch, web};
use garde::Validate;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::audit::{self, Action, AuditFilter};
use super::store::{self, OperatorChanges, OperatorRecord};
use super::{Operator, OperatorRole, Operators};
use crate::control::docs::{ChangeRefusals, Refusals};
use crate::control::{ControlPlane, fault, tenants};
use crate::error::{ApiError, ApiResult, Code};
use crate::kernel::crypto::sha256;
use crate::kernel::{AuditId, OperatorId, Slug, TenantId};
use crate::rest::passwords::Passwords;
use crate::rest::{
    Envelope, IfMatch, ListEnvelope, ListFew, Listed, MergePatch, NoQuery, Paging, Patch, Path, Query, Tagged,
    Versioned,
};
use crate::router::{MainConn, Router};

/// An operator to be.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewOperatorBody {
    /// Address to log in with.
    #[garde(length(max = 320))]
    #[schema(example = "ada@example.com")]
    pub email: String,
    /// Password.
    #[garde(skip)]
    #[schema(value_type = String, format = Password)]
    pub password: SecretString,
    /// What they may do.
    #[garde(skip)]
    pub role: OperatorRole,
    /// The tenants of an owner, by slug.
    #[serde(default)]
    #[garde(length(max = 1000))]
    pub tenants: Vec<Slug>,
}

/// What to change of an operator.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OperatorPatch {
    /// What they may do; cannot be null.
    #[serde(default)]
    #[garde(skip)]
    #[schema(value_type = Option<OperatorRole>)]
    pub role: Patch<OperatorRole>,
    /// The tenants of an owner, by slug; cannot be null.
    #[serde(default)]
    #[garde(inner(length(max = 1000)))]
    #[schema(value_type = Option<Vec<Slug>>)]
    pub tenants: Patch<Vec<Slug>>,
    /// Whether they are kept out; their sessions end. It cannot be null.
    #[serde(default)]
    #[garde(skip)]
    #[schema(value_type = Option<bool>)]
    pub disabled: Patch<bool>,
    /// `false` takes the second factor away, for whoever lost it; cannot be null.
    #[serde(default)]
    #[garde(skip)]
    #[schema(value_type = Option<bool>)]
    pub second_factor: Patch<bool>,
}

/// An operator, as administrators see it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ManagedOperator {
    /// The operator.
    #[serde(flatten)]
    #[schema(value_type = Object)]
    pub operator: OperatorRecord,
    /// The tenants of an owner.
    pub tenants: Vec<Slug>,
}

impl Versioned for ManagedOperator {
    /// Their row counts no changes: it is a digest of all that can change.
    fn version(&self) -> i64 {
        let OperatorRecord { id, role, second_factor, disabled_at, .. } = &self.operator;
        let disabled_at = disabled_at.map(|at| at.timestamp_micros());
        let tenants: BTreeSet<_> = self.tenants.iter().map(Slug::as_str).collect();
        let digest = sha256(format!("{id} {role} {second_factor} {disabled_at:?} {tenants:?}").as_bytes());
        i64::from_be_bytes(digest.first_chunk().copied().unwrap_or_default()) & i64::MAX
    }
}

/// The tenants of these slugs.
///
/// # Errors
/// 422 on `tenants`, naming the slug that is none.
pub async fn named(conn: &mut MainConn, slugs: &[Slug]) -> ApiResult<Vec<TenantId>> {
    let mut ids = Vec::with_capacity(slugs.len());
    for slug in slugs {
        let found = tenants::find_by_slug(conn, slug).await?;
        let unknown = || ApiError::invalid_field("tenants", "unknown", format!("There is no tenant '{slug}'."));
        ids.push(found.ok_or_else(unknown)?.id);
    }
    Ok(ids)
}

/// An operator, with their tenants.
///
/// # Errors
/// If the control plane does not answer.
pub async fn with_tenants(conn: &mut MainConn, operator: OperatorRecord) -> ApiResult<ManagedOperator> {
    Ok(ManagedOperator { tenants: store::tenants_of(conn, operator.id).await?, operator })
}

async fn managed(conn: &mut MainConn, id: OperatorId) -> ApiResult<ManagedOperator> {
    let operator = store::find(conn, id).await?;
    with_tenants(conn, operator).await
}

/// All operators, by address.
///
/// # Errors
/// If the control plane does not answer.
pub async fn list(conn: &mut MainConn) -> ApiResult<Vec<ManagedOperator>> {
    let mut managed = Vec::new();
    for operator in store::list(conn).await? {
        managed.push(with_tenants(conn, operator).await?);
    }
    Ok(managed)
}

/// All operators, by address.
#[utoipa::path(
    tag = "admin",
    operation_id = "adminListOperators",
    params(ListFew),
    responses((status = 200, description = "The operators", body = ListEnvelope<ManagedOperator>), Refusals),
    security(("operator" = [])),
)]
#[get("/api/v1/admin/operators")]
pub async fn list_operators(
    operators: web::Data<Operators>,
    router: web::Data<Router>,
    _: Operator,
    query: Query<ListFew>,
) -> ApiResult<Listed<ManagedOperator>> {
    let listed = async |conn: &mut MainConn| list(conn).await;
    let managed = operators.control().db.read(listed).await.map_err(fault)?;
    let scope = (None, &router.installation().mac);
    query.0.bound(scope, ("admin/operators", ""), managed, |managed: &ManagedOperator| managed.operator.id.to_string())
}

/// Adds an operator of this id; one who has it already was added by the same request, and is given as they are now.
///
/// # Errors
/// 422 for a tenant that there is not, and as [`Operators::create`].
pub async fn add(
    control: &ControlPlane,
    passwords: &Passwords,
    id: OperatorId,
    wanted: NewOperatorBody,
) -> ApiResult<ManagedOperator> {
    let before = async move |conn: &mut MainConn| match managed(conn, id).await {
        Ok(added) => Ok(Some(added)),
        Err(error) if error.code() == Code::NotFound => Ok(None),
        Err(error) => Err(error),
    };
    if let Some(added) = control.db.read(before).await.map_err(fault)? {
        return Ok(added);
    }
    let NewOperatorBody { email, password, role, tenants: slugs } = wanted;
    let given = async move |conn: &mut MainConn| named(conn, &slugs).await;
    let given = control.db.read(given).await.map_err(fault)?;
    Operators::create_as(control, passwords, (id, &email), password, role, given).await?;
    control.db.read(async move |conn: &mut MainConn| managed(conn, id).await).await.map_err(fault)
}

/// An operator.
#[utoipa::path(
    tag = "admin",
    operation_id = "adminGetOperator",
    params(("id" = OperatorId, Path, description = "The operator")),
    responses(
        (status = 200, description = "The operator, with `ETag`", body = Envelope<ManagedOperator>),
        (status = 304, description = "Not changed since `If-None-Match`"),
        Refusals,
    ),
    security(("operator" = [])),
)]
#[get("/api/v1/admin/operators/{id}")]
pub async fn get_operator(
    _: NoQuery,
    operators: web::Data<Operators>,
    _: Operator,
    id: Path<OperatorId>,
) -> ApiResult<Tagged<ManagedOperator>> {
    let id = id.0;
    let found = async move |conn: &mut MainConn| managed(conn, id).await;
    Ok(Tagged(operators.control().db.read(found).await.map_err(fault)?))
}

/// Changes an operator: role, tenants, whether they are kept out. Whoever may do less from now on is logged out.
#[utoipa::path(
    tag = "admin",
    operation_id = "adminChangeOperator",
    params(
        ("id" = OperatorId, Path, description = "The operator"),
        ("If-Match" = Option<String>, Header, description = "The `ETag` that was read"),
    ),
    request_body(
        content = OperatorPatch,
        content_type = "application/merge-patch+json",
        example = json!({"role": "owner", "tenants": ["acme"]})
    ),
    responses((status = 200, description = "As they are now", body = Envelope<ManagedOperator>), Refusals, ChangeRefusals),
    security(("operator" = [])),
)]
#[patch("/api/v1/admin/operators/{id}")]
pub async fn change_operator(
    _: NoQuery,
    operators: web::Data<Operators>,
    _: Operator,
    id: Path<OperatorId>,
    if_match: IfMatch,
    body: MergePatch<OperatorPatch>,
) -> ApiResult<Tagged<ManagedOperator>> {
    let OperatorPatch { role, tenants, disabled, second_factor } = body.0;
    let (role, slugs) = (role.needed("role")?, tenants.needed("tenants")?);
    let (disabled, second_factor) = (disabled.needed("disabled")?, second_factor.needed("secondFactor")?);
    if second_factor == Some(true) {
        return Err(ApiError::invalid_field("secondFactor", "invalid", "Only its owner can enrol one."));
    }
    let (id, now) = (id.0, operators.control().clock.now());
    let changed = async move |conn: &mut MainConn| -> ApiResult<ManagedOperator> {
        store::hold(conn, id).await?;
        if_match.check(managed(conn, id).await?.version())?;
        let tenants = match &slugs {
            Some(slugs) => Some(named(conn, slugs).await?),
            None => None,
        };
        let reset_second_factor = second_factor == Some(false);
        let changes = OperatorChanges { role, tenants, disabled, reset_second_factor };
        let operator = store::change(conn, id, &changes, now).await?;
        with_tenants(conn, operator).await
    };
    Ok(Tagged(operators.control().db.transaction(changed).await.map_err(fault)?))
}

/// Which actions.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListAudit {
    /// Only of this actor: an operator's address, or `cli:` and an account.
    pub actor: Option<String>,
    /// Only what was done to what is named so.
    pub target: Option<String>,
    /// Items on a page, 1 to 100; 20 if left out.
    pub page_size: Option<u32>,
    /// `nextCursor` or `prevCursor` of another page.
    pub cursor: Option<String>,
    /// Count them all.
    pub include_total: Option<bool>,
}

/// What operators did, over REST and on the command line, the latest first.
#[utoipa::path(
    tag = "admin",
    operation_id = "adminListAudit",
    params(ListAudit),
    responses((status = 200, description = "A page", body = ListEnvelope<Action>), Refusals),
    security(("operator" = [])),
)]
#[get("/api/v1/admin/audit")]
pub async fn list_audit(
    operators: web::Data<Operators>,
    router: web::Data<Router>,
    _: Operator,
    query: Query<ListAudit>,
) -> ApiResult<Listed<Action>> {
    let ListAudit { actor, target, page_size, cursor, include_total } = query.0;
    let paging = Paging::new(None, page_size, cursor, include_total)?;
    let filter = format!("{actor:?} {target:?}");
    let pages = paging.bound((None, &router.installation().mac), "admin/audit", "-at", filter);
    let (after, before) = pages.between::<AuditId>()?;
    let wanted = AuditFilter { actor, target, limit: pages.limit(), after, before };
    let counted = pages.include_total();
    let listed = async move |conn: &mut MainConn| -> ApiResult<(Vec<Action>, Option<i64>)> {
        let rows = audit::list(conn, &wanted).await?;
        Ok((rows, if counted { Some(audit::count(conn, &wanted).await?) } else { None }))
    };
    let (rows, total) = operators.control().db.read(listed).await.map_err(fault)?;
    Ok(pages.listed(rows, |action| action.id, total))
}
