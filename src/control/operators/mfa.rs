//! The second factor of operators: enrolled, confirmed by a code, asked for at each login from then on.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use secrecy::{ExposeSecret as _, SecretSlice, SecretString};

use super::{Operators, guesses, store};
use crate::control::fault;
use crate::control::schema::{operator_recovery_codes as r, operators as o};
use crate::error::{ApiError, ApiResult, Code};
use crate::kernel::crypto::{MasterKeys, Place, Sealed};
use crate::kernel::{OperatorId, SessionId};
use crate::rest::totp::{self, Enrolment};
use crate::router::MainConn;

/// What codes are counted as when they are guessed.
const CODES: &str = "operator-second-factor";

/// What an authenticator shows the codes under.
const ISSUER: &str = "Tenantry operators";

const fn place(id: OperatorId) -> Place {
    Place::new("operators", "totp_sealed", id.uuid())
}

fn open(keys: &MasterKeys, id: OperatorId, sealed: Vec<u8>) -> ApiResult<SecretSlice<u8>> {
    let seed = keys.open(place(id), &Sealed::from(sealed)).map_err(ApiError::internal)?;
    Ok(seed.to_vec().into())
}

fn wrong() -> ApiError {
    ApiError::invalid_field("code", "invalid", "Not the code of now.")
}

fn none_waits() -> ApiError {
    ApiError::new(Code::Conflict).detail("No second factor waits for its first code.")
}

/// Takes the second factor away.
pub(super) async fn remove(conn: &mut MainConn, id: OperatorId) -> ApiResult<()> {
    diesel::update(o::table.find(id))
        .set((o::totp_sealed.eq(None::<Vec<u8>>), o::totp_confirmed_at.eq(None::<DateTime<Utc>>), o::totp_step.eq(0)))
        .execute(conn)
        .await?;
    diesel::delete(r::table.filter(r::operator_id.eq(id))).execute(conn).await?;
    Ok(())
}

/// Puts recovery codes in the place of those that there were.
async fn set_recovery_codes(conn: &mut MainConn, id: OperatorId, digests: &[[u8; 32]]) -> ApiResult<()> {
    diesel::delete(r::table.filter(r::operator_id.eq(id))).execute(conn).await?;
    let rows: Vec<_> = digests.iter().map(|digest| (r::operator_id.eq(id), r::digest.eq(digest.to_vec()))).collect();
    diesel::insert_into(r::table).values(rows).execute(conn).await?;
    Ok(())
}

/// Takes a code of the authenticator, once: the step is noted in the statement that checks it.
async fn take_code(
    conn: &mut MainConn,
    keys: &MasterKeys,
    id: OperatorId,
    code: &SecretString,
    now: DateTime<Utc>,
) -> ApiResult<bool> {
    let sealed: Option<Vec<u8>> = o::table.find(id).select(o::totp_sealed).first(conn).await?;
    let Some(sealed) = sealed else { return Ok(false) };
    let seed = open(keys, id, sealed)?;
    let Some(step) = totp::step_of(&seed, code.expose_secret(), now.timestamp()) else { return Ok(false) };
    let taken = diesel::update(o::table.find(id).filter(o::totp_step.lt(step))).set(o::totp_step.eq(step));
    Ok(taken.execute(conn).await? == 1)
}

/// Takes a code of the authenticator or a recovery code, once.
async fn take_any(
    conn: &mut MainConn,
    keys: &MasterKeys,
    id: OperatorId,
    code: &SecretString,
    now: DateTime<Utc>,
) -> ApiResult<bool> {
    if take_code(conn, keys, id, code, now).await? {
        return Ok(true);
    }
    let digest = totp::recovery_digest(code.expose_secret()).to_vec();
    let taken = diesel::delete(r::table.find((id, digest))).execute(conn).await?;
    Ok(taken == 1)
}

impl Operators {
    /// A new seed for an operator. It counts once a code of it was shown: [`Self::confirm`].
    ///
    /// # Errors
    /// 409 while there is a second factor already.
    pub async fn enrol(&self, id: OperatorId, email: &str) -> ApiResult<Enrolment> {
        let (seed, control) = (totp::seed(), self.control());
        let told = totp::enrolment(&seed, ISSUER, email)?;
        let sealed = Vec::from(control.keys.seal(place(id), seed.expose_secret()));
        let enrolled = control
            .db
            .read(async move |conn: &mut MainConn| {
                let none = o::table.find(id).filter(o::totp_confirmed_at.is_null());
                let set = (o::totp_sealed.eq(sealed), o::totp_step.eq(0));
                Ok::<_, ApiError>(diesel::update(none).set(set).execute(conn).await? == 1)
            })
            .await
            .map_err(fault)?;
        if enrolled {
            Ok(told)
        } else {
            Err(ApiError::new(Code::Conflict).detail("There is a second factor already. Remove it first."))
        }
    }

    /// What the authenticator is told of the seed that waits for its first code.
    ///
    /// # Errors
    /// 409 if none waits.
    pub async fn begun(&self, id: OperatorId, email: &str) -> ApiResult<Enrolment> {
        let control = self.control();
        let waiting = async move |conn: &mut MainConn| -> ApiResult<Option<Vec<u8>>> {
            let waits = o::table.find(id).filter(o::totp_confirmed_at.is_null()).select(o::totp_sealed);
            Ok(waits.first::<Option<Vec<u8>>>(conn).await.optional()?.flatten())
        };
        let sealed = control.db.read(waiting).await.map_err(fault)?.ok_or_else(none_waits)?;
        totp::enrolment(&open(&control.keys, id, sealed)?, ISSUER, email)
    }

    /// Other recovery codes, for whoever confirmed the second factor by this code and was not told of the first ones. None
    /// where there is no such second factor: the codes of another one are not replaced.
    ///
    /// # Errors
    /// If the control plane does not answer.
    pub async fn other_codes(&self, id: OperatorId, code: SecretString) -> ApiResult<Option<Vec<SecretString>>> {
        let (codes, digests) = totp::recovery_codes();
        let control = self.control();
        let keys = control.keys.clone();
        let replace = async move |conn: &mut MainConn| -> ApiResult<bool> {
            let factor = o::table.find(id).select((o::totp_sealed, o::totp_confirmed_at)).for_update();
            let factor = factor.first::<(Option<Vec<u8>>, Option<DateTime<Utc>>)>(conn).await.optional()?;
            let Some((Some(sealed), Some(confirmed_at))) = factor else { return Ok(false) };
            let seed = open(&keys, id, sealed)?;
            if totp::step_of(&seed, code.expose_secret(), confirmed_at.timestamp()).is_none() {
                return Ok(false);
            }
            set_recovery_codes(conn, id, &digests).await?;
            Ok(true)
        };
        let replaced = control.db.transaction(replace).await.map_err(fault)?;
        Ok(replaced.then_some(codes))
    }

    /// The second factor counts from here on, and this session has shown it; the operator's others, which have not, end.
    /// Gives the recovery codes, to be shown once.
    ///
    /// # Errors
    /// 422 on `code` if it is none of the seed's; 409 if none was enrolled; `too_many_attempts`.
    pub async fn confirm(
        &self,
        id: OperatorId,
        session: SessionId,
        code: SecretString,
    ) -> ApiResult<Vec<SecretString>> {
        let (codes, digests) = totp::recovery_codes();
        let (control, now) = (self.control(), self.control().clock.now());
        let keys = control.keys.clone();
        let subject = self.tried(id, now).await?;
        let right = control
            .db
            .transaction(async move |conn: &mut MainConn| -> ApiResult<bool> {
                guesses::hold(conn, &subject, now).await?;
                let waits =
                    o::table.find(id).filter(o::totp_sealed.is_not_null()).filter(o::totp_confirmed_at.is_null());
                if waits.select(o::id).for_update().first::<OperatorId>(conn).await.optional()?.is_none() {
                    return Err(none_waits());
                }
                let right = take_code(conn, &keys, id, &code, now).await?;
                guesses::note(conn, &subject, right, now).await?;
                if !right {
                    return Ok(false);
                }
                diesel::update(o::table.find(id)).set(o::totp_confirmed_at.eq(now)).execute(conn).await?;
                set_recovery_codes(conn, id, &digests).await?;
                store::has_shown_factor(conn, session).await?;
                store::end_other_sessions(conn, id, session, now).await?;
                Ok(true)
            })
            .await
            .map_err(fault)?;
        if right { Ok(codes) } else { Err(wrong()) }
    }

    /// Whether a login asks this operator for a second factor.
    ///
    /// # Errors
    /// If the control plane does not answer.
    pub async fn has_second_factor(&self, id: OperatorId) -> ApiResult<bool> {
        let found = async move |conn: &mut MainConn| store::find(conn, id).await;
        Ok(self.control().db.read(found).await.map_err(fault)?.second_factor)
    }

    /// Takes the second factor away, for whoever has it in hand.
    ///
    /// # Errors
    /// 422 on `code` if it is neither of the authenticator nor a recovery code; `too_many_attempts`.
    pub async fn remove_second_factor(&self, id: OperatorId, code: SecretString) -> ApiResult<()> {
        let (control, now) = (self.control(), self.control().clock.now());
        let keys = control.keys.clone();
        let subject = self.tried(id, now).await?;
        let right = control
            .db
            .transaction(async move |conn: &mut MainConn| -> ApiResult<bool> {
                guesses::hold(conn, &subject, now).await?;
                let right = take_any(conn, &keys, id, &code, now).await?;
                guesses::note(conn, &subject, right, now).await?;
                if right {
                    remove(conn, id).await?;
                }
                Ok(right)
            })
            .await
            .map_err(fault)?;
        if right { Ok(()) } else { Err(wrong()) }
    }

    /// What tries at an operator's second factor are counted as. Refused before one waits for its turn, and holds a
    /// connection of the control plane's meanwhile, where it would not be looked at.
    ///
    /// # Errors
    /// `too_many_attempts`.
    async fn tried(&self, id: OperatorId, now: DateTime<Utc>) -> ApiResult<guesses::Subject> {
        let subject = self.guessed(CODES, id).await?;
        let look = async move |conn: &mut MainConn| guesses::look(conn, &subject, now).await;
        self.control().db.read(look).await.map_err(fault)?;
        Ok(subject)
    }

    /// Whether a code is this operator's and was not used before. Counted like a password, so that six digits are not
    /// guessed.
    ///
    /// # Errors
    /// `too_many_attempts`.
    pub(super) async fn check_code(&self, id: OperatorId, code: SecretString) -> ApiResult<bool> {
        let (control, now) = (self.control(), self.control().clock.now());
        let subject = self.tried(id, now).await?;
        let keys = control.keys.clone();
        control
            .db
            .transaction(async move |conn: &mut MainConn| -> ApiResult<bool> {
                guesses::hold(conn, &subject, now).await?;
                let right = take_any(conn, &keys, id, &code, now).await?;
                guesses::note(conn, &subject, right, now).await?;
                Ok(right)
            })
            .await
            .map_err(fault)
    }
}
