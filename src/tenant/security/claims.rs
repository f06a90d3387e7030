//! What an organisation has its access tokens say besides the usual, for its own apps. Nothing here decides by it: what a
//! bearer may do is asked of the database.

use std::collections::{BTreeMap, BTreeSet};

use diesel::prelude::*;
use diesel::sql_types::{Text, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use garde::Validate;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::store::security_policy as p;
use crate::error::{ApiError, ApiResult};
use crate::kernel::UserId;
use crate::rest::Patch;
use crate::router::token::{MAX_EXTRA_LEN, is_free_claim};
use crate::router::{Tenant, TenantConn, TenantDb};
use crate::tenant::teams;
use crate::tenant::users::store::UserRow;

/// The most claims.
const MOST: usize = 20;
/// What they may take in a token altogether, in bytes of JSON.
const MOST_BYTES: usize = MAX_EXTRA_LEN;

/// Where a claim has its value from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClaimSource {
    /// Names of the person's roles, those by teams included.
    Roles,
    /// What the person may do.
    Permissions,
    /// Names of the teams that the person is in.
    Teams,
    /// The person's address.
    Email,
    /// First name.
    FirstName,
    /// Last name.
    LastName,
    /// Both.
    Name,
    /// The organisation's plan, in the operator's words; left out where it has none.
    Plan,
    /// The organisation's slug.
    Tenant,
    /// The organisation's display name.
    TenantName,
    /// Always the same: `value`.
    Constant,
}

impl ClaimSource {
    /// Whether an app is told with these scopes. What a person is and may do altogether is no app's business: for what it
    /// may do itself, its token has `scope`.
    fn is_for_app(self, scopes: &[String]) -> bool {
        let granted = |word: &str| scopes.iter().any(|scope| scope == word);
        match self {
            Self::Roles | Self::Permissions | Self::Teams => false,
            Self::Email => granted("email"),
            Self::FirstName | Self::LastName | Self::Name => granted("profile"),
            Self::Plan | Self::Tenant | Self::TenantName | Self::Constant => true,
        }
    }
}

/// A claim of access tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Validate, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TokenClaim {
    /// Letters, digits and `_ . : / -`, beginning with a letter; of one's own best as a URL. Names that mean something to
    /// whoever verifies tokens are refused.
    #[garde(length(min = 1, max = 100), custom(name_shape))]
    #[schema(example = "https://acme.example/team")]
    pub name: String,
    /// Where its value is from.
    #[garde(skip)]
    pub source: ClaimSource,
    /// The value of a `constant`; of no other source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[garde(inner(length(chars, max = 200)))]
    #[schema(example = json!(null))]
    pub value: Option<String>,
}

impl TokenClaim {
    /// Its value, if it takes no query to know and there is one.
    fn at_hand(&self, tenant: &Tenant, user: Option<&UserRow>) -> Option<Value> {
        Some(match self.source {
            ClaimSource::Roles | ClaimSource::Permissions | ClaimSource::Teams => return None,
            ClaimSource::Email => user?.email.as_str().into(),
            ClaimSource::FirstName => user?.first_name.as_str().into(),
            ClaimSource::LastName => user?.last_name.as_str().into(),
            ClaimSource::Name => user.map(|user| format!("{} {}", user.first_name, user.last_name))?.trim().into(),
            ClaimSource::Plan => tenant.plan.as_ref()?.as_str().into(),
            ClaimSource::Tenant => tenant.slug.as_str().into(),
            ClaimSource::TenantName => tenant.name.as_str().into(),
            ClaimSource::Constant => self.value.as_deref()?.into(),
        })
    }
}

fn name_shape<C>(name: &str, _: &C) -> garde::Result {
    let good = name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "_.:/-".contains(c));
    if !good {
        return Err(garde::Error::new("has other characters than letters, digits and _ . : / -, or begins with one"));
    }
    if is_free_claim(name) { Ok(()) } else { Err(garde::Error::new("means something to whoever verifies tokens")) }
}

/// The claims, in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ClaimRules(Vec<TokenClaim>);

/// What they come to for somebody.
#[derive(Debug, Clone, Default)]
pub(crate) struct Claims {
    said: BTreeMap<String, Value>,
    left_out: Vec<String>,
    bytes: usize,
}

impl Claims {
    /// Those that a token has.
    pub fn said(&self) -> BTreeMap<String, Value> {
        self.said.clone()
    }

    /// Those that have no room in it.
    pub fn left_out(self) -> Vec<String> {
        self.left_out
    }

    fn put(&mut self, name: &str, value: Option<Value>) {
        let Some(value) = value else { return };
        let bytes = name.len() + value.to_string().len() + r#""":,"#.len();
        if self.bytes + bytes > MOST_BYTES {
            self.left_out.push(name.to_owned());
        } else {
            self.bytes += bytes;
            self.said.insert(name.to_owned(), value);
        }
    }
}

#[derive(QueryableByName)]
struct Name {
    #[diesel(sql_type = Text)]
    name: String,
}

async fn teams_of(conn: &mut TenantConn, user: UserId) -> QueryResult<Vec<String>> {
    let names =
        "SELECT t.name FROM teams t JOIN team_members m ON m.team_id = t.id WHERE m.user_id = $1 ORDER BY t.name";
    let names: Vec<Name> = diesel::sql_query(names).bind::<SqlUuid, _>(user.uuid()).load(conn).await?;
    Ok(names.into_iter().map(|row| row.name).collect())
}

impl ClaimRules {
    /// As the policy's row has them. What cannot be read is none: it keeps nobody from signing in.
    pub(super) fn read(row: Value) -> Self {
        serde_json::from_value(row).map(Self).unwrap_or_default()
    }

    /// What clients see.
    pub(super) fn list(self) -> Vec<TokenClaim> {
        self.0
    }

    /// What they come to for a person with these roles. A statement more for each of permissions and teams, if they are
    /// asked for.
    pub async fn of(
        &self,
        conn: &mut TenantConn,
        db: &TenantDb,
        (user, roles): (&UserRow, &[String]),
    ) -> ApiResult<Claims> {
        let mut claims = Claims::default();
        for claim in &self.0 {
            let value = match claim.source {
                ClaimSource::Roles => Some(roles.into()),
                ClaimSource::Permissions => Some(teams::store::permissions_of_user(conn, user.id).await?.into()),
                ClaimSource::Teams => Some(teams_of(conn, user.id).await?.into()),
                _ => claim.at_hand(db.tenant(), Some(user)),
            };
            claims.put(&claim.name, value);
        }
        Ok(claims)
    }

    /// What they come to in the token of an app with these scopes, which acts for this person or in its own name.
    pub fn of_app(&self, db: &TenantDb, person: Option<&UserRow>, scopes: &[String]) -> Claims {
        let mut claims = Claims::default();
        for claim in self.0.iter().filter(|claim| claim.source.is_for_app(scopes)) {
            claims.put(&claim.name, claim.at_hand(db.tenant(), person));
        }
        claims
    }

    fn checked(claims: Vec<TokenClaim>) -> ApiResult<Self> {
        if claims.len() > MOST {
            return Err(ApiError::invalid_field("tokenClaims", "too_many", format!("There can be {MOST} at most.")));
        }
        let mut names = BTreeSet::new();
        let mut constants = Claims::default();
        for (at, TokenClaim { name, source, value }) in claims.iter().enumerate() {
            if !names.insert(name) {
                let said = "Another one has this name.";
                return Err(ApiError::invalid_field(format!("tokenClaims[{at}].name"), "duplicate", said));
            }
            let said = match (source, value) {
                (ClaimSource::Constant, None) => "A constant has a value.",
                (ClaimSource::Constant, Some(value)) => {
                    constants.put(name, Some(value.as_str().into()));
                    continue;
                }
                (_, Some(_)) => "Only a constant has one.",
                (_, None) => continue,
            };
            return Err(ApiError::invalid_field(format!("tokenClaims[{at}].value"), "invalid", said));
        }
        match constants.left_out.as_slice().first() {
            None => Ok(Self(claims)),
            Some(name) => Err(too_large(name)),
        }
    }
}

fn too_large(name: &str) -> ApiError {
    let said = format!("They may take {MOST_BYTES} bytes altogether: there is no room for '{name}'.");
    ApiError::invalid_field("tokenClaims", "too_large", said)
}

/// Changes them: refused if they have no room in the token of whoever changes them.
pub(super) async fn set(
    conn: &mut TenantConn,
    db: &TenantDb,
    change: Patch<Vec<TokenClaim>>,
    by: UserId,
) -> ApiResult<()> {
    let rules = match change {
        Patch::Absent => return Ok(()),
        Patch::Null => ClaimRules::default(),
        Patch::Value(claims) => ClaimRules::checked(claims)?,
    };
    if let Some(name) = preview(conn, db, &rules, by).await?.left_out.as_slice().first() {
        return Err(too_large(name));
    }
    let row = serde_json::to_value(&rules.0).map_err(ApiError::internal)?;
    diesel::update(p::table.find(true)).set(p::token_claims.eq(row)).execute(conn).await?;
    Ok(())
}

/// What the claims come to for a person.
pub(super) async fn preview(
    conn: &mut TenantConn,
    db: &TenantDb,
    rules: &ClaimRules,
    user: UserId,
) -> ApiResult<Claims> {
    let user = crate::tenant::users::store::get(conn, user).await?;
    let roles = teams::all_roles(conn, db, &user).await?;
    rules.of(conn, db, (&user, &roles)).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(name: &str, source: ClaimSource, value: Option<&str>) -> TokenClaim {
        TokenClaim { name: name.to_owned(), source, value: value.map(str::to_owned) }
    }

    #[test]
    fn names_that_mean_something_are_refused() {
        for good in ["https://acme.example/plan", "email", "groups", "acme_team", "urn:acme:x"] {
            assert!(claim(good, ClaimSource::Email, None).validate().is_ok(), "{good}");
        }
        for bad in ["", "iss", "sub", "ROLES", "scope", "client_id", "tid", "act", "nbf", "a b", "1a", "é", "__proto__"]
        {
            assert!(claim(bad, ClaimSource::Email, None).validate().is_err(), "{bad}");
        }
    }

    #[test]
    fn claims_are_bounded() {
        let code = |claims: Vec<TokenClaim>| ClaimRules::checked(claims).unwrap_err().fields()[0].code.clone();
        let constant = |name: &str| claim(name, ClaimSource::Constant, Some("x"));
        assert_eq!(code(vec![constant("a"), constant("a")]), "duplicate");
        assert_eq!(code((0..=MOST).map(|at| constant(&format!("c{at}"))).collect()), "too_many");
        assert_eq!(code(vec![claim("a", ClaimSource::Constant, None)]), "invalid");
        assert_eq!(code(vec![claim("a", ClaimSource::Roles, Some("x"))]), "invalid");
        let long = "x".repeat(200);
        let large: Vec<_> = (0..6).map(|at| claim(&format!("c{at}"), ClaimSource::Constant, Some(&long))).collect();
        assert_eq!(code(large), "too_large");
        let mut claims = Claims::default();
        claims.put("large", Some("x".repeat(MOST_BYTES).into()));
        claims.put("small", Some(1.into()));
        assert_eq!((claims.said.len(), claims.left_out), (1, vec!["large".to_owned()]));
    }
}
