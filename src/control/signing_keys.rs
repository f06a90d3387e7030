//! Keys that sign access tokens: each tenant's own, and one of the installation for its operators.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::installation;
use super::schema::signing_keys as sk;
use crate::error::{ApiError, ApiResult};
use crate::kernel::crypto::{MacKey, MasterKeys, Place, Sealed};
use crate::kernel::{SigningKeyId, TenantId};
use crate::router::{KeyId, MainConn, SigningKey, VerificationKey};

const fn place(id: SigningKeyId) -> Place {
    Place::new("signing_keys", "private_sealed", id.uuid())
}

/// Gives a tenant its signing key, if it has none in use. Running it twice is running it once.
///
/// # Errors
/// If the control plane does not answer, or there is no such tenant.
pub async fn ensure(conn: &mut MainConn, keys: &MasterKeys, tenant_id: TenantId) -> ApiResult<()> {
    ensure_for(conn, keys, Some(tenant_id)).await
}

/// Gives the installation the key that signs its operators' tokens, if it has none in use.
///
/// # Errors
/// If the control plane does not answer.
pub async fn ensure_operators(conn: &mut MainConn, keys: &MasterKeys) -> ApiResult<()> {
    ensure_for(conn, keys, None).await
}

async fn ensure_for(conn: &mut MainConn, keys: &MasterKeys, tenant: Option<TenantId>) -> ApiResult<()> {
    let in_use = sk::table.filter(sk::tenant_id.is_not_distinct_from(tenant)).filter(sk::retired_at.is_null());
    if diesel::select(diesel::dsl::exists(in_use)).get_result(conn).await? {
        return Ok(());
    }
    let id = SigningKeyId::generate();
    let (private, public) = SigningKey::generate_pkcs8();
    diesel::insert_into(sk::table)
        .values((
            sk::id.eq(id),
            sk::tenant_id.eq(tenant),
            sk::alg.eq("EdDSA"),
            sk::public.eq(public),
            sk::private_sealed.eq(Vec::from(keys.seal(place(id), &private))),
        ))
        .on_conflict_do_nothing()
        .execute(conn)
        .await?;
    Ok(())
}

/// The key that signs operators' tokens. Its `kid` names the installation where a tenant's names the tenant, so the
/// two can never be taken for each other.
///
/// # Errors
/// If the control plane does not answer, was not set up, or the key does not open.
pub async fn operator_key(
    conn: &mut MainConn,
    keys: &MasterKeys,
    mac: &MacKey,
) -> ApiResult<(SigningKey, VerificationKey)> {
    let installation =
        installation::find(conn, keys).await?.ok_or_else(|| ApiError::internal("the installation is not set up"))?;
    let (id, public, sealed) = sk::table
        .filter(sk::tenant_id.is_null())
        .filter(sk::retired_at.is_null())
        .select((sk::id, sk::public, sk::private_sealed))
        .first::<(SigningKeyId, Vec<u8>, Vec<u8>)>(conn)
        .await?;
    let private = keys.open(place(id), &Sealed::from(sealed)).map_err(ApiError::internal)?;
    let kid = KeyId { tenant: installation.id.uuid().into(), key: id }.encode(mac);
    let signing = SigningKey::from_pkcs8(kid, &private)
        .ok_or_else(|| ApiError::internal("the operators' signing key is no Ed25519 key"))?;
    Ok((signing, VerificationKey::new(id, public)))
}
