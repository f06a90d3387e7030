//! Keys that sign access tokens: each tenant's own, and one of the installation for its operators.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::installation;
use super::schema::{signing_keys as sk, tenants as t};
use crate::error::{ApiError, ApiResult, Code};
use crate::kernel::crypto::{CryptoError, MacKey, MasterKeys, Place, Sealed};
use crate::kernel::{SigningKeyId, TenantId};
use crate::router::{KeyAlgorithm, KeyId, MainConn, SigningKey, VerificationKey};

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
    insert(conn, keys, (SigningKeyId::generate(), tenant), KeyAlgorithm::EdDsa, None).await.map(drop)
}

/// Gives a tenant that was just made the key that signs its tokens.
///
/// # Errors
/// If the control plane does not answer.
pub async fn make(conn: &mut MainConn, keys: &MasterKeys, tenant: TenantId) -> ApiResult<()> {
    insert(conn, keys, (SigningKeyId::generate(), Some(tenant)), KeyAlgorithm::EdDsa, None).await.map(drop)
}

/// Makes a key that signs from then on, or at once; false if another is in use.
async fn insert(
    conn: &mut MainConn,
    keys: &MasterKeys,
    (id, tenant): (SigningKeyId, Option<TenantId>),
    algorithm: KeyAlgorithm,
    signs_from: Option<DateTime<Utc>>,
) -> ApiResult<bool> {
    let (private, public) = SigningKey::generate_pkcs8(algorithm);
    let made = diesel::insert_into(sk::table)
        .values((
            sk::id.eq(id),
            sk::tenant_id.eq(tenant),
            sk::alg.eq(algorithm.as_str()),
            sk::public.eq(public),
            sk::private_sealed.eq(Vec::from(keys.seal(place(id), &private))),
            signs_from.map(|at| sk::signs_from.eq(at)),
        ))
        .on_conflict_do_nothing()
        .execute(conn)
        .await?;
    Ok(made == 1)
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
    let signing = SigningKey::from_pkcs8(kid, KeyAlgorithm::EdDsa, &private)
        .ok_or_else(|| ApiError::internal("the operators' signing key is no Ed25519 key"))?;
    Ok((signing, VerificationKey::new(id, KeyAlgorithm::EdDsa, public)))
}

/// The keys of a tenant's access tokens, retired ones included.
///
/// # Errors
/// If the control plane does not answer.
pub async fn ids_of(conn: &mut MainConn, tenant_id: TenantId) -> ApiResult<Vec<Uuid>> {
    Ok(sk::table.filter(sk::tenant_id.eq(tenant_id)).order(sk::id).select(sk::id).load(conn).await?)
}

/// A key of whoever holds it, as it stands in its row.
#[derive(Debug, Clone, Queryable)]
pub struct StoredKey {
    /// Which key.
    pub id: SigningKeyId,
    /// Whose; none for the installation's own.
    pub tenant_id: Option<TenantId>,
    /// The public half.
    pub public: Vec<u8>,
    sealed: Vec<u8>,
    alg: String,
    /// From when on it signs.
    pub signs_from: DateTime<Utc>,
    /// Until when it was accepted, if it is no longer in use.
    pub retired_at: Option<DateTime<Utc>>,
}

impl StoredKey {
    /// What it signs with.
    ///
    /// # Errors
    /// If the row was damaged.
    pub fn algorithm(&self) -> ApiResult<KeyAlgorithm> {
        self.alg.parse().map_err(|error: String| ApiError::internal(error))
    }

    /// The private half in its PKCS #8 form.
    ///
    /// # Errors
    /// If none of our master keys opens it, or it is another row's.
    pub fn private(&self, keys: &MasterKeys) -> Result<Zeroizing<Vec<u8>>, CryptoError> {
        keys.open(place(self.id), &Sealed::from(self.sealed.clone()))
    }
}

/// All keys, those out of use included.
///
/// # Errors
/// If the control plane does not answer.
pub async fn list(conn: &mut MainConn) -> ApiResult<Vec<StoredKey>> {
    let columns = (sk::id, sk::tenant_id, sk::public, sk::private_sealed, sk::alg, sk::signs_from, sk::retired_at);
    Ok(sk::table.order(sk::id).select(columns).load(conn).await?)
}

/// The key of a tenant that signs now.
///
/// # Errors
/// 404 if there is none.
pub async fn in_use(conn: &mut MainConn, tenant: TenantId) -> ApiResult<StoredKey> {
    let columns = (sk::id, sk::tenant_id, sk::public, sk::private_sealed, sk::alg, sk::signs_from, sk::retired_at);
    let counts = sk::retired_at.is_null().or(sk::retired_at.gt(diesel::dsl::now));
    let found = sk::table.filter(sk::tenant_id.eq(tenant)).filter(counts);
    // The one that has begun last; where none has, the first that will.
    let found = found.order((sk::signs_from.gt(diesel::dsl::now), sk::signs_from.desc())).select(columns);
    found.first(conn).await.optional()?.ok_or_else(|| ApiError::not_found("signing key"))
}

/// How a tenant's key is replaced.
#[derive(Debug, Clone, Copy)]
pub struct Succession {
    /// What the next key signs with; as the one before, if nothing is said.
    pub algorithm: Option<KeyAlgorithm>,
    /// When it begins to sign. Until then it is published.
    pub signs_from: DateTime<Utc>,
    /// Until when the keys before it are accepted.
    pub kept_until: DateTime<Utc>,
    /// The keys before it are in wrong hands: one that has not begun to sign yet is no reason to wait.
    pub compromised: bool,
}

/// A key that was made for a tenant.
#[derive(Debug, Clone, Copy)]
pub struct Made {
    /// What it signs with.
    pub algorithm: KeyAlgorithm,
    /// When it begins to sign, or began.
    pub signs_from: DateTime<Utc>,
    /// It was there.
    pub before: bool,
}

/// Makes the next key of a tenant, and sets the end of those before it. Within one transaction. One that has this id
/// already was made by the same request: then nothing is done.
///
/// # Errors
/// 404 for a tenant without a key, or none; 409 while an earlier key has not begun to sign.
pub async fn rotate(
    conn: &mut MainConn,
    keys: &MasterKeys,
    (id, tenant): (SigningKeyId, TenantId),
    wanted: Succession,
    now: DateTime<Utc>,
) -> ApiResult<Made> {
    // The tenant's row, not the key's: that one is retired by the time that whoever waited for it gets it.
    let held: Option<TenantId> =
        t::table.find(tenant).select(t::id).for_no_key_update().first(conn).await.optional()?;
    held.ok_or_else(|| ApiError::not_found("tenant"))?;
    let columns = (sk::alg, sk::signs_from);
    let same = sk::table.find(id).filter(sk::tenant_id.eq(tenant)).select(columns);
    if let Some((alg, signs_from)) = same.first::<(String, DateTime<Utc>)>(conn).await.optional()? {
        let algorithm = alg.parse().map_err(|error: String| ApiError::internal(error))?;
        return Ok(Made { algorithm, signs_from, before: true });
    }
    let in_use = sk::table.filter(sk::tenant_id.eq(tenant)).filter(sk::retired_at.is_null());
    let held: Option<(String, DateTime<Utc>)> = in_use.select(columns).first(conn).await.optional()?;
    let (alg, signs_from) = held.ok_or_else(|| ApiError::not_found("signing key"))?;
    if signs_from > now && !wanted.compromised {
        let said = format!("A key that was made before begins to sign at {}.", signs_from.format("%FT%TZ"));
        return Err(ApiError::new(Code::Conflict).detail(said));
    }
    let algorithm = match wanted.algorithm {
        Some(algorithm) => algorithm,
        None => alg.parse().map_err(|error: String| ApiError::internal(error))?,
    };
    let before = sk::table.filter(sk::tenant_id.eq(tenant));
    let longer = sk::retired_at.is_null().or(sk::retired_at.gt(wanted.kept_until));
    diesel::update(before.filter(longer)).set(sk::retired_at.eq(wanted.kept_until)).execute(conn).await?;
    if !insert(conn, keys, (id, Some(tenant)), algorithm, Some(wanted.signs_from)).await? {
        return Err(ApiError::internal("another key is in use, though the tenant is held"));
    }
    Ok(Made { algorithm, signs_from: wanted.signs_from, before: false })
}
