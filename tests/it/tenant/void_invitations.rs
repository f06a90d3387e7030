//! An invitation is for the address and the rights that it was made with.

use serde_json::{Value, json};
use tenantry::testing::{Answer, Persona, Tenant, TestApp};

use super::orders::in_order;
use crate::support::{db, unique};

const PASSWORD: &str = "an uncommon sentence of five words";

fn address(name: &str) -> String {
    format!("{}@example.com", unique(name))
}

/// Somebody who may change people, and no more.
async fn keeper(tenant: &Tenant) -> Persona {
    let (admin, role, email) = (tenant.admin(), unique("keeper"), address("carol"));
    let permissions = json!({"name": role, "permissions": ["users:read", "users:write"]});
    admin.post("/api/v1/roles", permissions).await.expect(201);
    let body = json!({"email": email, "firstName": "C", "lastName": "C", "password": PASSWORD, "roles": [role]});
    admin.post("/api/v1/users", body).await.expect(201);
    tenant.person(&email, PASSWORD)
}

fn nobody_yet(email: &str) -> Value {
    json!({"email": email, "firstName": "B", "lastName": "B", "roles": []})
}

/// Whom somebody invites, and the token that they are shown.
async fn invited(by: &Persona, email: &str) -> (String, String) {
    let made = by.post("/api/v1/users", nobody_yet(email)).await.expect(201);
    (made.id(), made.data()["invitationToken"].as_str().expect("a token").to_owned())
}

async fn accept(tenant: &Tenant, email: &str, token: &str) -> Answer {
    let body = json!({"tenant": tenant.slug.as_str(), "email": email, "password": PASSWORD, "invitation": token});
    tenant.anonymous().post("/api/v1/auth/register", body).await
}

async fn admin_role(tenant: &Tenant) -> String {
    db::word(tenant.database(), "SELECT id::text AS word FROM roles WHERE name = 'admin'").await
}

async fn noted(tenant: &Tenant, id: &str) -> String {
    let noted = format!(
        "SELECT count(*)::text AS word FROM audit WHERE action = 'invitation.voided' AND user_id = '{id}' \
         AND actor LIKE 'user:%'"
    );
    db::word(tenant.database(), &noted).await
}

#[actix_web::test]
async fn an_invitation_is_void_with_another_address() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let admin = acme.another_login().await;
    let (wrong, right) = (address("wrong"), address("right"));
    let (id, token) = invited(&admin, &wrong).await;
    let path = format!("/api/v1/users/{id}");
    admin.patch(&path, json!({"email": right})).await.expect(200);
    accept(&acme, &right, &token).await.refused(422, "validation_failed");
    accept(&acme, &wrong, &token).await.refused(422, "validation_failed");
    assert_eq!(admin.get(&path).await.expect(200).data()["status"], "invited");
    assert_eq!(admin.get("/api/v1/invitations").await.expect(200).data(), &json!([]));
    assert_eq!(noted(&acme, &id).await, "1");
    // It is sent again to the address of now, and can be taken back either way.
    admin.post(&format!("/api/v1/invitations/{id}/resend"), json!({})).await.expect(204);
    assert_eq!(admin.get("/api/v1/invitations").await.expect(200).data()[0]["email"], json!(right));
    accept(&acme, &right, &token).await.refused(422, "validation_failed");
    admin.delete(&format!("/api/v1/invitations/{id}")).await.expect(204);
    // Another name changes nothing.
    let email = address("named");
    let (id, token) = invited(&admin, &email).await;
    admin.patch(&format!("/api/v1/users/{id}"), json!({"firstName": "Bob"})).await.expect(200);
    accept(&acme, &email, &token).await.expect(201);
    assert_eq!(noted(&acme, &id).await, "0");
}

#[actix_web::test]
async fn whoever_knows_a_link_gets_no_rights_that_were_added_since() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let (admin, carol) = (acme.another_login().await, keeper(&acme).await);
    let role = admin_role(&acme).await;
    let team = async |roles: Value| {
        admin.post("/api/v1/teams", json!({"name": unique("team"), "roles": roles})).await.expect(201).id()
    };
    let (able, plain, above) = (team(json!(["admin"])).await, team(json!([])).await, team(json!(["admin"])).await);
    let ways =
        ["role", "roles", "replaced", "member", "team's roles", "team's place", "role's rights", "team's rights"];
    for way in ways {
        let email = address("bob");
        let (id, token) = invited(&carol, &email).await;
        let path = format!("/api/v1/users/{id}");
        match way {
            "role" => drop(admin.post(&format!("{path}/roles"), json!({"roleId": role})).await.expect(200)),
            "roles" => drop(admin.patch(&path, json!({"roles": ["admin"]})).await.expect(200)),
            "replaced" => drop(admin.put(&path, json!({"email": email, "roles": ["admin"]})).await.expect(200)),
            "member" => {
                admin.put(&format!("/api/v1/teams/{able}/members/{id}"), Value::Null).await.expect(204);
            }
            "role's rights" | "team's rights" => {
                let name = unique("role");
                let role = admin.post("/api/v1/roles", json!({"name": name})).await.expect(201).id();
                if way == "role's rights" {
                    admin.post(&format!("{path}/roles"), json!({"roleId": role})).await.expect(200);
                } else {
                    let team = team(json!([name])).await;
                    admin.put(&format!("/api/v1/teams/{team}/members/{id}"), Value::Null).await.expect(204);
                }
                renewed(&acme, &id).await;
                let role = format!("/api/v1/roles/{role}");
                admin.patch(&role, json!({"name": unique("role"), "permissions": []})).await.expect(200);
                assert_eq!(open(&acme, &id).await, "1", "{way}: no more than before");
                admin.patch(&role, json!({"permissions": ["contacts:read"]})).await.expect(200);
                assert_eq!(noted(&acme, &id).await, "2", "{way}");
            }
            _ => {
                let team = format!("/api/v1/teams/{plain}");
                admin.put(&format!("{team}/members/{id}"), Value::Null).await.expect(204);
                renewed(&acme, &id).await;
                let change =
                    if way == "team's roles" { json!({"roles": ["admin"]}) } else { json!({"parentId": above}) };
                admin.patch(&team, change).await.expect(200);
                assert_eq!(noted(&acme, &id).await, "2", "{way}");
                admin.patch(&team, json!({"roles": null, "parentId": null})).await.expect(200);
            }
        }
        assert_eq!(open(&acme, &id).await, "0", "{way}");
        accept(&acme, &email, &token).await.refused(422, "validation_failed");
        assert_ne!(noted(&acme, &id).await, "0", "{way}");
    }
}

async fn open(tenant: &Tenant, id: &str) -> String {
    let open = format!("SELECT count(*)::text AS word FROM invitations WHERE user_id = '{id}' AND accepted_at IS NULL");
    db::word(tenant.database(), &open).await
}

/// Has an invitation sent once more, and sees that it waits.
async fn renewed(tenant: &Tenant, id: &str) {
    tenant.admin().post(&format!("/api/v1/invitations/{id}/resend"), json!({})).await.expect(204);
    assert_eq!(open(tenant, id).await, "1");
}

/// A repetition tells what was done and does nothing: no mail, no other link, whatever the person may do since.
#[actix_web::test]
async fn an_invitation_that_is_told_again_is_the_one_that_was_sent() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let (admin, carol) = (acme.another_login().await, keeper(&acme).await);
    let (email, once) = (address("bob"), carol.with("idempotency-key", "invite-bob"));
    let first = once.post("/api/v1/users", nobody_yet(&email)).await.expect(201);
    let id = first.id();
    let mut told = first.data().clone();
    let token = told.as_object_mut().expect("a person").remove("invitationToken").expect("a token");
    let sent = format!("SELECT count(*)::text AS word FROM mail_outbox WHERE kind = 'invitation' AND user_id = '{id}'");
    let again = async || {
        let again = once.post("/api/v1/users", nobody_yet(&email)).await.expect(201);
        assert_eq!((again.header("idempotency-replayed"), again.data()), (Some("true"), &told));
        assert_eq!(again.header("location"), first.header("location"));
    };
    again().await;
    assert_eq!(db::word(acme.database(), &sent).await, "1");
    accept(&acme, &email, token.as_str().expect("a token")).await.expect(201);
    again().await;
    // An earlier release remembered no more than that it was done.
    db::execute(acme.database(), "UPDATE idempotency_records SET body = NULL").await;
    once.post("/api/v1/users", nobody_yet(&email)).await.refused(409, "already_exists");

    let (id, _) = invited(&carol, &address("eve")).await;
    admin.patch(&format!("/api/v1/users/{id}"), json!({"roles": ["admin"]})).await.expect(200);
    renewed(&acme, &id).await;
    carol.post(&format!("/api/v1/invitations/{id}/resend"), json!({})).await.refused(403, "permission_denied");
    assert_eq!(open(&acme, &id).await, "1", "the administrator's own link stays");
}

/// Rights that come while an invitation is sent again or taken back count.
#[actix_web::test]
async fn whoever_is_given_more_meanwhile_stays_invited() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let carol = keeper(&acme).await;
    carol.signed_in().await;
    let (id, _) = invited(&carol, &address("bob")).await;
    let held = format!("SELECT 1 FROM users WHERE id = '{id}' FOR UPDATE");
    let given = format!(
        "INSERT INTO user_roles (user_id, role_id) SELECT '{id}', id FROM roles WHERE name = 'admin' ON CONFLICT DO NOTHING"
    );
    let path = format!("/api/v1/invitations/{id}");
    in_order(&acme, carol.delete(&path), &held, &given).await.refused(403, "permission_denied");
    let taken = format!("DELETE FROM user_roles WHERE user_id = '{id}'");
    db::execute(acme.database(), &taken).await;
    let resend = format!("{path}/resend");
    let again = carol.post(&resend, json!({}));
    in_order(&acme, again, &held, &given).await.refused(403, "permission_denied");
    assert_eq!(open(&acme, &id).await, "1");
    db::execute(acme.database(), &taken).await;
    carol.delete(&path).await.expect(204);
    // Whoever is here is not invited, whatever they may do.
    let here = format!("/api/v1/invitations/{}", acme.admin().user_id().await);
    carol.delete(&here).await.refused(404, "not_found");
}
