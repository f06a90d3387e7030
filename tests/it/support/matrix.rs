//! The cross-tenant matrix: every operation × every attacker × the ids of another tenant's objects.
//!
//! It reports instead of asserting, so that a test which turns a guard off can see the attacks get through.

use std::collections::BTreeMap;

use serde_json::json;
use tenantry::router::Target;
use tenantry::testing::{Answer, Persona, Tenant, TestApp};

use super::jwt::forge_of;
use super::openapi::{OpenApi, Operation};
use super::{db, unique};

/// The operations that take no token, reviewed one by one: each names its tenant itself, or makes one, or is how an
/// operator gets a token, or shows a stranger what became of their own sign-up.
pub(crate) const OPEN: &[&str] = &[
    "GET /api/v1/auth/captcha",
    "GET /api/v1/jobs/{id}",
    "POST /api/v1/admin/auth/login",
    "POST /api/v1/admin/auth/mfa",
    "POST /api/v1/auth/confirm-email",
    "POST /api/v1/auth/federation/callback",
    "POST /api/v1/auth/federation/{provider}/start",
    "POST /api/v1/auth/forgot-password",
    "POST /api/v1/auth/login",
    "POST /api/v1/auth/mfa",
    "POST /api/v1/auth/mfa/enrolment",
    "POST /api/v1/auth/mfa/enrolment/confirm",
    "POST /api/v1/auth/mfa/webauthn",
    "POST /api/v1/auth/mfa/webauthn/options",
    "POST /api/v1/auth/passkeys/login",
    "POST /api/v1/auth/passkeys/login/options",
    "POST /api/v1/auth/refresh",
    "POST /api/v1/auth/register",
    "POST /api/v1/auth/reset-password",
    "POST /api/v1/auth/verify-email",
    "POST /api/v1/auth/verify-email/resend",
    "POST /api/v1/tenants",
];

/// Parameters that name nothing of a tenant: what each has under the same name.
const ALIKE: &[(&str, &str)] = &[("mail-templates", "name"), ("{name}", "language")];

/// A tenant with an object of each kind, and a word in them that no other tenant may ever see.
pub(crate) struct Party {
    pub(crate) tenant: Tenant,
    pub(crate) canary: String,
    /// What its directory comes with.
    directory: String,
    /// Ids by `collection/parameter`, and by the name of a body's field.
    pub(crate) ids: BTreeMap<String, String>,
}

impl Party {
    /// Provisions the tenant and its objects. A new kind of object goes in here.
    pub(crate) async fn new(app: &TestApp, name: &str) -> Self {
        let tenant = app.tenant(name).await;
        let canary = unique("canary-");
        let admin = tenant.admin();
        let contact = json!({
            "lastName": canary, "company": canary, "notes": canary, "tags": [canary],
            "emails": [{"label": "work", "value": format!("{canary}@example.com")}],
        });
        let contact = admin.post("/api/v1/contacts", contact).await.expect(201).id();
        let user = json!({"email": format!("{canary}@example.com"), "firstName": canary, "lastName": canary});
        let user = admin.post("/api/v1/users", user).await.expect(201).id();
        let roles = admin.get("/api/v1/roles").await.expect(200);
        let role = roles.data()[0]["id"].as_str().expect("a role's id").to_owned();
        let job = format!("SELECT id::text AS word FROM operations WHERE tenant_id = '{}'", tenant.id);
        let job = db::word(app.control_database(), &job).await;
        let key = json!({"name": canary, "scopes": ["contacts:read"]});
        let key = admin.post("/api/v1/api-keys", key).await.expect(201).id();
        let session =
            admin.get("/api/v1/auth/sessions").await.expect(200).data()[0]["id"].as_str().expect("one").to_owned();
        let device = format!(
            "INSERT INTO trusted_devices (id, user_id, token_hash, user_agent, created_at, last_used_at, expires_at) \
             SELECT gen_random_uuid(), id, sha256(id::text::bytea), '{canary}', now(), now(), now() + interval '1 day' \
             FROM users WHERE email = '{}' RETURNING id::text AS word",
            tenant.email()
        );
        let device = db::word(tenant.database(), &device).await;
        let passkey = format!(
            "INSERT INTO passkeys (id, user_id, name, credential_id, credential, created_at) \
             SELECT gen_random_uuid(), id, '{canary}', sha256(id::text::bytea), '{{}}', now() \
             FROM users WHERE email = '{}' RETURNING id::text AS word",
            tenant.email()
        );
        let passkey = db::word(tenant.database(), &passkey).await;
        let team = json!({"name": canary, "description": canary, "roles": []});
        let team = admin.post("/api/v1/teams", team).await.expect(201).id();
        let member = format!("/api/v1/teams/{team}/members/{user}");
        admin.put(&member, serde_json::Value::Null).await.expect(204);
        let provider = json!({
            "slug": "canary", "name": canary, "kind": "google", "clientId": canary, "defaultRole": "user",
            "redirectUris": [format!("https://{canary}.example.com/callback")],
        });
        let provider = admin.post("/api/v1/identity-providers", provider).await.expect(201).id();
        let account = format!(
            "INSERT INTO social_accounts (id, user_id, provider_id, issuer, subject, email, created_at, last_used_at) \
             SELECT gen_random_uuid(), id, '{provider}', '{canary}', '{canary}', '{canary}', now(), now() \
             FROM users WHERE email = '{}' RETURNING id::text AS word",
            tenant.email()
        );
        let account = db::word(tenant.database(), &account).await;
        let issuer = json!({
            "name": canary, "issuer": canary, "audience": canary, "jwksUrl": "https://id.example.com/jwks",
            "matchBy": "email",
        });
        let issuer = admin.post("/api/v1/token-issuers", issuer).await.expect(201).id();
        let scim = admin.post("/api/v1/scim-tokens", json!({"name": canary})).await.expect(201);
        let directory = scim.data()["token"].as_str().expect("the token").to_owned();
        let ids = [
            ("scim-tokens/id", scim.id()),
            ("Users/id", user.clone()),
            ("Groups/id", role.clone()),
            ("token-issuers/id", issuer),
            ("identity-providers/id", provider),
            ("social-accounts/id", account),
            ("contacts/id", contact),
            ("passkeys/id", passkey),
            ("teams/id", team.clone()),
            ("members/userId", user.clone()),
            ("parentId", team),
            ("devices/id", device),
            ("api-keys/id", key),
            ("sessions/id", session),
            ("users/id", user.clone()),
            ("invitations/id", user.clone()),
            ("users/userId", user),
            ("roles/roleId", role.clone()),
            ("roles/id", role.clone()),
            ("roleId", role),
            ("tenants/id", tenant.id.to_string()),
            ("jobs/id", job.clone()),
            ("sign-ups/id", job),
            ("clusters/name", "local".to_owned()),
            ("mail-templates/name", "security-notice".to_owned()),
            ("{name}/language", "en".to_owned()),
        ];
        let ids = ids.into_iter().map(|(name, id)| (name.to_owned(), id)).collect();
        Self { tenant, canary, directory, ids }
    }

    fn database(&self) -> &Target {
        self.tenant.database()
    }
}

/// Somebody who wants at the victim's objects, and what they must be told.
struct Attacker {
    name: &'static str,
    persona: Persona,
    /// Allowed answers on tenants' routes, as status and code.
    told: &'static [(u16, &'static str)],
    /// The same on operators' routes; nobody is asked there who may be there.
    told_by_admin: Option<&'static [(u16, &'static str)]>,
    /// The same on routes of directories, whose errors have no code.
    told_by_directories: Option<&'static [(u16, &'static str)]>,
    /// Comes only where an object is named: elsewhere they see their own tenant, rightly.
    named_objects_only: bool,
}

/// What was tried, and what got through.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) operations: usize,
    pub(crate) attackers: usize,
    pub(crate) requests: usize,
    pub(crate) breaches: Vec<String>,
}

/// Runs the matrix at `app` against the first party, whose tokens and objects come from `home` (where all guards are
/// on; it may be the same).
pub(crate) async fn run(home: &TestApp, app: &TestApp, victim: &Party, other: &Party) -> Report {
    let openapi = OpenApi::of(app).await;
    let mut operations = openapi.operations();
    operations.retain(|operation| !OPEN.contains(&operation.name().as_str()));
    operations.extend(openapi.directory_operations());
    // Where a guard is off, these would end the sessions that the others need.
    operations.sort_by_key(|operation| operation.path.starts_with("/api/v1/auth/"));
    let attackers = attackers(home, app, victim, other).await;
    let before = (db::fingerprint(victim.database()).await, db::fingerprint(other.database()).await);
    let mut report = Report { operations: operations.len(), attackers: attackers.len(), ..Report::default() };
    for operation in &operations {
        let path = operation.fill(&victim.ids);
        let body = openapi.body(operation, &victim.ids).map(|(kind, body)| (kind, body.to_string()));
        for attacker in &attackers {
            let told = match operation {
                operation if operation.is_admin() => attacker.told_by_admin,
                operation if operation.is_of_directories() => attacker.told_by_directories,
                _ => Some(attacker.told),
            };
            let Some(told) = told else { continue };
            let names_none =
                operation.parameters().iter().all(|(of, name)| ALIKE.contains(&(of.as_str(), name.as_str())));
            if attacker.named_objects_only && (names_none || operation.is_admin()) {
                continue;
            }
            let body = body.as_ref().map(|(kind, body)| (kind.as_str(), body.clone()));
            let answer = attacker.persona.send(operation.method.clone(), &path, body).await;
            report.requests += 1;
            if let Some(breach) = breach(&answer, told, &victim.canary) {
                report.breaches.push(format!("{} as {}: {breach}", operation.name(), attacker.name));
            }
        }
    }
    let after = (db::fingerprint(victim.database()).await, db::fingerprint(other.database()).await);
    for (side, before, after) in [("victim", before.0, after.0), ("attacker", before.1, after.1)] {
        for (was, is) in before.iter().zip(&after).filter(|(was, is)| was != is) {
            report.breaches.push(format!("rows of the {side} changed: {was} became {is}"));
        }
    }
    report
}

fn breach(answer: &Answer, told: &[(u16, &str)], canary: &str) -> Option<String> {
    if answer.text.contains(canary)
        || answer.headers.values().any(|v| v.as_bytes().windows(canary.len()).any(|w| w == canary.as_bytes()))
    {
        return Some(format!("the answer ({}) holds the victim's canary", answer.status));
    }
    (!told.contains(&(answer.status, answer.code()))).then(|| format!("answered {} {}", answer.status, answer.code()))
}

async fn attackers(home: &TestApp, app: &TestApp, victim: &Party, other: &Party) -> Vec<Attacker> {
    const INVALID: &[(u16, &str)] = &[(401, "token_invalid")];
    let nobody = app.anonymous();
    let bearing = |token: &str| nobody.bearing(token);
    let (mine, theirs) = (forge_of(home, &other.tenant).await, forge_of(home, &victim.tenant).await);
    let other_token = other.tenant.admin().token().await;

    let rights = other.tenant.admin().get("/api/v1/permissions?pageSize=100").await.expect(200);
    let scopes: Vec<_> = rights.data().as_array().expect("a list").iter().map(|right| right["name"].clone()).collect();
    let key = json!({"name": "all", "scopes": scopes});
    let key = other.tenant.admin().post("/api/v1/api-keys", key).await.expect(201);
    let other_key = key.data()["key"].as_str().expect("a key").to_owned();

    let revoked = victim.tenant.another_login().await;
    revoked.post("/api/v1/auth/logout", json!({})).await.expect(204);
    let suspended = home.tenant("suspended").await;
    let suspended_token = suspended.admin().token().await;
    suspended.suspend().await;
    let there = app.anonymous().bearing(&suspended_token);
    super::eventually(super::seconds(2), "the suspension holds", async || {
        there.get("/api/v1/users/me").await.status == 403
    })
    .await;

    let attacker = |name, persona, told, told_by_admin| Attacker {
        name,
        persona,
        told,
        told_by_admin,
        told_by_directories: Some(&[(401, "")]),
        named_objects_only: false,
    };
    let directory = |name, persona, told: &'static [(u16, &str)]| Attacker {
        told_by_directories: Some(told),
        ..attacker(name, persona, INVALID, Some(INVALID))
    };
    vec![
        directory(
            "the other tenant's directory, naming the victim",
            bearing(&other.directory).with("x-tenant-id", victim.tenant.slug.as_str()),
            &[(404, "")],
        ),
        Attacker {
            named_objects_only: true,
            ..directory(
                "the other tenant's directory, with the victim's ids",
                bearing(&other.directory),
                // What is sent is looked at before whom it is for.
                &[(404, ""), (400, "")],
            )
        },
        attacker("nobody", nobody.clone(), &[(401, "unauthenticated")], Some(&[(401, "unauthenticated")])),
        attacker(
            "the other tenant's administrator, naming the victim",
            bearing(&other_token).with("x-tenant-id", victim.tenant.slug.as_str()),
            &[(404, "tenant_mismatch")],
            Some(INVALID),
        ),
        Attacker {
            named_objects_only: true,
            ..attacker(
                "a program of the other tenant, with the victim's ids",
                nobody.with("x-api-key", &other_key),
                &[(404, "not_found"), (403, "permission_denied")],
                None,
            )
        },
        attacker(
            "a program of the other tenant, naming the victim",
            nobody.with("x-api-key", &other_key).with("x-tenant-id", victim.tenant.slug.as_str()),
            &[(404, "tenant_mismatch")],
            Some(&[(401, "unauthenticated")]),
        ),
        Attacker {
            named_objects_only: true,
            ..attacker(
                "the other tenant's administrator, with the victim's ids",
                bearing(&other_token),
                &[(404, "not_found")],
                None,
            )
        },
        // The victim's claims, signed by the other tenant's key under the victim's kid, then under its own.
        attacker(
            "a holder of the other tenant's key, under the victim's kid",
            bearing(&mine.sign(&theirs.header(), &theirs.claims())),
            INVALID,
            Some(INVALID),
        ),
        attacker(
            "a holder of the other tenant's key, claiming the victim",
            bearing(&mine.claiming(&theirs.claims())),
            INVALID,
            Some(INVALID),
        ),
        attacker("an expired token", bearing(&theirs.expired()), &[(401, "token_expired")], Some(INVALID)),
        attacker("a revoked session", bearing(&revoked.token().await), &[(401, "token_revoked")], Some(INVALID)),
        attacker("a suspended tenant", there, &[(403, "tenant_suspended")], Some(INVALID)),
        attacker("an operator", bearing(&app.operator().token().await), INVALID, None),
        attacker("a refresh token", bearing(&victim.tenant.admin().refresh_token().await), INVALID, Some(INVALID)),
    ]
}

/// The operations that answer something else than "who are you?" to nobody.
pub(crate) async fn open_operations(app: &TestApp) -> Vec<String> {
    let openapi = OpenApi::of(app).await;
    let nobody = app.anonymous();
    let mut open = Vec::new();
    for operation in openapi.operations() {
        let path = fill_with_nothing(&operation);
        let body = openapi.body(&operation, &BTreeMap::new()).map(|(kind, body)| (kind, body.to_string()));
        let body = body.as_ref().map(|(kind, body)| (kind.as_str(), body.clone()));
        let answer = nobody.send(operation.method.clone(), &path, body).await;
        if (answer.status, answer.code()) != (401, "unauthenticated") {
            open.push(operation.name());
        }
    }
    open
}

/// The path with ids that nobody has.
pub(crate) fn fill_with_nothing(operation: &Operation) -> String {
    operation.parameters().iter().fold(operation.path.clone(), |path, (_, name)| {
        path.replacen(&format!("{{{name}}}"), "01890000-0000-7000-8000-000000000000", 1)
    })
}
