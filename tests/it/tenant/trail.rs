//! What is noted of changes of people, roles and teams, and who is told.

use reqwest::Method;
use serde_json::{Value, json};
use tenantry::testing::{Tenant, TestApp};

use crate::support::authenticator::{code, code_at};
use crate::support::{db, unique};

const PASSWORD: &str = "an uncommon sentence of five words";

async fn noted(tenant: &Tenant, which: &str) -> String {
    let noted = format!("SELECT string_agg(action, ' ' ORDER BY id) AS word FROM audit WHERE {which}");
    db::word(tenant.database(), &noted).await
}

async fn told(tenant: &Tenant, id: &str) -> String {
    let told =
        format!("SELECT count(*)::text AS word FROM mail_outbox WHERE kind = 'security-notice' AND user_id = '{id}'");
    db::word(tenant.database(), &told).await
}

#[actix_web::test]
async fn what_is_done_with_people_is_noted() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let admin = acme.another_login().await;
    let email = |name: &str| format!("{}@example.com", unique(name));
    let body = json!({"email": email("p"), "firstName": "P", "lastName": "P", "password": PASSWORD, "roles": ["user"]});
    let id = admin.post("/api/v1/users", body).await.expect(201).id();
    let path = format!("/api/v1/users/{id}");
    for change in [
        json!({"firstName": "Q"}),
        json!({"email": email("q")}),
        json!({"password": "quite another sentence of words"}),
        json!({"status": "deactivated"}),
        json!({"status": "active"}),
        json!({"roles": ["admin"]}),
    ] {
        admin.patch(&path, change).await.expect(200);
    }
    let role = db::word(acme.database(), "SELECT id::text AS word FROM roles WHERE name = 'admin'").await;
    admin.delete(&format!("{path}/roles/{role}")).await.expect(200);
    for _ in 0..2 {
        admin.post(&format!("{path}/roles"), json!({"roleId": role})).await.expect(200);
    }
    let team = admin.post("/api/v1/teams", json!({"name": unique("team"), "roles": []})).await.expect(201).id();
    let team = format!("/api/v1/teams/{team}");
    for _ in 0..2 {
        admin.put(&format!("{team}/members/{id}"), Value::Null).await.expect(204);
    }
    admin.delete(&format!("{team}/members/{id}")).await.expect(204);
    let about = format!("user_id = '{id}'");
    let expected = "user.created user.email_changed user.password_set user.deactivated user.activated role.given \
                    role.taken role.taken role.given team.member_added team.member_removed";
    assert_eq!(noted(&acme, &about).await, expected);
    let by = format!("{about} AND actor <> 'user:{}'", admin.user_id().await);
    assert_eq!(noted(&acme, &by).await, "");
    admin.delete(&path).await.expect(204);
    assert_eq!(noted(&acme, &format!("reason = '{id}' AND user_id IS NULL")).await, "user.removed");

    admin.patch(&team, json!({"roles": ["user"]})).await.expect(200);
    admin.delete(&team).await.expect(204);
    let role = admin.post("/api/v1/roles", json!({"name": unique("r"), "permissions": []})).await.expect(201).id();
    let role = format!("/api/v1/roles/{role}");
    admin.patch(&role, json!({"permissions": ["contacts:read"]})).await.expect(200);
    admin.delete(&role).await.expect(204);
    let expected = "team.created team.changed team.removed role.created role.changed role.removed";
    let about_them = "action ~ '^(team|role)[.](created|changed|removed)$'";
    assert_eq!(noted(&acme, about_them).await, expected);
    // A program is named as what it is.
    let key = json!({"name": "k", "scopes": ["roles:write", "contacts:read"]});
    let key = admin.post("/api/v1/api-keys", key).await.expect(201);
    let program = acme.anonymous().with("x-api-key", key.data()["key"].as_str().expect("the key"));
    program.post("/api/v1/roles", json!({"name": unique("r"), "permissions": []})).await.expect(201);
    let by = format!("action = 'role.created' AND actor = 'key:{}'", key.id());
    assert_eq!(noted(&acme, &by).await, "role.created");
}

/// Whoever knows the id of a request finds what it did, in lines of every kind.
#[actix_web::test]
async fn every_line_says_which_request_it_was_written_for() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let admin = acme.another_login().await;
    let ids = ["made", "changed", "role"].map(|what| unique(&format!("abc-{what}_1.")));
    let [made, changed, role] = ids.each_ref().map(|id| admin.with("x-request-id", id));
    let email = |name: &str| format!("{}@example.com", unique(name));
    let invited = json!({"email": email("i"), "firstName": "I", "lastName": "I", "roles": []});
    let id = made.post("/api/v1/users", invited).await.expect(201).id();
    changed.patch(&format!("/api/v1/users/{id}"), json!({"email": email("j")})).await.expect(200);
    let nothing = || json!({"name": unique("r"), "permissions": []});
    role.post("/api/v1/roles", nothing()).await.expect(201);
    let expected = ["invitation.sent user.created", "invitation.voided user.email_changed", "role.created"];
    for (id, expected) in ids.iter().zip(expected) {
        let lines = noted(&acme, &format!("request_id = '{id}'")).await;
        let mut actions: Vec<_> = lines.split(' ').collect();
        actions.sort_unstable();
        assert_eq!(actions.join(" "), expected, "{id}");
    }
    // Whoever gives none is told the one that it was given.
    let answer = admin.post("/api/v1/roles", nothing()).await.expect(201);
    let given = answer.header("x-request-id").expect("an id");
    assert_eq!(noted(&acme, &format!("request_id = '{given}'")).await, "role.created");
}

/// What changes how somebody comes in stands there too where they do it themselves.
#[actix_web::test]
async fn what_people_do_with_how_they_come_in_is_noted() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let email = format!("{}@example.com", unique("p"));
    let body = json!({"email": email, "firstName": "P", "lastName": "P", "roles": ["user"]});
    let made = acme.admin().post("/api/v1/users", body).await.expect(201);
    let accept = json!({
        "tenant": acme.slug.as_str(), "email": email, "password": PASSWORD,
        "invitation": made.data()["invitationToken"],
    });
    acme.anonymous().post("/api/v1/auth/register", accept).await.expect(201);
    let who = acme.person(&email, PASSWORD);
    let totp = "/api/v1/auth/mfa/totp";
    let told = who.post(totp, json!({})).await.expect(200);
    let seed = told.data()["secret"].as_str().expect("a seed");
    who.post(&format!("{totp}/confirm"), json!({"code": code(app, seed)})).await.expect(200);
    let next = json!({"code": code_at(app, seed, 30)});
    let codes = who.post("/api/v1/auth/mfa/recovery-codes", next).await.expect(200);
    let spare = json!({"code": codes.data()["recoveryCodes"][0]});
    who.post(&format!("{totp}/remove"), spare).await.expect(204);
    let change = json!({"currentPassword": PASSWORD, "newPassword": "quite another sentence of words"});
    who.post("/api/v1/auth/change-password", change).await.expect(204);
    let by_themselves = format!("user_id = '{0}' AND actor = 'user:{0}'", made.id());
    let expected = "invitation.accepted second_factor.added recovery_codes.renewed second_factor.removed \
                    password.changed";
    assert_eq!(noted(&acme, &by_themselves).await, expected);
    // Nor does an administrator change in silence how people are written to.
    acme.admin().patch("/api/v1/mail-settings", json!({"language": "fr"})).await.expect(200);
    let line = "action = 'mail_settings.changed' AND reason LIKE 'language: fr, was %'";
    assert_eq!(noted(&acme, line).await, "mail_settings.changed");
}

#[actix_web::test]
async fn a_second_factor_that_a_login_demands_is_noted_too() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let demand = json!({"mfaRequiredRoles": ["admin"]});
    acme.another_login().await.patch("/api/v1/security-policy", demand).await.expect(200);
    let asked = acme.log_in_as(acme.email(), acme.password()).await.expect(200);
    let (nobody, mfa) = (acme.anonymous(), asked.data()["mfaToken"].clone());
    let told = nobody.post("/api/v1/auth/mfa/enrolment", json!({"mfaToken": mfa})).await.expect(200);
    let seed = told.data()["secret"].as_str().expect("a seed");
    let confirm = json!({"mfaToken": mfa, "code": code(app, seed)});
    nobody.post("/api/v1/auth/mfa/enrolment/confirm", confirm).await.expect(200);
    assert_eq!(noted(&acme, "action LIKE 'second_factor.%'").await, "second_factor.added");
}

/// The longest list of rights there is does not fit into a line: the deed is done, and noted as far as it fits.
#[actix_web::test]
async fn a_role_with_every_right_is_changed_and_noted() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let admin = acme.admin();
    let catalog = admin.get("/api/v1/permissions?pageSize=100").await.expect(200);
    let every: Vec<_> = catalog.data().as_array().expect("a list").iter().map(|right| &right["name"]).collect();
    let (name, longest) = (unique("everything"), unique(&"n".repeat(40)));
    let role = admin.post("/api/v1/roles", json!({"name": name, "permissions": every})).await.expect(201).id();
    let path = format!("/api/v1/roles/{role}");
    admin.patch(&path, json!({"name": longest})).await.expect(200);
    admin.patch(&path, json!({"permissions": []})).await.expect(200);
    admin.patch(&path, json!({"permissions": every})).await.expect(200);
    admin.delete(&path).await.expect(204);
    let lines = format!("reason LIKE '%{role}%'");
    assert_eq!(noted(&acme, &lines).await, "role.created role.changed role.changed role.changed role.removed");
    let cut = format!("{lines} AND length(reason) = 500");
    assert_ne!(noted(&acme, &cut).await, "", "no list was too long for a line: this shows nothing");
}

#[actix_web::test]
async fn whom_a_directory_changes_is_told() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let admin = acme.another_login().await;
    let me = admin.user_id().await;
    let before: u32 = told(&acme, &me).await.parse().unwrap();
    let made = admin.post("/api/v1/scim-tokens", json!({"name": unique("directory")})).await.expect(201);
    assert_eq!(told(&acme, &me).await, (before + 1).to_string(), "as of an API key");
    let scim = acme.anonymous().bearing(made.data()["token"].as_str().expect("the token"));
    let send = async |method: Method, path: &str, body: Value| {
        scim.send(method, path, Some(("application/scim+json", body.to_string()))).await
    };
    let name = unique("grace");
    let address = |at: &str| json!([{"value": format!("{name}@{at}"), "type": "work", "primary": true}]);
    let body = json!({"userName": name, "active": true, "emails": address("acme.test")});
    let made = send(Method::POST, "/scim/v2/Users", body).await.expect(201);
    let id = made.body["id"].as_str().expect("an id").to_owned();
    let path = format!("/scim/v2/Users/{id}");
    for (path_of, value, notices) in [
        ("name.givenName", json!("Grace"), "0"),
        ("emails", address("new.test"), "1"),
        ("active", json!(false), "2"),
        ("active", json!(true), "3"),
    ] {
        let change = json!({"Operations": [{"op": "replace", "path": path_of, "value": value}]});
        send(Method::PATCH, &path, change).await.expect(200);
        assert_eq!(told(&acme, &id).await, notices, "{path_of}");
    }
    let expected = "scim.user_created scim.user_email_changed scim.user_deactivated scim.user_activated";
    assert_eq!(noted(&acme, &format!("user_id = '{id}'")).await, expected);
    // An address at home is none to come in with.
    let home = json!([{"op": "replace", "path": "emails[type eq \"home\"].value", "value": "grace@home.test"}]);
    let refused = send(Method::PATCH, &path, json!({"Operations": home})).await.expect(400);
    assert_eq!(refused.body["scimType"], "noTarget");
    assert!(scim.get(&path).await.expect(200).body["emails"][0]["value"].as_str().unwrap().ends_with("new.test"));
    scim.delete(&path).await.expect(204);
    let removed = "SELECT count(*)::text AS word FROM mail_outbox WHERE kind = 'security-notice'";
    assert_eq!(db::word(acme.database(), removed).await.parse::<u32>().unwrap(), before + 5);
}
