//! Who a provider's account is here, and whether they come in.

use chrono::{DateTime, Utc};

use super::flow::{External, refused};
use super::store;
use crate::error::{ApiError, ApiResult, Code};
use crate::kernel::UserId;
use crate::rest::Client;
use crate::router::{TenantConn, TenantDb};
use crate::tenant::audit::{self, Entry};
use crate::tenant::auth::attempts::{self, Kind, Line};
use crate::tenant::auth::elsewhere;
use crate::tenant::auth::mfa::{LoggedIn, gate};
use crate::tenant::auth::passkeys;
use crate::tenant::auth::settings::Auth;
use crate::tenant::identity_providers::rules::is_of_domain;
use crate::tenant::identity_providers::store::{self as providers, ProviderRow};
use crate::tenant::jose::Fault;
use crate::tenant::mail::{self, SecurityNotice};
use crate::tenant::teams;
use crate::tenant::users::rules::{UserStatus, email_key, email_shape};
use crate::tenant::users::store::{self as users, NewUser, UserChange, UserRow};

/// Lets somebody in whom a provider vouches for, or asks for the second factor.
pub(super) async fn enter(
    conn: &mut TenantConn,
    auth: &Auth,
    db: &TenantDb,
    provider: &ProviderRow,
    external: &External,
    client: &Client,
) -> ApiResult<LoggedIn> {
    let now = auth.clock.now();
    check(conn, provider).await?;
    store::hold_identity(conn, &external.issuer, &external.subject).await?;
    let id = match store::link_of(conn, &external.issuer, &external.subject).await? {
        Some(link) => {
            // The person before their accounts.
            users::hold(conn, link.user_id).await?;
            check_link(conn, provider, &link).await?;
            store::used(conn, (&external.issuer, &external.subject), external.email.as_deref(), now).await?;
            link.user_id
        }
        None => newly(conn, db, provider, external, now).await?,
    };
    let person = users::hold(conn, id).await?;
    if person.status != UserStatus::Active {
        return Err(refused(Fault("the person may not come in")));
    }
    let email = email_key(&person.email);
    let line = Line::new(auth, db, &email, client, Kind::Federation);
    let signed_in_at = now - external.signed_in_ago.unwrap_or_default();
    let next = gate::enter_federated(conn, auth, db, (person, signed_in_at), client).await?;
    if matches!(next, LoggedIn::In(_)) {
        attempts::succeed(conn, &line, id).await?;
    }
    Ok(next)
}

/// Refuses what a provider said that was closed or changed while it was asked.
async fn check(conn: &mut TenantConn, provider: &ProviderRow) -> ApiResult<()> {
    match providers::stands(conn, provider).await? {
        true => Ok(()),
        false => Err(refused(Fault("the provider was closed or changed meanwhile"))),
    }
}

/// Refuses a link that another provider has made: with the same issuer, it may be somebody else's client, to whom others'
/// codes come. One that this provider has made is its word each time, and good for nobody who may do more than whoever set
/// it up.
async fn check_link(conn: &mut TenantConn, provider: &ProviderRow, link: &store::Link) -> ApiResult<()> {
    let counts = link.provider_id == provider.id && (link.by_person || is_within(conn, provider, link.user_id).await?);
    if counts { Ok(()) } else { Err(ApiError::new(Code::AccountLinkRequired)) }
}

/// Whether a person may do no more than whoever set the provider up.
async fn is_within(conn: &mut TenantConn, provider: &ProviderRow, user: UserId) -> ApiResult<bool> {
    let theirs = teams::store::permissions_of_user(conn, user).await?;
    Ok(theirs.iter().all(|permission| provider.ceiling.contains(permission)))
}

/// Somebody who comes through this account for the first time: whom they are taken for by their address, which the
/// provider must have verified. To whoever has not shown that, nothing is said of whose address it is.
async fn newly(
    conn: &mut TenantConn,
    db: &TenantDb,
    provider: &ProviderRow,
    external: &External,
    now: DateTime<Utc>,
) -> ApiResult<UserId> {
    let email = external.email.as_deref().filter(|email| external.email_verified && email_shape(email, &()).is_ok());
    let Some(email) = email else { return Err(refused(Fault("no verified e-mail address"))) };
    let id = match users::find_by_email(conn, email).await? {
        Some(person) => known(conn, provider, person, now).await?,
        None if is_of_domain(&email_key(email), &provider.allowed_domains) => {
            create(conn, provider, external, email, now).await?
        }
        None => return Err(ApiError::new(Code::RegistrationClosed)),
    };
    link(conn, db, (id, By::Provider), provider, external, now).await?;
    Ok(id)
}

/// A person with the same address. They are the same if both sides have verified it; or if there is no way yet to come in
/// as this person, who was invited or made by a directory. Nobody is who may do more than whoever set the provider up: they
/// could make it vouch for anybody. Else only they themselves say so, signed in.
async fn known(
    conn: &mut TenantConn,
    provider: &ProviderRow,
    person: UserRow,
    now: DateTime<Utc>,
) -> ApiResult<UserId> {
    let person = users::hold(conn, person.id).await?;
    if !is_within(conn, provider, person.id).await? {
        return Err(ApiError::new(Code::AccountLinkRequired));
    }
    let untaken = !person.has_password
        && elsewhere::person(conn, person.id).await?.is_none()
        && store::accounts(conn, person.id).await?.is_empty()
        && !passkeys::store::any(conn, person.id).await?;
    match person.status {
        UserStatus::Deactivated => return Err(refused(Fault("the person may not come in"))),
        _ if untaken => {}
        UserStatus::Active if store::is_verified(conn, person.id).await? => {}
        _ => return Err(ApiError::new(Code::AccountLinkRequired)),
    }
    if person.status == UserStatus::Invited {
        let change = UserChange { status: Some(UserStatus::Active.as_str().to_owned()), ..UserChange::default() };
        users::update(conn, person.id, &change, true, now).await?;
        let by = format!("provider:{}", provider.slug);
        audit::note_person(conn, (&by, person.id), "invitation.accepted", None, now).await?;
    }
    Ok(person.id)
}

async fn create(
    conn: &mut TenantConn,
    provider: &ProviderRow,
    external: &External,
    email: &str,
    now: DateTime<Utc>,
) -> ApiResult<UserId> {
    let name = |text: &str| text.chars().filter(|c| !c.is_control()).take(100).collect::<String>();
    let user = NewUser {
        id: UserId::generate(),
        email,
        first_name: &name(&external.first_name),
        last_name: &name(&external.last_name),
        status: UserStatus::Active,
        password_hash: None,
    };
    users::insert(conn, &user, now).await?;
    let roles: Vec<_> = provider.default_role_id.into_iter().collect();
    // Whoever set the provider up last gives the role, which may have been named by somebody else, or may do more since.
    let gives = users::permissions_of_roles(conn, &roles).await?;
    let within = gives.iter().all(|permission| provider.ceiling.contains(permission));
    if within {
        users::set_roles(conn, user.id, &roles).await?;
    }
    let by = format!("provider:{}", provider.slug);
    let reason = (!within).then_some("without the role, which may do more than whoever set the provider up");
    let entry = Entry { actor: &by, action: "federation.account_created", user: user.id, session: None, reason };
    audit::note(conn, &entry, now).await?;
    Ok(user.id)
}

/// Who says whose an account is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    /// The person, signed in by a proof of their own.
    Person,
    /// The provider, which vouches for their address, or alone has signed them in.
    Provider,
}

/// Ties an account to a person, with a line in the audit and a mail to the person.
pub(super) async fn link(
    conn: &mut TenantConn,
    db: &TenantDb,
    (user, by): (UserId, By),
    provider: &ProviderRow,
    external: &External,
    now: DateTime<Utc>,
) -> ApiResult<store::AccountRow> {
    let subject = (&*external.issuer, &*external.subject);
    let row = store::insert_account(conn, (user, provider.id), subject, external.email.as_deref(), now).await?;
    let actor = match by {
        By::Person => {
            store::note_by_person(conn, row.id).await?;
            format!("user:{user}")
        }
        By::Provider => format!("provider:{}", provider.slug),
    };
    let what = format!("{} ({})", provider.slug, row.id);
    let entry = Entry { actor: &actor, action: "federation.linked", user, session: None, reason: Some(&what) };
    audit::note(conn, &entry, now).await?;
    let notice = SecurityNotice::IdentityLinked { provider: provider.name.clone() };
    mail::notify_security(conn, db, user, notice, None).await?;
    Ok(row)
}
