//! Documents that the installation signs, apart from them: with the key that signs its operators' tokens, over a text
//! that no token can have.

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use serde::{Deserialize, Serialize};

use super::schema::signing_keys as sk;
use super::signing_keys::{self, StoredKey};
use crate::error::{ApiError, ApiResult};
use crate::kernel::SigningKeyId;
use crate::kernel::crypto::MasterKeys;
use crate::router::MainConn;

/// What is signed begins so; a token's text has no such line.
const DOMAIN: &[u8] = b"tenantry document\n";
const ALG: &str = "EdDSA";

/// A detached signature: what stands in the file beside the document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Signature {
    /// `EdDSA`, that is Ed25519, over the line `tenantry document` and the document's bytes.
    pub alg: String,
    /// Which of the installation's keys.
    pub key_id: SigningKeyId,
    /// That key's public half, in base64: for whoever knows it from elsewhere.
    pub public_key: String,
    /// In base64.
    pub signature: String,
}

fn input(document: &[u8]) -> Vec<u8> {
    [DOMAIN, document].concat()
}

/// Signs a document with the installation's key.
///
/// # Errors
/// If the control plane does not answer, or the key does not open.
pub async fn sign(conn: &mut MainConn, keys: &MasterKeys, document: &[u8]) -> ApiResult<Signature> {
    let all = signing_keys::list(conn).await?;
    let in_use = |key: &StoredKey| key.tenant_id.is_none() && key.retired_at.is_none();
    let key = all.into_iter().find(in_use).ok_or_else(|| ApiError::internal("the installation is not set up"))?;
    let private = key.private(keys).map_err(ApiError::internal)?;
    let pair = Ed25519KeyPair::from_pkcs8(&private).map_err(|_| ApiError::internal("not an Ed25519 key"))?;
    Ok(Signature {
        alg: ALG.to_owned(),
        key_id: key.id,
        public_key: BASE64.encode(&key.public),
        signature: BASE64.encode(pair.sign(&input(document)).as_ref()),
    })
}

/// Whether one of the installation's own keys, in use or not, signed this very document.
///
/// # Errors
/// If the control plane does not answer.
pub async fn verify(conn: &mut MainConn, document: &[u8], signature: &Signature) -> ApiResult<bool> {
    let public: Option<Vec<u8>> = sk::table
        .filter(sk::id.eq(signature.key_id))
        .filter(sk::tenant_id.is_null())
        .select(sk::public)
        .first(conn)
        .await
        .optional()?;
    let (Some(public), Ok(bytes)) = (public, BASE64.decode(&signature.signature)) else { return Ok(false) };
    let signed = UnparsedPublicKey::new(&ED25519, &public).verify(&input(document), &bytes).is_ok();
    Ok(signature.alg == ALG && signed)
}
