//! Keys that sign access tokens: each tenant's own, and one of the installation for its operators.

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

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

/// The keys of a tenant's access tokens, retired ones included.
///
/// # Errors
/// If the control plane does not answer.
pub async fn ids_of(conn: &mut MainConn, tenant_id: TenantId) -> ApiResult<Vec<Uuid>> {
    Ok(sk::table.filter(sk::tenant_id.eq(tenant_id)).order(sk::id).select(sk::id).load(conn).await?)
}

/// A document's signature by the installation's key.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Signature {
    /// `Ed25519`.
    pub algorithm: String,
    /// Which key.
    pub key_id: SigningKeyId,
    /// Its public half, in base64url.
    pub public_key: String,
    /// The signature, in base64url.
    pub value: String,
}

/// Signs a document with the installation's key. The document begins with words that say what it is, so that it can be
/// no token.
///
/// # Errors
/// If the control plane does not answer, or the key does not open.
pub async fn sign_for_installation(conn: &mut MainConn, keys: &MasterKeys, document: &[u8]) -> ApiResult<Signature> {
    let (id, public, sealed) = sk::table
        .filter(sk::tenant_id.is_null())
        .filter(sk::retired_at.is_null())
        .select((sk::id, sk::public, sk::private_sealed))
        .first::<(SigningKeyId, Vec<u8>, Vec<u8>)>(conn)
        .await?;
    let private = keys.open(place(id), &Sealed::from(sealed)).map_err(ApiError::internal)?;
    let pair = Ed25519KeyPair::from_pkcs8(&private).map_err(ApiError::internal)?;
    Ok(Signature {
        algorithm: "Ed25519".to_owned(),
        key_id: id,
        public_key: BASE64URL.encode(public),
        value: BASE64URL.encode(pair.sign(document)),
    })
}

/// Whether a document was signed with a key of the installation, retired or not.
///
/// # Errors
/// If the control plane does not answer.
pub async fn is_signed_by_installation(conn: &mut MainConn, document: &[u8], signature: &Signature) -> ApiResult<bool> {
    let key = sk::table.find(signature.key_id).filter(sk::tenant_id.is_null()).select(sk::public);
    let Some(public) = key.first::<Vec<u8>>(conn).await.optional()? else { return Ok(false) };
    let Ok(value) = BASE64URL.decode(&signature.value) else { return Ok(false) };
    Ok(signature.algorithm == "Ed25519"
        && signature.public_key == BASE64URL.encode(&public)
        && UnparsedPublicKey::new(&ED25519, public).verify(document, &value).is_ok())
}
