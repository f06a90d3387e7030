//! The first session of somebody whose tenant was made for them a moment ago.

use secrecy::SecretString;

use super::mfa::{LoggedIn, gate};
use super::session::SignIn;
use super::settings::Auth;
use super::store::{self, Credentials};
use crate::error::{ApiError, ApiResult, Code};
use crate::rest::Client;
use crate::router::{TenantConn, TenantDb, TenantTx};
use crate::tenant::users::rules::email_key;
use crate::tenant::users::store as users;
use crate::tenant::{FirstAdmin, Seeded, give_password, seed_admin};

/// Makes the first administrator and their first session, in one transaction. Their password comes last: all else is done
/// while it is hashed. Their first request will follow at once: what it has to know of the session is read in the
/// background, while the tenant is made routable.
///
/// # Errors
/// What `hash` fails with; if the tenant's database does not answer.
pub async fn welcome_newcomer(
    auth: &Auth,
    db: &TenantDb,
    admin: &FirstAdmin,
    hash: impl Future<Output = ApiResult<SecretString>> + Send,
    client: &Client,
) -> ApiResult<SignIn> {
    let entered = db.transaction(async |conn: &mut TenantTx| -> ApiResult<SignIn> {
        let Seeded { user, is_new } = seed_admin(&mut **conn, admin).await?;
        let id = user.id;
        let entered = if is_new {
            gate::enter_first(conn, auth, db, user, client).await?
        } else {
            let user = users::get(conn, id).await?;
            gate::enter(conn, auth, db, user, client, None).await?
        };
        give_password(&mut **conn, id, &hash.await?).await?;
        only_in(entered)
    });
    let entered = entered.await?;
    let (admission, db, session, user) = (auth.admission.clone(), db.clone(), entered.session, entered.user.id);
    tokio::spawn(async move { admission.look_ahead(&db, session, user).await });
    Ok(entered)
}

fn only_in(entered: LoggedIn) -> ApiResult<SignIn> {
    match entered {
        LoggedIn::In(sign_in) => Ok(*sign_in),
        LoggedIn::SecondFactor(_) => {
            Err(ApiError::new(Code::Conflict).detail("It was made before, and has a second factor now: log in."))
        }
    }
}

/// Signs in who has just set their password.
///
/// # Errors
/// If the tenant's database does not answer, or has nobody with this address.
pub async fn sign_in_newcomer(auth: &Auth, db: &TenantDb, email: &str, client: &Client) -> ApiResult<SignIn> {
    let email = email_key(email);
    db.transaction(async |conn: &mut TenantTx| -> ApiResult<SignIn> {
        let user = users::find_by_email(conn, &email).await?;
        let user = user.ok_or_else(|| ApiError::internal("the first administrator is not there"))?;
        only_in(gate::enter(conn, auth, db, user, client, None).await?)
    })
    .await
}

/// Signs in who sends the same request again, if the password still holds.
///
/// # Errors
/// 401 `invalid_credentials`.
pub async fn sign_in_again(
    auth: &Auth,
    db: &TenantDb,
    email: &str,
    password: SecretString,
    client: &Client,
) -> ApiResult<SignIn> {
    let key = email_key(email);
    let found =
        db.read(async |conn: &mut TenantConn| -> ApiResult<_> { Ok(store::credentials(conn, &key).await?) }).await?;
    let hasher = auth.passwords.of(db.tenant().id);
    if !hasher.verify(password, found.as_ref().and_then(Credentials::usable_hash)).await? {
        return Err(ApiError::new(Code::InvalidCredentials));
    }
    sign_in_newcomer(auth, db, email, client).await
}
