//! Judging and hashing a new password.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use secrecy::SecretString;

use super::history;
use crate::error::{ApiError, ApiResult, FieldError};
use crate::kernel::UserId;
use crate::rest::passwords::Rules;
use crate::router::{TenantConn, TenantDb};
use crate::tenant::auth::Auth;
use crate::tenant::schema::users;
use crate::tenant::security::{PasswordPolicy, password_policy};
use crate::tenant::teams;
use crate::tenant::users::store as people;

/// Whose password it is to be.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Whose<'a> {
    /// Of somebody who is here.
    Theirs(UserId),
    /// Of somebody who is invited, and comes with it.
    Invited {
        /// Whose invitation it is.
        user: UserId,
        /// First and last name that they give themselves.
        name: [&'a str; 2],
    },
    /// Of somebody who is made with it.
    New {
        /// Address.
        email: &'a str,
        /// First and last name.
        name: [&'a str; 2],
        /// Names of the roles they get.
        roles: &'a [String],
    },
}

/// What judging it needs from the database.
struct Known {
    policy: PasswordPolicy,
    needs_factor: bool,
    about: Vec<String>,
    earlier: Vec<String>,
}

/// The hash of a new password that keeps to the policy.
///
/// # Errors
/// 422 with what is wrong in `field`; `overloaded` if too many hashes wait.
pub(crate) async fn choose(
    auth: &Auth,
    db: &TenantDb,
    whose: Whose<'_>,
    field: &'static str,
    password: SecretString,
) -> ApiResult<String> {
    let known = db.read(async |conn: &mut TenantConn| known(conn, db, whose).await).await?;
    let PasswordPolicy { min_length, min_length_with_factor, blocked_words, .. } = known.policy;
    let min_chars = if known.needs_factor { min_length_with_factor } else { min_length };
    let mut rules = Rules { min_chars: usize::try_from(min_chars).unwrap_or_default(), context: Vec::new() };
    let tenant = db.tenant();
    let here = [tenant.slug.as_str(), &tenant.name].map(str::to_owned);
    for words in known.about.iter().chain(&here).chain(&blocked_words) {
        rules = rules.knowing(words);
    }
    let hasher = auth.passwords.of(tenant.id);
    if let Some(fault) = hasher.judge(field, &password, rules).await? {
        return Err(ApiError::invalid(vec![fault]));
    }
    for earlier in known.earlier {
        if hasher.verify(password.clone(), Some(earlier)).await? {
            let said = "It is one of the last passwords here. Choose another one.";
            return Err(ApiError::invalid(vec![FieldError::new(field, "used_before", said)]));
        }
    }
    hasher.hash(password).await
}

async fn known(conn: &mut TenantConn, db: &TenantDb, whose: Whose<'_>) -> ApiResult<Known> {
    let (policy, demanded_of) = password_policy(conn).await?;
    let demanded = |roles: &[String]| roles.iter().any(|role| demanded_of.contains(role));
    match whose {
        Whose::New { email, name, roles } => {
            let about = [email, name[0], name[1]].map(str::to_owned).to_vec();
            Ok(Known { policy, needs_factor: demanded(roles), about, earlier: Vec::new() })
        }
        Whose::Invited { user, name } => {
            let person = people::get(conn, user).await?;
            let needs_factor = demanded(&teams::all_roles(conn, db, &person).await?);
            let about = [person.email, person.first_name, person.last_name].into_iter();
            let about = about.chain(name.map(str::to_owned)).collect();
            Ok(Known { policy, needs_factor, about, earlier: Vec::new() })
        }
        Whose::Theirs(user) => {
            let person = people::get(conn, user).await?;
            let mut earlier = history::earlier(conn, user, policy.history).await?;
            if policy.history > 0 {
                let current: Option<String> = users::table.find(user).select(users::password_hash).first(conn).await?;
                earlier.extend(current.filter(|current| !earlier.contains(current)));
            }
            let needs_factor = demanded(&teams::all_roles(conn, db, &person).await?);
            Ok(Known { policy, needs_factor, about: vec![person.email, person.first_name, person.last_name], earlier })
        }
    }
}
