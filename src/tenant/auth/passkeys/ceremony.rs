//! A challenge and its answer, between the protocol's own half and the database.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;
use webauthn_rs::prelude::{
    AuthenticationResult, CredentialID, DiscoverableAuthentication, DiscoverableKey, Passkey, PasskeyAuthentication,
    PasskeyRegistration, PublicKeyCredential, RegisterPublicKeyCredential, WebauthnError, WebauthnResult,
};

use super::site::PATIENCE;
use super::store::{self, MOST, PasskeyRow};
use crate::error::{ApiError, ApiResult, Code};
use crate::kernel::UserId;
use crate::router::TenantConn;
use crate::tenant::audit::{self, Entry};
use crate::tenant::auth::begun::{self, Whence};
use crate::tenant::auth::settings::{Auth, delta};

const REGISTRATION: &str = "registration";
const SECOND_FACTOR: &str = "second_factor";
const LOGIN: &str = "login";

/// What a browser is asked with.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PasskeyOptions {
    /// To be sent back with the answer. Good once, for five minutes.
    pub ceremony_id: Uuid,
    /// For `navigator.credentials`: `PublicKeyCredential.parseCreationOptionsFromJSON` or `…RequestOptionsFromJSON`.
    #[schema(value_type = Object)]
    pub public_key: Value,
}

fn json(value: &impl Serialize) -> ApiResult<Value> {
    serde_json::to_value(value).map_err(ApiError::internal)
}

fn known<T: DeserializeOwned>(value: Value) -> ApiResult<T> {
    serde_json::from_value(value).map_err(ApiError::internal)
}

/// Reads what a browser answered.
fn answer<T: DeserializeOwned>(credential: &Value) -> ApiResult<T> {
    let wrong =
        |_| ApiError::invalid_field("credential", "invalid", "It is no answer of a passkey, as `toJSON()` gives it.");
    serde_json::from_value(credential.clone()).map_err(wrong)
}

async fn begin(
    conn: &mut TenantConn,
    auth: &Auth,
    whose: (Option<UserId>, Option<&Whence>),
    purpose: &str,
    (mut options, state): (Value, Value),
) -> ApiResult<PasskeyOptions> {
    let now = auth.clock.now();
    let ceremony_id = store::begin(conn, whose, purpose, &state, (now, now + delta(PATIENCE))).await?;
    Ok(PasskeyOptions { ceremony_id, public_key: options["publicKey"].take() })
}

async fn take<T: DeserializeOwned>(
    conn: &mut TenantConn,
    auth: &Auth,
    id: Uuid,
    user: Option<UserId>,
    purpose: &str,
) -> ApiResult<Option<T>> {
    store::take(conn, id, user, purpose, auth.clock.now()).await?.map(known).transpose()
}

/// Begins a passkey of a person.
pub(super) async fn register(
    conn: &mut TenantConn,
    auth: &Auth,
    (user, email, name): (UserId, &str, &str),
) -> ApiResult<PasskeyOptions> {
    let site = auth.passkeys.get()?;
    let rows = store::list(conn, user).await?;
    if rows.len() as i64 >= MOST {
        return Err(
            ApiError::new(Code::Conflict).detail("You have as many passkeys as one can have. Remove one first.")
        );
    }
    let there: Vec<CredentialID> = rows
        .into_iter()
        .map(|row| known::<Passkey>(row.credential).map(|passkey| passkey.cred_id().clone()))
        .collect::<ApiResult<_>>()?;
    let (options, state) =
        site.start_passkey_registration(user.uuid(), email, name, Some(there)).map_err(ApiError::internal)?;
    let mut options = json(&options)?;
    // One that the device finds by itself signs in without a name; one that it does not is a second factor all the same.
    options["publicKey"]["authenticatorSelection"]["residentKey"] = Value::from("preferred");
    begin(conn, auth, (Some(user), None), REGISTRATION, (options, json(&state)?)).await
}

/// Keeps a passkey whose browser has answered.
pub(super) async fn add(
    conn: &mut TenantConn,
    auth: &Auth,
    user: UserId,
    name: &str,
    (ceremony, credential): (Uuid, &Value),
) -> ApiResult<PasskeyRow> {
    let site = auth.passkeys.get()?;
    let wrong = |said| ApiError::invalid_field("credential", "invalid", said);
    let credential: RegisterPublicKeyCredential = answer(credential)?;
    let state: PasskeyRegistration = take(conn, auth, ceremony, Some(user), REGISTRATION)
        .await?
        .ok_or_else(|| ApiError::invalid_field("ceremonyId", "invalid", "It is over. Ask for options anew."))?;
    let passkey = site.finish_passkey_registration(&credential, &state).map_err(|error| {
        tracing::debug!(%error, "a passkey is not taken");
        wrong("It is no good answer to what was asked.")
    })?;
    if store::hold(conn, passkey.cred_id()).await?.is_some() {
        return Err(wrong("This passkey is there already."));
    }
    let kept = (passkey.cred_id().as_ref(), &json(&passkey)?);
    Ok(store::insert(conn, user, name, kept, auth.clock.now()).await?)
}

/// Begins the second half of a login.
pub(in crate::tenant::auth) async fn challenge(
    conn: &mut TenantConn,
    auth: &Auth,
    user: UserId,
) -> ApiResult<PasskeyOptions> {
    let keys = store::list(conn, user).await?.into_iter().map(|row| known::<Passkey>(row.credential));
    let keys = keys.collect::<ApiResult<Vec<_>>>()?;
    if keys.is_empty() {
        return Err(ApiError::new(Code::Conflict).detail("There is no passkey."));
    }
    let started = auth.passkeys.get()?.start_passkey_authentication(&keys);
    let (options, state) = started.map_err(ApiError::internal)?;
    begin(conn, auth, (Some(user), None), SECOND_FACTOR, (json(&options)?, json(&state)?)).await
}

/// Whether a passkey of this person answers their challenge, which is taken by it.
pub(in crate::tenant::auth) async fn prove(
    conn: &mut TenantConn,
    auth: &Auth,
    user: UserId,
    (ceremony, credential): (Uuid, &Value),
) -> ApiResult<bool> {
    let credential: PublicKeyCredential = answer(credential)?;
    let state: Option<PasskeyAuthentication> = take(conn, auth, ceremony, Some(user), SECOND_FACTOR).await?;
    let (Some(state), Some(row)) = (state, store::hold(conn, credential.get_credential_id()).await?) else {
        return Ok(false);
    };
    // Those that were asked for are known by what they were then. Meanwhile one may have been removed, and be somebody else's.
    if row.user_id != user {
        return Ok(false);
    }
    let finished = auth.passkeys.get()?.finish_passkey_authentication(&credential, &state);
    finish(conn, auth, row, finished).await
}

/// Begins a login with nothing but a passkey: whose, it says itself. From one network, and one site, no more than may wait.
pub(super) async fn ask_anybody(
    conn: &mut TenantConn,
    auth: &Auth,
    from: Option<&Whence>,
) -> ApiResult<PasskeyOptions> {
    let started = auth.passkeys.get()?.start_discoverable_authentication();
    let (options, state) = started.map_err(ApiError::internal)?;
    if let Some(most) = store::limit_met(conn, from, LOGIN, auth.clock.now()).await? {
        return Err(begun::too_many(most, PATIENCE));
    }
    begin(conn, auth, (None, from), LOGIN, (json(&options)?, json(&state)?)).await
}

/// What a passkey of a login is told by.
pub(super) fn credential_id(credential: &Value) -> ApiResult<Vec<u8>> {
    Ok(answer::<PublicKeyCredential>(credential)?.get_credential_id().to_vec())
}

/// What comes of an answer to the challenge of a login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answered {
    /// By this person's passkey.
    By(UserId),
    /// Not well, or by nobody's.
    Badly,
    /// There is no such challenge, or no more: nothing was compared, and nobody has guessed anything.
    TooLate,
}

/// Whose passkey answers the challenge of a login, which is taken by it. Held before this: the passkey.
pub(super) async fn identify(
    conn: &mut TenantConn,
    auth: &Auth,
    row: Option<PasskeyRow>,
    (ceremony, credential): (Uuid, &Value),
) -> ApiResult<Answered> {
    let credential: PublicKeyCredential = answer(credential)?;
    let state: Option<DiscoverableAuthentication> = take(conn, auth, ceremony, None, LOGIN).await?;
    let Some(state) = state else { return Ok(Answered::TooLate) };
    let Some(row) = row else { return Ok(Answered::Badly) };
    let site = auth.passkeys.get()?;
    // The device says whose it is; the row has to say the same.
    let said = site.identify_discoverable_authentication(&credential).map(|(user, _)| user);
    let user = row.user_id;
    if said.ok() != Some(user.uuid()) {
        return Ok(Answered::Badly);
    }
    let key = DiscoverableKey::from(known::<Passkey>(row.credential.clone())?);
    let finished = site.finish_discoverable_authentication_v2(&credential, state, &key);
    let good = finish(conn, auth, row, finished).await?;
    Ok(if good { Answered::By(user) } else { Answered::Badly })
}

/// Notes the use of a passkey that answered well.
///
/// That somebody unlocked the device is seen to by the library: it wants that of every passkey, when it is made and each
/// time that it answers.
async fn finish(
    conn: &mut TenantConn,
    auth: &Auth,
    row: PasskeyRow,
    finished: WebauthnResult<AuthenticationResult>,
) -> ApiResult<bool> {
    let now = auth.clock.now();
    let counted = row.credential["cred"]["counter"].as_u64();
    let counted = counted.ok_or_else(|| ApiError::internal("a passkey is kept without its counter"))?;
    let result = match finished {
        // One that never counts stays at zero.
        Ok(result) if counted == 0 || u64::from(result.counter()) > counted => result,
        // The library compares with the counter of when it was asked; meanwhile the passkey may have been used.
        Ok(_) | Err(WebauthnError::CredentialPossibleCompromise) => {
            tracing::warn!(
                target: "tenantry::security",
                event = "passkey.copied",
                user = %row.user_id,
                "the counter of a passkey went back: there may be a copy of it"
            );
            let entry = Entry {
                actor: "system",
                action: "passkey.copied",
                user: row.user_id,
                session: None,
                reason: Some(&row.name),
            };
            audit::note::<TenantConn>(conn, &entry, now).await?;
            return Ok(false);
        }
        Err(error) => {
            tracing::debug!(%error, "a passkey is refused");
            return Ok(false);
        }
    };
    let mut passkey: Passkey = known(row.credential)?;
    passkey.update_credential(&result);
    store::used(conn, row.id, &json(&passkey)?, now).await?;
    Ok(true)
}
