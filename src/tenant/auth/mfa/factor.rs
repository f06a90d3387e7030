//! What a code is worth: the authenticator's and the recovery codes, each taken once.

use chrono::{DateTime, Utc};
use secrecy::{ExposeSecret as _, SecretSlice, SecretString};

use super::store::{self, FactorRow};
use crate::error::{ApiError, ApiResult, Code};
use crate::kernel::UserId;
use crate::kernel::crypto::{Place, SealKey, Sealed};
use crate::rest::totp::{self, Enrolment};
use crate::router::{TenantConn, TenantDb};
use crate::tenant::mail::{self, SecurityNotice};

const fn place(user: UserId) -> Place {
    Place::new("second_factors", "totp_sealed", user.uuid())
}

/// What seeds are sealed with: of the installation, so that a restored or moved database keeps its people's factors.
fn key(db: &TenantDb) -> SealKey {
    db.router().installation().mac.seal_key("tenant-secrets")
}

/// A new seed for a person, which does not count before [`confirm`].
///
/// # Errors
/// 409 while there is a second factor that counts.
pub(super) async fn enrol(
    conn: &mut TenantConn,
    db: &TenantDb,
    (user, email): (UserId, &str),
    now: DateTime<Utc>,
) -> ApiResult<Enrolment> {
    let seed = totp::seed();
    let told = totp::enrolment(&seed, db.tenant().slug.as_str(), email)?;
    let sealed = key(db).seal(place(user), seed.expose_secret());
    if store::enrol(conn, user, sealed.as_bytes(), now).await? {
        Ok(told)
    } else {
        Err(ApiError::new(Code::Conflict).detail("There is a second factor already. Remove it first."))
    }
}

/// The same as [`enrol`] told of the seed that waits, for whoever lost that answer.
///
/// # Errors
/// 409 if none waits for its first code any more.
pub(super) async fn begun(conn: &mut TenantConn, db: &TenantDb, (user, email): (UserId, &str)) -> ApiResult<Enrolment> {
    let Some(waiting) = hold_waiting(conn, user).await? else { return Err(none_waits()) };
    let seed = key(db).open(place(user), &Sealed::from(waiting.totp_sealed)).map_err(ApiError::internal)?;
    let seed: SecretSlice<u8> = seed.to_vec().into();
    totp::enrolment(&seed, db.tenant().slug.as_str(), email)
}

/// The factor counts from here on, if the code is of its seed; gives the recovery codes, to be shown once.
///
/// # Errors
/// 409 if none was enrolled, or it counts already. `Ok(None)` for a wrong code.
pub(super) async fn confirm(
    conn: &mut TenantConn,
    db: &TenantDb,
    user: UserId,
    code: &SecretString,
    now: DateTime<Utc>,
) -> ApiResult<Option<Vec<SecretString>>> {
    let Some(waiting) = hold_waiting(conn, user).await? else { return Err(none_waits()) };
    if !take_totp(conn, db, (user, waiting), code, now).await? {
        return Ok(None);
    }
    let (codes, digests) = totp::recovery_codes();
    store::confirm(conn, user, now).await?;
    store::set_recovery_codes(conn, user, &digests).await?;
    Ok(Some(codes))
}

/// Takes a code of the authenticator, once: the step is noted by the statement that checks it.
async fn take_totp(
    conn: &mut TenantConn,
    db: &TenantDb,
    (user, factor): (UserId, FactorRow),
    code: &SecretString,
    now: DateTime<Utc>,
) -> ApiResult<bool> {
    let seed = match key(db).open(place(user), &Sealed::from(factor.totp_sealed)) {
        Ok(seed) => seed,
        Err(error) => {
            // The recovery codes are still good.
            tracing::error!(%user, %error, "the seed of a second factor does not open");
            return Ok(false);
        }
    };
    let seed: SecretSlice<u8> = seed.to_vec().into();
    match totp::step_of(&seed, code.expose_secret(), now.timestamp()) {
        Some(step) => Ok(store::take_step(conn, user, step).await?),
        None => Ok(false),
    }
}

/// Takes a code of the authenticator or a recovery code, once. A factor that does not count yet has none.
pub(super) async fn take_any(
    conn: &mut TenantConn,
    db: &TenantDb,
    user: UserId,
    code: &SecretString,
    now: DateTime<Utc>,
) -> ApiResult<bool> {
    let Some(factor) = hold_confirmed(conn, user).await? else { return Ok(false) };
    if take_totp(conn, db, (user, factor), code, now).await? {
        return Ok(true);
    }
    let taken = store::take_recovery_code(conn, user, &totp::recovery_digest(code.expose_secret())).await?;
    if taken {
        mail::notify_security(conn, db, user, SecurityNotice::RecoveryCodeUsed, None).await?;
    }
    Ok(taken)
}

/// Other recovery codes, for whoever has just shown a code and lost the answer. None where the factor is gone.
pub(super) async fn other_codes(conn: &mut TenantConn, user: UserId) -> ApiResult<Vec<SecretString>> {
    if hold_confirmed(conn, user).await?.is_none() {
        return Err(ApiError::new(Code::Conflict).detail("There is no second factor any more."));
    }
    let (codes, digests) = totp::recovery_codes();
    store::set_recovery_codes(conn, user, &digests).await?;
    Ok(codes)
}

/// New recovery codes, for a code of the authenticator. `Ok(None)` for a wrong one.
pub(super) async fn renew(
    conn: &mut TenantConn,
    db: &TenantDb,
    user: UserId,
    code: &SecretString,
    now: DateTime<Utc>,
) -> ApiResult<Option<Vec<SecretString>>> {
    let Some(factor) = hold_confirmed(conn, user).await? else { return Ok(None) };
    if !take_totp(conn, db, (user, factor), code, now).await? {
        return Ok(None);
    }
    let (codes, digests) = totp::recovery_codes();
    store::set_recovery_codes(conn, user, &digests).await?;
    Ok(Some(codes))
}

fn none_waits() -> ApiError {
    ApiError::new(Code::Conflict).detail("No second factor waits for its first code.")
}

async fn hold_waiting(conn: &mut TenantConn, user: UserId) -> ApiResult<Option<FactorRow>> {
    Ok(store::hold(conn, user).await?.filter(|factor| factor.confirmed_at.is_none()))
}

async fn hold_confirmed(conn: &mut TenantConn, user: UserId) -> ApiResult<Option<FactorRow>> {
    Ok(store::hold(conn, user).await?.filter(|factor| factor.confirmed_at.is_some()))
}
