//! What a request has begun, so that the same request finds it again after a crash.

use std::collections::HashSet;

use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::{Bool, Text, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use super::{Operation, OperationKind, store};
use crate::control::schema::operations as o;
use crate::error::ApiResult;
use crate::kernel::{OperationId, TenantId};
use crate::router::MainConn;

const OF_A_PROOF: &str = "input ->> 'canary' = 'true'";

#[derive(diesel::QueryableByName)]
struct Begun {
    #[diesel(sql_type = SqlUuid)]
    id: OperationId,
}

/// The latest operation that a request with an `Idempotency-Key` has begun: its input has the request's id.
///
/// # Errors
/// If the control plane does not answer.
pub async fn find_requested(conn: &mut MainConn, request: Uuid) -> ApiResult<Option<Operation>> {
    let latest = "SELECT id FROM operations WHERE input ->> 'request' = $1 ORDER BY id DESC LIMIT 1";
    let begun: Option<Begun> =
        diesel::sql_query(latest).bind::<Text, _>(request.to_string()).get_result(conn).await.optional()?;
    match begun {
        Some(begun) => store::find(conn, begun.id).await,
        None => Ok(None),
    }
}

/// Has an operation be found by this request, which goes on with it; unless another has begun it that may be sent again
/// itself: one that was refused later on is forgotten, and so is its key.
///
/// # Errors
/// If the control plane does not answer.
pub async fn note_request(conn: &mut MainConn, id: OperationId, request: Uuid) -> ApiResult<()> {
    let note = "UPDATE operations SET input = jsonb_set(input, '{request}', to_jsonb($2)) \
                WHERE id = $1 \
                AND NOT EXISTS (SELECT FROM request_records r WHERE r.id = (operations.input ->> 'request')::uuid)";
    diesel::sql_query(note).bind::<SqlUuid, _>(id.uuid()).bind::<Text, _>(request.to_string()).execute(conn).await?;
    Ok(())
}

/// Whether a sign-up is what a tenant's making was begun for.
///
/// # Errors
/// If the control plane does not answer.
pub async fn began(conn: &mut MainConn, tenant: TenantId, sign_up: Uuid) -> ApiResult<bool> {
    let made = o::table
        .filter(o::tenant_id.eq(tenant))
        .filter(o::kind.eq(OperationKind::Create.as_str()))
        .select(o::input)
        .load::<serde_json::Value>(conn)
        .await?;
    let sign_up = serde_json::json!(sign_up);
    Ok(made.iter().any(|input| input.get("signUp") == Some(&sign_up)))
}

/// The tenants that the proof of isolation has made for itself, those that are gone included: known by what they were
/// made for, since a customer may be called like one.
///
/// # Errors
/// If the control plane does not answer.
pub async fn canaries(conn: &mut MainConn) -> ApiResult<HashSet<TenantId>> {
    let made = o::table
        .filter(o::kind.eq(OperationKind::Create.as_str()))
        .filter(sql::<Bool>(OF_A_PROOF))
        .select(o::tenant_id)
        .load::<Option<TenantId>>(conn)
        .await?;
    Ok(made.into_iter().flatten().collect())
}
