//! Who may sign up with an organisation, as it decides itself.

use actix_web::{get, patch, web};
use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Bool, Nullable, Text, Timestamptz};
use diesel_async::RunQueryDsl;
use garde::Validate;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::SINCE;
use crate::error::{ApiError, ApiResult, Code};
use crate::rest::{
    Authorized, Envelope, ErrorEnvelope, IfMatch, MergePatch, NoQuery, Patch, Permission, Tagged, Versioned,
};
use crate::router::tenant::words;
use crate::router::{Registration, TenantConn, TenantDb, TenantTx};
use crate::tenant::audit::{self, Entry};
use crate::tenant::auth::Auth;
use crate::tenant::docs::Refusals;
use crate::tenant::permissions::{SecurityRead, SecurityWrite};

words! {
    /// Who may sign up.
    SignUpMode {
        /// Anyone.
        Open = "open",
        /// Whoever holds an invitation.
        Invite = "invite",
        /// Whoever has an address of certain domains, and whoever holds an invitation.
        Domain = "domain",
        /// Nobody: administrators add people one by one, and do not send out invitations.
        Closed = "closed",
    }
}

impl From<Registration> for SignUpMode {
    fn from(registration: Registration) -> Self {
        match registration {
            Registration::Open => Self::Open,
            Registration::Invite => Self::Invite,
            Registration::Closed => Self::Closed,
        }
    }
}

/// May see who may sign up.
#[derive(Debug)]
pub struct SignUpRead;
impl Permission for SignUpRead {
    const NAME: &'static str = SecurityRead::NAME;
    const SCHEMA: i32 = SINCE;
}

/// May decide who may sign up.
#[derive(Debug)]
pub struct SignUpWrite;
impl Permission for SignUpWrite {
    const NAME: &'static str = SecurityWrite::NAME;
    const OVER_OTHERS: bool = true;
    const SCHEMA: i32 = SINCE;
}

#[derive(Debug, Clone, QueryableByName)]
struct Row {
    #[diesel(sql_type = Nullable<Text>)]
    mode: Option<String>,
    #[diesel(sql_type = Array<Text>)]
    domains: Vec<String>,
    #[diesel(sql_type = Bool)]
    verify_email: bool,
    #[diesel(sql_type = Timestamptz)]
    updated_at: DateTime<Utc>,
    #[diesel(sql_type = BigInt)]
    version: i64,
}

const COLUMNS: &str = "mode, domains, verify_email, updated_at, version";

/// Who may sign up, and how.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SignUpPolicy {
    /// Who may; as the operator of the service has set it, unless the organisation has.
    pub mode: SignUpMode,
    /// Whether it is the operator's.
    pub inherited: bool,
    /// Domains of the addresses that may sign up with `domain`.
    #[schema(example = json!(["acme.test"]))]
    pub domains: Vec<String>,
    /// Whether there is no account before its address is verified. Always so with `domain`.
    pub verify_email: bool,
    /// When it was last changed.
    pub updated_at: DateTime<Utc>,
    /// As in `ETag`.
    pub version: i64,
}

impl SignUpPolicy {
    fn new(row: Row, db: &TenantDb) -> ApiResult<Self> {
        let Row { mode, domains, verify_email, updated_at, version } = row;
        let own: Option<SignUpMode> = mode.map(|mode| mode.parse().map_err(ApiError::internal)).transpose()?;
        let mode = own.unwrap_or_else(|| db.tenant().registration.into());
        let verify_email = verify_email || mode == SignUpMode::Domain;
        Ok(Self { mode, inherited: own.is_none(), domains, verify_email, updated_at, version })
    }

    /// Whether somebody with this address may sign up uninvited. Whom somebody added or invited comes in by any policy.
    pub(in crate::tenant::auth) fn lets_in(&self, email: &str) -> bool {
        let domain = email.trim().rsplit_once('@').map(|(_, domain)| domain.to_lowercase()).unwrap_or_default();
        match self.mode {
            SignUpMode::Open => true,
            SignUpMode::Domain => self.domains.contains(&domain),
            SignUpMode::Invite | SignUpMode::Closed => false,
        }
    }
}

impl Versioned for SignUpPolicy {
    fn version(&self) -> i64 {
        self.version
    }
}

/// The policy of a tenant. One whose schema knows none has the operator's.
pub(in crate::tenant::auth) async fn policy_of(db: &TenantDb) -> ApiResult<SignUpPolicy> {
    db.read(async |conn: &mut TenantConn| read(conn, db).await).await
}

/// Refuses to send out invitations where the organisation takes nobody by them.
///
/// # Errors
/// 409 `conflict`.
pub(in crate::tenant) async fn may_invite(conn: &mut TenantConn, db: &TenantDb) -> ApiResult<()> {
    if read(conn, db).await?.mode != SignUpMode::Closed {
        return Ok(());
    }
    let said = "The sign-up policy is 'closed': add people with POST /api/v1/users, or allow invitations with \
                PATCH /api/v1/sign-up-policy.";
    Err(ApiError::new(Code::Conflict).detail(said))
}

/// The same, within a transaction.
pub(super) async fn read(conn: &mut TenantConn, db: &TenantDb) -> ApiResult<SignUpPolicy> {
    if db.tenant().schema_version < SINCE {
        let updated_at = db.tenant().created_at;
        let row = Row { mode: None, domains: Vec::new(), verify_email: false, updated_at, version: 1 };
        return SignUpPolicy::new(row, db);
    }
    let row: Row = diesel::sql_query(format!("SELECT {COLUMNS} FROM sign_up_policy")).get_result(conn).await?;
    SignUpPolicy::new(row, db)
}

/// A change of it.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PatchSignUpPolicy {
    /// Who may; null for what the operator of the service has set.
    #[serde(default)]
    #[garde(skip)]
    #[schema(value_type = Option<SignUpMode>)]
    pub mode: Patch<SignUpMode>,
    /// Domains of the addresses that may sign up with `domain`; null for none.
    #[serde(default)]
    #[garde(inner(length(max = 100)))]
    #[schema(value_type = Option<Vec<String>>, example = json!(["acme.test"]))]
    pub domains: Patch<Vec<String>>,
    /// Whether there is no account before its address is verified; null for not.
    #[serde(default)]
    #[garde(skip)]
    #[schema(value_type = Option<bool>)]
    pub verify_email: Patch<bool>,
}

/// Who may sign up.
#[utoipa::path(
    tag = "security",
    operation_id = "getSignUpPolicy",
    responses(
        (status = 200, description = "The policy, with `ETag`", body = Envelope<SignUpPolicy>),
        (status = 304, description = "Not changed since `If-None-Match`"),
        Refusals,
    ),
    security(("bearer" = []), ("apiKey" = [])),
)]
#[get("/api/v1/sign-up-policy")]
pub async fn get_policy(_: NoQuery, caller: Authorized<SignUpRead>) -> ApiResult<Tagged<SignUpPolicy>> {
    policy_of(&caller.db).await.map(Tagged)
}

/// Decides who may sign up.
#[utoipa::path(
    tag = "security",
    operation_id = "patchSignUpPolicy",
    request_body(content = PatchSignUpPolicy, content_type = "application/merge-patch+json"),
    params(("If-Match" = Option<String>, Header, description = "The `ETag` that was read")),
    responses(
        (status = 200, description = "As changed", body = Envelope<SignUpPolicy>),
        (status = 412, description = "`version_mismatch`", body = ErrorEnvelope),
        (status = 422, description = "Some fields are not valid", body = ErrorEnvelope),
        Refusals,
    ),
    security(("bearer" = [])),
)]
#[patch("/api/v1/sign-up-policy")]
pub async fn patch_policy(
    _: NoQuery,
    auth: web::Data<Auth>,
    caller: Authorized<SignUpWrite>,
    if_match: IfMatch,
    body: MergePatch<PatchSignUpPolicy>,
) -> ApiResult<Tagged<SignUpPolicy>> {
    let user = caller.in_person()?;
    let PatchSignUpPolicy { mode, domains, verify_email } = body.0;
    let domains = domains.or_empty().map(plain_domains).transpose()?;
    let now = auth.clock.now();
    let row = caller
        .db
        .transaction(async |conn: &mut TenantTx| -> ApiResult<Row> {
            let held = format!("SELECT {COLUMNS} FROM sign_up_policy FOR UPDATE");
            let mut row: Row = diesel::sql_query(held).get_result(conn).await?;
            if_match.check(row.version)?;
            match mode {
                Patch::Absent => {}
                Patch::Null => row.mode = None,
                Patch::Value(mode) => row.mode = Some(mode.as_str().to_owned()),
            }
            match verify_email {
                Patch::Absent => {}
                Patch::Null => row.verify_email = false,
                Patch::Value(verify) => row.verify_email = verify,
            }
            row.domains = domains.clone().unwrap_or(row.domains);
            let actor = format!("user:{user}");
            let entry = Entry { actor: &actor, action: "sign_up_policy.changed", user, session: None, reason: None };
            audit::note::<TenantConn>(conn, &entry, now).await?;
            let change = format!(
                "UPDATE sign_up_policy SET mode = $1, domains = $2, verify_email = $3, updated_at = $4, \
                 version = version + 1 RETURNING {COLUMNS}"
            );
            let change = diesel::sql_query(change)
                .bind::<Nullable<Text>, _>(&row.mode)
                .bind::<Array<Text>, _>(&row.domains)
                .bind::<Bool, _>(row.verify_email)
                .bind::<Timestamptz, _>(now);
            Ok(change.get_result(conn).await?)
        })
        .await?;
    SignUpPolicy::new(row, &caller.db).map(Tagged)
}

/// Domains in lower case, each once.
fn plain_domains(domains: Vec<String>) -> ApiResult<Vec<String>> {
    let mut plain = Vec::new();
    for (at, domain) in domains.iter().enumerate() {
        let domain = domain.trim().to_lowercase();
        let label = |label: &str| {
            !label.is_empty() && label.len() <= 63 && label.chars().all(|c| c.is_alphanumeric() || c == '-')
        };
        if domain.len() > 253 || !domain.contains('.') || !domain.split('.').all(label) {
            let said = "It is no domain, as 'example.com'.";
            return Err(ApiError::invalid_field(format!("domains[{at}]"), "invalid", said));
        }
        plain.push(domain);
    }
    plain.sort_unstable();
    plain.dedup();
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(mode: SignUpMode) -> SignUpPolicy {
        let updated_at = DateTime::from_timestamp(0, 0).unwrap();
        let domains = vec!["acme.test".to_owned()];
        SignUpPolicy { mode, inherited: false, domains, verify_email: true, updated_at, version: 1 }
    }

    #[test]
    fn a_domain_is_the_whole_domain() {
        let domain = policy(SignUpMode::Domain);
        assert!(domain.lets_in("ada@ACME.test "));
        for stranger in
            ["eve@evil.test", "eve@sub.acme.test", "eve@notacme.test", "acme.test", "eve@acme.test@evil.test"]
        {
            assert!(!domain.lets_in(stranger), "{stranger}");
        }
        assert!(!policy(SignUpMode::Closed).lets_in("ada@acme.test"));
        assert!(!policy(SignUpMode::Invite).lets_in("ada@acme.test"));
    }

    #[test]
    fn domains_are_plain() {
        let plain = plain_domains(vec![" Acme.TEST".into(), "acme.test".into(), "bücher.example".into()]).unwrap();
        assert_eq!(plain, ["acme.test", "bücher.example"]);
        for bad in ["localhost", "a..b", "*.acme.test", "a b.test", ""] {
            assert!(plain_domains(vec![bad.into()]).is_err(), "{bad}");
        }
    }
}
