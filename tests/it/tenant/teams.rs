//! Teams, and what people may do by them.

use diesel_async::SimpleAsyncConnection as _;
use futures_util::future::join;
use serde_json::{Value, json};
use tenantry::testing::{Persona, Tenant, TestApp};

use crate::support::jwt::part;
use crate::support::{db, eventually, seconds, unique};

const PASSWORD: &str = "an uncommon sentence of five words";

/// Somebody with these roles: their id, address, and themselves.
async fn person(tenant: &Tenant, roles: &[&str]) -> (String, String, Persona) {
    let email = format!("{}@example.com", unique("member"));
    let body = json!({"email": email, "firstName": "M", "lastName": "M", "password": PASSWORD, "roles": roles});
    let made = tenant.admin().post("/api/v1/users", body).await.expect(201);
    (made.id(), email.clone(), tenant.person(&email, PASSWORD))
}

async fn team(by: &Persona, roles: &[&str], parent: Option<&str>) -> String {
    let body = json!({"name": unique("team"), "roles": roles, "parentId": parent});
    by.post("/api/v1/teams", body).await.expect(201).id()
}

#[actix_web::test]
async fn a_team_is_made_changed_and_removed() {
    let app = TestApp::shared().await;
    let admin = app.tenant("acme").await.admin();
    let name = unique("Field sales ");
    let body = json!({"name": name, "description": "On the road", "roles": ["user"]});
    let made = admin.post("/api/v1/teams", body.clone()).await.expect(201);
    assert_eq!(
        (&made.data()["name"], &made.data()["roles"], &made.data()["parentId"]),
        (&json!(name), &json!(["user"]), &Value::Null)
    );
    let path = format!("/api/v1/teams/{}", made.id());
    assert_eq!(made.header("location"), Some(path.as_str()));
    let mut again = body;
    again["name"] = json!(name.to_uppercase());
    admin.post("/api/v1/teams", again).await.refused(409, "already_exists");
    let stale = made.header("etag").expect("an ETag").to_owned();
    let changed = admin.patch(&path, json!({"description": null, "roles": null})).await.expect(200);
    assert_eq!((&changed.data()["description"], &changed.data()["roles"]), (&json!(""), &json!([])));
    admin.with("if-match", &stale).patch(&path, json!({"name": "x"})).await.refused(412, "version_mismatch");
    admin.patch(&path, json!({"name": null})).await.expect(422);
    let below = team(&admin, &[], Some(&made.id())).await;
    admin.delete(&path).await.refused(409, "conflict");
    admin.delete(&format!("/api/v1/teams/{below}")).await.expect(204);
    admin.delete(&path).await.expect(204);
    admin.get(&path).await.refused(404, "not_found");
    admin.delete(&path).await.refused(404, "not_found");
}

#[actix_web::test]
async fn the_people_of_a_team_may_do_what_its_roles_say() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let admin = acme.admin();
    let (id, email, member) = person(&acme, &[]).await;
    member.get("/api/v1/contacts").await.refused(403, "permission_denied");
    let above = team(&admin, &["user"], None).await;
    let within = team(&admin, &[], Some(&above)).await;
    let membership = format!("/api/v1/teams/{within}/members/{id}");
    for _ in 0..2 {
        admin.put(&membership, Value::Null).await.expect(204);
    }
    member.get("/api/v1/contacts").await.expect(200);
    let claims = part(acme.log_in_as(&email, PASSWORD).await.expect(200).data()["accessToken"].as_str().unwrap(), 1);
    assert_eq!(claims["roles"], json!(["user"]), "a token names the roles of teams too");
    assert_eq!(member.get("/api/v1/users/me").await.expect(200).data()["roles"], json!([]));

    let listed = admin.get(&format!("/api/v1/teams/{within}/members")).await.expect(200);
    assert_eq!(listed.data()[0]["id"], json!(id));
    let theirs = admin.get(&format!("/api/v1/teams?member={id}&includeTotal=true")).await.expect(200);
    assert_eq!((&theirs.data()[0]["id"], &theirs.data()[0]["memberCount"]), (&json!(within), &json!(1)));
    assert_eq!(theirs.body["meta"]["pagination"]["total"], 1);

    // A key of theirs may do what they may, by a team or not.
    let path = format!("/api/v1/teams/{above}");
    let extra = json!({"name": unique("keys"), "permissions": ["api-keys:read", "api-keys:write", "contacts:read"]});
    let role = admin.post("/api/v1/roles", extra).await.expect(201);
    admin.patch(&path, json!({"roles": ["user", role.data()["name"]]})).await.expect(200);
    let key = json!({"name": "k", "scopes": ["contacts:read"]});
    let key = member.post("/api/v1/api-keys", key).await.expect(201).data()["key"].as_str().unwrap().to_owned();
    let program = acme.anonymous().with("x-api-key", &key);
    program.get("/api/v1/contacts").await.expect(200);

    admin.patch(&path, json!({"roles": []})).await.expect(200);
    member.get("/api/v1/contacts").await.refused(403, "permission_denied");
    let gone = async || program.get("/api/v1/contacts").await.status == 403;
    eventually(seconds(5), "the key lost the right too", gone).await;
    admin.patch(&path, json!({"roles": ["user"]})).await.expect(200);
    member.get("/api/v1/contacts").await.expect(200);
    admin.delete(&membership).await.expect(204);
    admin.delete(&membership).await.refused(404, "not_found");
    member.get("/api/v1/contacts").await.refused(403, "permission_denied");
}

#[actix_web::test]
async fn another_node_knows_within_seconds_who_has_left_a_team() {
    let home = TestApp::shared().await;
    let other = TestApp::builder().beside(home).start().await;
    let acme = home.tenant("acme").await;
    let admin = acme.admin();
    let (id, email, _) = person(&acme, &[]).await;
    let team = team(&admin, &["user"], None).await;
    let membership = format!("/api/v1/teams/{team}/members/{id}");
    admin.put(&membership, Value::Null).await.expect(204);
    let member = other.at(&acme).person(&email, PASSWORD);
    member.get("/api/v1/contacts").await.expect(200);
    admin.delete(&membership).await.expect(204);
    let gone = async || member.get("/api/v1/contacts").await.status == 403;
    eventually(seconds(5), "the other node knows", gone).await;
}

#[actix_web::test]
async fn nobody_gives_by_a_team_what_they_do_not_have() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let admin = acme.admin();
    let role = json!({"name": unique("clerk"), "permissions": ["teams:read", "teams:write", "users:read"]});
    let role = admin.post("/api/v1/roles", role).await.expect(201);
    let (clerk_id, _, clerk) = person(&acme, &[role.data()["name"].as_str().unwrap()]).await;
    let (admin_id, _, _) = person(&acme, &["admin"]).await;
    let strong = team(&admin, &["admin"], None).await;
    let weak = team(&clerk, &[], None).await;
    let faults = |answer: tenantry::testing::Answer| answer.expect(422).invalid();
    let beyond = |field: &str| vec![(field.to_owned(), "beyond_own_permissions".to_owned())];

    let body = json!({"name": unique("team"), "roles": ["admin"]});
    assert_eq!(faults(clerk.post("/api/v1/teams", body).await), beyond("roles"));
    let body = json!({"name": unique("team"), "parentId": strong});
    assert_eq!(faults(clerk.post("/api/v1/teams", body).await), beyond("parentId"));
    let weak_path = format!("/api/v1/teams/{weak}");
    assert_eq!(faults(clerk.patch(&weak_path, json!({"parentId": strong})).await), beyond("parentId"));
    assert_eq!(faults(clerk.patch(&weak_path, json!({"roles": ["admin"]})).await), beyond("roles"));
    let into = format!("/api/v1/teams/{strong}/members/{clerk_id}");
    assert_eq!(faults(clerk.put(&into, Value::Null).await), beyond("userId"));
    clerk.patch(&format!("/api/v1/teams/{strong}"), json!({"roles": []})).await.refused(403, "permission_denied");
    clerk.delete(&format!("/api/v1/teams/{strong}")).await.refused(403, "permission_denied");
    // An administrator in a harmless team is not the clerk's to take out.
    let theirs = format!("/api/v1/teams/{weak}/members/{admin_id}");
    clerk.put(&theirs, Value::Null).await.expect(204);
    clerk.delete(&theirs).await.refused(403, "permission_denied");
    let nobody = format!("/api/v1/teams/{weak}/members/{}", uuid::Uuid::now_v7());
    assert_eq!(faults(clerk.put(&nobody, Value::Null).await)[0].1, "unknown_user");
}

#[actix_web::test]
async fn teams_stand_in_each_other_without_rings_and_not_too_deep() {
    let app = TestApp::shared().await;
    let admin = app.tenant("acme").await.admin();
    let mut chain = vec![team(&admin, &[], None).await];
    for _ in 1..10 {
        let next = team(&admin, &[], chain.last().map(String::as_str)).await;
        chain.push(next);
    }
    let body = json!({"name": unique("team"), "parentId": chain[9]});
    assert_eq!(admin.post("/api/v1/teams", body).await.expect(422).invalid()[0].1, "too_deep");
    let first = format!("/api/v1/teams/{}", chain[0]);
    for parent in [&chain[0], &chain[9]] {
        let faults = admin.patch(&first, json!({"parentId": parent})).await.expect(422).invalid();
        assert_eq!(faults, [("parentId".to_owned(), "ring".to_owned())]);
    }
    // A branch that is moved counts as deep as it is.
    let other = team(&admin, &[], None).await;
    assert_eq!(admin.patch(&first, json!({"parentId": other})).await.expect(422).invalid()[0].1, "too_deep");
    admin.patch(&format!("/api/v1/teams/{}", chain[5]), json!({"parentId": other})).await.expect(200);
    admin.patch(&first, json!({"parentId": chain[8]})).await.expect(200);
    // Two that would close a ring together: one is refused.
    let (left, right) = (team(&admin, &[], None).await, team(&admin, &[], None).await);
    let under = async |team: &str, parent: &str| {
        admin.patch(&format!("/api/v1/teams/{team}"), json!({"parentId": parent})).await.status
    };
    let mut both = [0; 2];
    (both[0], both[1]) = tokio::join!(under(&left, &right), under(&right, &left));
    both.sort_unstable();
    assert_eq!(both, [200, 422]);
}

#[actix_web::test]
async fn a_factor_is_demanded_of_a_role_that_comes_by_a_team() {
    let app = TestApp::shared().await;
    let acme = app.tenant("strict").await;
    let admin = acme.admin();
    let (id, email, _) = person(&acme, &[]).await;
    let role = json!({"name": unique("treasurer"), "permissions": ["contacts:read"]});
    let role = admin.post("/api/v1/roles", role).await.expect(201);
    let team = team(&admin, &[role.data()["name"].as_str().unwrap()], None).await;
    admin.put(&format!("/api/v1/teams/{team}/members/{id}"), Value::Null).await.expect(204);
    let before = acme.log_in_as(&email, PASSWORD).await.expect(200);
    let token = before.data()["accessToken"].as_str().unwrap().to_owned();
    let demand = json!({"mfaRequiredRoles": [role.data()["name"]]});
    admin.patch("/api/v1/security-policy", demand).await.expect(200);
    let they = acme.anonymous().with("authorization", &format!("Bearer {token}"));
    they.get("/api/v1/users/me").await.refused(401, "token_revoked");
    let after = acme.log_in_as(&email, PASSWORD).await.expect(200);
    assert_eq!(after.data()["methods"], json!(["enrolment"]));
}

/// Who waits in vain for a person or a team is not told that there is none.
#[actix_web::test]
async fn a_database_that_does_not_answer_in_time_is_no_unknown_name() {
    let home = TestApp::shared().await;
    let app = TestApp::builder().beside(home).set("TENANTRY_ROUTER__STATEMENT_TIMEOUT", "2s").start().await;
    let acme = app.at(&home.tenant("acme").await);
    let admin = acme.admin();
    let (id, ..) = person(&acme, &[]).await;
    let above = team(&admin, &[], None).await;
    let nobody = "01890000-0000-7000-8000-000000000000";
    let unknown = admin.put(&format!("/api/v1/teams/{above}/members/{nobody}"), Value::Null).await;
    assert_eq!(unknown.invalid(), [("userId".to_owned(), "unknown_user".to_owned())]);
    let unknown = admin.post("/api/v1/teams", json!({"name": unique("team"), "parentId": nobody})).await;
    assert_eq!(unknown.invalid(), [("parentId".to_owned(), "unknown_team".to_owned())]);

    let (mut holder, mut other) = (db::open(acme.database()).await, db::open(acme.database()).await);
    let held = format!("BEGIN; SELECT 1 FROM users WHERE id = '{id}' FOR UPDATE");
    holder.batch_execute(&held).await.expect("nobody has it");
    admin.put(&format!("/api/v1/teams/{above}/members/{id}"), Value::Null).await.expect(503);
    holder.batch_execute("ROLLBACK").await.expect("a rollback");

    // Once it is let to the tree, it does not get to the team.
    holder.batch_execute("BEGIN; LOCK TABLE teams IN SHARE ROW EXCLUSIVE MODE").await.expect("nobody has it");
    let passed_on = async {
        let waits = "SELECT count(*)::text AS word FROM pg_stat_activity WHERE datname = current_database() \
                     AND wait_event_type = 'Lock'";
        let waits = async || db::word(acme.database(), waits).await != "0";
        eventually(seconds(30), "the request waits", waits).await;
        other.batch_execute("BEGIN; LOCK TABLE team_members IN ACCESS EXCLUSIVE MODE").await.expect("nobody has it");
        holder.batch_execute("ROLLBACK").await.expect("a rollback");
    };
    let body = json!({"name": unique("team"), "parentId": above});
    join(admin.post("/api/v1/teams", body), passed_on).await.0.expect(503);
    other.batch_execute("ROLLBACK").await.expect("a rollback");
}
