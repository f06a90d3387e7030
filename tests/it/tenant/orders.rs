//! Everybody holds the same things in the same order, so that no two wait for each other: teams, administrators,
//! people, roles, invitations.

use diesel_async::SimpleAsyncConnection as _;
use futures_util::future::join;
use reqwest::Method;
use serde_json::{Value, json};
use tenantry::testing::{Answer, Tenant, TestApp};

use crate::support::smtp::shared;
use crate::support::{db, eventually, seconds, unique};

const PASSWORD: &str = "an uncommon sentence of five words";

/// Has a request wait for what `first` takes, and then takes what `then` says: the request must not have it.
pub(super) async fn in_order(
    tenant: &Tenant,
    request: impl Future<Output = Answer>,
    first: &str,
    then: &str,
) -> Answer {
    let mut holder = db::open(tenant.database()).await;
    holder.batch_execute(&format!("BEGIN; {first}")).await.expect("nobody has it");
    let overtake = async {
        let waits = "SELECT count(*)::text AS word FROM pg_stat_activity WHERE datname = current_database() \
                     AND wait_event_type = 'Lock'";
        let waits = async || db::word(tenant.database(), waits).await != "0";
        eventually(seconds(30), "the request waits", waits).await;
        holder.batch_execute(then).await.unwrap_or_else(|error| panic!("{then}: {error}"));
        holder.batch_execute("COMMIT").await.expect("a commit");
    };
    join(request, overtake).await.0
}

async fn person(tenant: &Tenant) -> String {
    let email = format!("{}@example.com", unique("p"));
    let body = json!({"email": email, "firstName": "P", "lastName": "P", "password": PASSWORD, "roles": ["user"]});
    tenant.admin().post("/api/v1/users", body).await.expect(201).id()
}

#[actix_web::test]
async fn teams_are_held_before_people() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let admin = acme.another_login().await;
    let (from, to) = (person(&acme).await, person(&acme).await);
    let team = "LOCK TABLE teams IN SHARE ROW EXCLUSIVE MODE";
    let person = format!("SELECT 1 FROM users WHERE id = '{from}' FOR UPDATE NOWAIT");
    let path = format!("/api/v1/users/{from}/reassign");
    in_order(&acme, admin.post(&path, json!({"to": to})), team, &person).await.expect(200);
    let path = format!("/api/v1/users/{from}?reassignTo={to}");
    in_order(&acme, admin.delete(&path), team, &person).await.expect(204);
}

#[actix_web::test]
async fn teams_are_held_before_the_people_of_a_role() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let admin = acme.another_login().await;
    let (id, role) = (person(&acme).await, json!({"name": unique("role"), "permissions": []}));
    let role = admin.post("/api/v1/roles", role).await.expect(201).id();
    admin.post(&format!("/api/v1/users/{id}/roles"), json!({"roleId": role})).await.expect(200);
    let team = "LOCK TABLE teams IN SHARE ROW EXCLUSIVE MODE";
    let person = format!("SELECT 1 FROM users WHERE id = '{id}' FOR UPDATE NOWAIT");
    let path = format!("/api/v1/roles/{role}");
    in_order(&acme, admin.patch(&path, json!({"name": unique("role")})), team, &person).await.expect(200);
    in_order(&acme, admin.delete(&path), team, &person).await.expect(204);
}

#[actix_web::test]
async fn roles_are_held_before_their_mark() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let admin = acme.another_login().await;
    let role = unique("role");
    admin.post("/api/v1/roles", json!({"name": role, "permissions": []})).await.expect(201);
    let team = admin.post("/api/v1/teams", json!({"name": unique("team"), "roles": ["user"]})).await.expect(201).id();
    let removed = format!("SELECT 1 FROM roles WHERE name = '{role}' FOR UPDATE");
    let path = format!("/api/v1/teams/{team}");
    let change = admin.patch(&path, json!({"roles": [role]}));
    in_order(&acme, change, &removed, "SELECT 1 FROM roles_mark FOR UPDATE NOWAIT").await.expect(200);
}

/// A role that is given is not made to allow more meanwhile: whoever gives it is asked for what it allows then.
#[actix_web::test]
async fn whoever_gives_a_role_that_is_raised_has_all_that_it_allows() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let admin = acme.another_login().await;
    let rights = ["users:read", "users:write", "teams:read", "teams:write"];
    let own = json!({"name": unique("own"), "permissions": rights});
    let own = admin.post("/api/v1/roles", own).await.expect(201).data()["name"].clone();
    let email = format!("{}@example.com", unique("giver"));
    let body = json!({"email": email, "firstName": "G", "lastName": "G", "password": PASSWORD, "roles": [own]});
    admin.post("/api/v1/users", body).await.expect(201);
    let giver = acme.person(&email, PASSWORD);
    giver.signed_in().await;
    let nobody = |role: &str| json!({"email": format!("{}@example.com", unique("n")), "firstName": "N", "lastName": "N", "roles": [role]});
    let team = async |roles: Value| {
        let body = json!({"name": unique("team"), "roles": roles});
        format!("/api/v1/teams/{}", admin.post("/api/v1/teams", body).await.expect(201).id())
    };
    for (way, field) in [
        ("a person", "roles"),
        ("an import", "users"),
        ("a team", "roles"),
        ("a team below", "parentId"),
        ("a team put below", "parentId"),
    ] {
        let role = unique("role");
        admin.post("/api/v1/roles", json!({"name": role, "permissions": []})).await.expect(201);
        let above = team(json!([role])).await;
        let above_id = above.rsplit('/').next().expect("an id");
        let moved = team(json!([])).await;
        let request = async {
            match way {
                "a person" => giver.post("/api/v1/users", nobody(&role)).await,
                "an import" => giver.post("/api/v1/users/import", json!({"users": [nobody(&role)]})).await,
                "a team" => giver.post("/api/v1/teams", json!({"name": unique("team"), "roles": [role]})).await,
                "a team below" => {
                    giver.post("/api/v1/teams", json!({"name": unique("team"), "parentId": above_id})).await
                }
                _ => giver.patch(&moved, json!({"parentId": above_id})).await,
            }
        };
        let held = format!("SELECT 1 FROM roles WHERE name = '{role}' FOR UPDATE");
        let raised = format!(
            "INSERT INTO role_permissions (role_id, permission_id) \
             SELECT r.id, p.id FROM roles r, permissions p WHERE r.name = '{role}' AND p.name = 'roles:write'"
        );
        let refused = in_order(&acme, request, &held, &raised).await;
        assert_eq!(refused.invalid(), [(field.to_owned(), "beyond_own_permissions".to_owned())], "{way}");
    }
}

#[actix_web::test]
async fn a_person_is_held_before_their_invitation() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let email = format!("{}@example.com", unique("b"));
    let body = json!({"email": email, "firstName": "B", "lastName": "B"});
    let made = acme.admin().post("/api/v1/users", body).await.expect(201);
    let token = made.data()["invitationToken"].as_str().expect("a token");
    let body = json!({"tenant": acme.slug.as_str(), "email": email, "password": PASSWORD, "invitation": token});
    let held = format!("SELECT 1 FROM users WHERE id = '{}' FOR UPDATE", made.id());
    let then = format!("SELECT 1 FROM invitations WHERE user_id = '{}' FOR UPDATE NOWAIT", made.id());
    let nobody = acme.anonymous();
    in_order(&acme, nobody.post("/api/v1/auth/register", body), &held, &then).await.expect(201);
}

#[actix_web::test]
async fn a_person_is_held_before_the_links_in_their_mails() {
    let (app, smtp) = shared().await;
    let acme = app.tenant("acme").await;
    let (admin, nobody) = (acme.another_login().await, acme.anonymous());
    let (id, other) = (admin.user_id().await, person(&acme).await);
    let held = format!("SELECT 1 FROM users WHERE id = '{id}' FOR UPDATE");
    let of = |table: &str| format!("SELECT 1 FROM {table} WHERE user_id = '{id}' FOR UPDATE NOWAIT");

    let new = format!("{}@example.com", unique("new"));
    admin.post("/api/v1/users/me/email", json!({"email": new})).await.expect(202);
    let confirm = json!({"token": smtp.letter(&new, "new address of your account").await.token()});
    let approve = json!({"token": smtp.letter(acme.email(), &new).await.token()});
    let path = "/api/v1/auth/confirm-email";
    nobody.post(path, confirm).await.expect(204);
    in_order(&acme, nobody.post(path, approve), &held, &of("email_changes")).await.expect(204);

    let forgot = json!({"tenant": acme.slug.as_str(), "email": new});
    nobody.post("/api/v1/auth/forgot-password", forgot).await.expect(202);
    let token = smtp.letter(&new, "Choose a new password").await.token();
    let reset = nobody.post("/api/v1/auth/reset-password", json!({"token": token, "newPassword": PASSWORD}));
    in_order(&acme, reset, &held, &of("account_tokens")).await.expect(204);
    acme.log_in_as(&new, PASSWORD).await.expect(200);

    // An administrator who sets it, too.
    let email = db::word(acme.database(), &format!("SELECT email AS word FROM users WHERE id = '{other}'")).await;
    let forgot = json!({"tenant": acme.slug.as_str(), "email": email});
    nobody.post("/api/v1/auth/forgot-password", forgot).await.expect(202);
    smtp.letter(&email, "Choose a new password").await;
    let held = format!("SELECT 1 FROM users WHERE id = '{other}' FOR UPDATE");
    let then = format!("SELECT 1 FROM account_tokens WHERE user_id = '{other}' FOR UPDATE NOWAIT");
    let admin = acme.person(&new, PASSWORD);
    admin.get("/api/v1/users/me").await.expect(200);
    let set = json!({"password": "a sentence that an administrator made up"});
    in_order(&acme, admin.patch(&format!("/api/v1/users/{other}"), set), &held, &then).await.expect(200);
}

#[actix_web::test]
async fn administrators_are_held_before_people() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let made = acme.admin().post("/api/v1/scim-tokens", json!({"name": "directory"})).await.expect(201);
    let scim = acme.anonymous().bearing(made.data()["token"].as_str().expect("a token"));
    let member = person(&acme).await;
    let group = json!({"displayName": unique("group"), "members": [{"value": member}]}).to_string();
    let group = scim.send(Method::POST, "/scim/v2/Groups", Some(("application/scim+json", group))).await.expect(201);
    let path = format!("/scim/v2/Groups/{}", group.body["id"].as_str().expect("an id"));
    let admins = "SELECT 1 FROM roles WHERE name = 'admin' FOR NO KEY UPDATE";
    let then = format!("SELECT 1 FROM users WHERE id = '{member}' FOR UPDATE NOWAIT");
    in_order(&acme, scim.delete(&path), admins, &then).await.expect(204);

    let admin = acme.another_login().await;
    let role = admin.post("/api/v1/roles", json!({"name": unique("role")})).await.expect(201).id();
    admin.post(&format!("/api/v1/users/{member}/roles"), json!({"roleId": role})).await.expect(200);
    let path = format!("/api/v1/roles/{role}");
    let change = json!({"name": unique("role"), "permissions": ["contacts:read"]});
    in_order(&acme, admin.patch(&path, change), admins, &then).await.expect(200);
    in_order(&acme, admin.delete(&path), admins, &then).await.expect(204);
}

#[actix_web::test]
async fn people_are_held_in_the_order_of_their_ids() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let admin = acme.another_login().await;
    let mut both = [person(&acme).await, person(&acme).await];
    both.sort();
    let [to, from] = both;
    let first = format!("SELECT 1 FROM users WHERE id = '{to}' FOR UPDATE");
    let then = format!("SELECT 1 FROM users WHERE id = '{from}' FOR UPDATE NOWAIT");
    let path = format!("/api/v1/users/{from}/reassign");
    in_order(&acme, admin.post(&path, json!({"to": to})), &first, &then).await.expect(200);
    let path = format!("/api/v1/users/{from}?reassignTo={to}");
    in_order(&acme, admin.delete(&path), &first, &then).await.expect(204);
}

/// Whoever may not do something keeps nobody waiting by asking for it.
#[actix_web::test]
async fn a_role_that_stays_as_it_is_holds_nobody() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let admin = acme.another_login().await;
    let own = admin.post("/api/v1/roles", json!({"name": unique("role")})).await.expect(201);
    let id = person(&acme).await;
    let roles = json!({"roles": ["admin", "user", own.data()["name"]]});
    admin.patch(&format!("/api/v1/users/{id}"), roles).await.expect(200);
    let own = format!("/api/v1/roles/{}", own.id());
    let stale = admin.get(&own).await.expect(200).header("etag").expect("an ETag").to_owned();
    admin.patch(&own, json!({"description": "Looks"})).await.expect(200);
    let known = "SELECT id::text AS word FROM roles WHERE name IN ('admin', 'user')";
    let known = db::words(acme.database(), known).await;

    let mut holder = db::open(acme.database()).await;
    let admins = "SELECT 1 FROM roles WHERE name = 'admin' FOR NO KEY UPDATE";
    let held = format!("BEGIN; {admins}; SELECT 1 FROM users WHERE id = '{id}' FOR UPDATE");
    holder.batch_execute(&held).await.expect("nobody has it");
    let change = || json!({"name": unique("role"), "permissions": []});
    for role in &known {
        let path = format!("/api/v1/roles/{role}");
        admin.delete(&path).await.refused(409, "conflict");
        admin.patch(&path, change()).await.refused(409, "conflict");
    }
    let late = admin.with("if-match", &stale);
    late.delete(&own).await.refused(412, "version_mismatch");
    late.patch(&own, change()).await.refused(412, "version_mismatch");
    holder.batch_execute("COMMIT").await.expect("a commit");
}

#[actix_web::test]
async fn sessions_are_held_before_their_tokens() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let admin = acme.another_login().await;
    let shorter = admin.patch("/api/v1/security-policy", json!({"session": {"idleMinutes": 30}}));
    let (held, then) = ("SELECT 1 FROM sessions FOR UPDATE", "SELECT 1 FROM refresh_tokens FOR UPDATE NOWAIT");
    in_order(&acme, shorter, held, then).await.expect(200);
}
