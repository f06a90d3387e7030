//! The marks, as nodes go by them.

use serde_json::json;
use tenantry::testing::{Persona, Tenant, TestApp};

use crate::support::{db, eventually, seconds};

/// The person in sessions that no node was asked about, so that their admission shows what was remembered of the person.
async fn sessions(acme: &Tenant, person: &Persona, count: usize) -> Vec<Persona> {
    let email = person.signed_in().await["user"]["email"].as_str().expect("an address").to_owned();
    let sessions: Vec<_> = (0..count).map(|_| acme.person(&email, acme.password())).collect();
    for session in &sessions {
        session.signed_in().await;
    }
    sessions
}

/// What somebody in a new session is answered who wants to see the permissions.
async fn newly(acme: &Tenant, node: &TestApp, person: &Persona) -> u16 {
    let session = sessions(acme, person, 1).await.remove(0);
    session.at(node.url()).get("/api/v1/permissions").await.status
}

#[actix_web::test]
async fn a_role_s_rights_change_on_every_node_within_two_seconds() {
    let home = TestApp::shared().await;
    let other = TestApp::builder().beside(home).start().await;
    let acme = home.tenant("acme").await;
    let user = acme.user();
    let elsewhere = user.at(other.url());
    let change = async |statement: &str, status: u16| {
        db::execute(acme.database(), statement).await;
        // Whoever comes now, with a session that no node has asked for, finds it so at once.
        assert_eq!(newly(&acme, home, &user).await, status, "{statement}");
        assert_eq!(newly(&acme, &other, &user).await, status, "{statement}");
        for node in [&user, &elsewhere] {
            let known = async || node.get("/api/v1/permissions").await.status == status;
            eventually(seconds(2), "every session has it", known).await;
            assert_eq!(node.get("/api/v1/permissions").await.status, status, "{statement}");
        }
    };
    for node in [&user, &elsewhere] {
        node.get("/api/v1/permissions").await.refused(403, "permission_denied");
        node.get("/api/v1/users/me").await.expect(200);
    }
    let give = "INSERT INTO role_permissions SELECT r.id, p.id FROM roles r, permissions p \
                WHERE r.name = 'user' AND p.name = 'permissions:read'";
    let take = "DELETE FROM role_permissions USING roles r, permissions p WHERE r.id = role_id \
                AND p.id = permission_id AND r.name = 'user' AND p.name = 'permissions:read'";
    change(give, 200).await;
    change(take, 403).await;
    change(give, 200).await;
    change("UPDATE permissions SET name = 'permissions:see' WHERE name = 'permissions:read'", 403).await;
    change("UPDATE permissions SET name = 'permissions:read' WHERE name = 'permissions:see'", 200).await;
    change("DELETE FROM user_roles USING roles r WHERE r.id = role_id AND r.name = 'user'", 403).await;
}

#[actix_web::test]
async fn a_person_s_roles_change_on_every_node_within_two_seconds() {
    let home = TestApp::shared().await;
    let other = TestApp::builder().beside(home).start().await;
    let acme = home.tenant("acme").await;
    let (admin, user) = (acme.admin(), acme.user());
    let path = format!("/api/v1/users/{}", user.user_id().await);
    let elsewhere = user.at(other.url());
    elsewhere.get("/api/v1/permissions").await.refused(403, "permission_denied");
    for (roles, status) in
        [(json!(["user", "admin"]), 200), (json!(["user"]), 403), (json!(["admin"]), 200), (json!([]), 403)]
    {
        admin.patch(&path, json!({"roles": roles})).await.expect(200);
        assert_eq!(user.get("/api/v1/permissions").await.status, status, "{roles} here");
        assert_eq!(newly(&acme, &other, &user).await, status, "{roles} in a new session elsewhere");
        let known = async || elsewhere.get("/api/v1/permissions").await.status == status;
        eventually(seconds(2), "the other node has it", known).await;
        assert_eq!(elsewhere.get("/api/v1/permissions").await.status, status, "{roles} elsewhere");
    }
}

/// What a session knows since it was opened is used where nobody has seen the person yet, and only while the marks are
/// those; whoever refreshes it has it know what holds.
#[actix_web::test]
async fn what_a_session_knows_holds_while_the_marks_do() {
    let home = TestApp::shared().await;
    let acme = home.tenant("acme").await;
    let user = acme.user();
    user.signed_in().await;
    // On a node that has never seen the person.
    let fresh = async |status: u16| {
        let node = TestApp::builder().beside(home).start().await;
        assert_eq!(user.at(node.url()).get("/api/v1/permissions").await.status, status);
    };
    fresh(403).await;
    // Nothing but what the session knows could let them in.
    let planted = "UPDATE sessions SET known_permissions = array_append(known_permissions, 'permissions:read')";
    db::execute(acme.database(), planted).await;
    fresh(200).await;
    db::execute(acme.database(), "UPDATE users SET rights_mark = gen_random_uuid()").await;
    fresh(403).await;
    db::execute(acme.database(), "UPDATE roles_mark SET mark = gen_random_uuid()").await;
    fresh(403).await;

    let known = "SELECT coalesce(bool_or(known_marks = ARRAY[u.rights_mark, m.mark] AND 'permissions:read' = ANY (known_permissions)), \
                 false)::text AS word FROM sessions s JOIN users u ON u.id = s.user_id, roles_mark m WHERE u.email = '";
    let known = format!("{known}{}'", user.signed_in().await["user"]["email"].as_str().expect("an address"));
    assert_eq!(db::word(acme.database(), &known).await, "false");
    let give = "INSERT INTO role_permissions SELECT r.id, p.id FROM roles r, permissions p \
                WHERE r.name = 'user' AND p.name = 'permissions:read'";
    db::execute(acme.database(), give).await;
    let token = user.refresh_token().await;
    acme.anonymous().post("/api/v1/auth/refresh", json!({"refreshToken": token})).await.expect(200);
    assert_eq!(db::word(acme.database(), &known).await, "true");
    fresh(200).await;
}

/// A role that is given while its rights change, and neither is committed yet: the rights are remembered between the two
/// commits, and are others after the second.
#[actix_web::test]
async fn a_role_given_while_it_changes_has_the_rights_of_both() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let user = acme.user();
    let user_id = user.user_id().await;
    db::execute(acme.database(), "INSERT INTO roles (id, name) VALUES (gen_random_uuid(), 'auditor')").await;
    let give =
        format!("INSERT INTO user_roles (user_id, role_id) SELECT '{user_id}', id FROM roles WHERE name = 'auditor'");
    let allow = "INSERT INTO role_permissions SELECT r.id, p.id FROM roles r, permissions p \
                 WHERE r.name = 'auditor' AND p.name = 'permissions:read'";
    let take = "DELETE FROM user_roles USING roles r WHERE r.id = role_id AND r.name = 'auditor'; \
                DELETE FROM role_permissions USING roles r WHERE r.id = role_id AND r.name = 'auditor'";
    for order in [[give.as_str(), allow], [allow, give.as_str()]] {
        // Before anything is held: a login waits for whoever changes the person.
        let mut sessions = sessions(&acme, &user, 4).await.into_iter();
        let mut sees = async || sessions.next().expect("four").get("/api/v1/permissions").await.status;
        let (mut one, mut two) = (db::open(acme.database()).await, db::open(acme.database()).await);
        for (conn, change) in [(&mut one, order[0]), (&mut two, order[1])] {
            db::words_on(conn, "BEGIN").await;
            db::words_on(conn, change).await;
        }
        assert_eq!(sees().await, 403, "nothing is committed");
        db::words_on(&mut one, "COMMIT").await;
        assert_eq!(sees().await, 403, "one half is");
        db::words_on(&mut two, "COMMIT").await;
        assert_eq!(sees().await, 200, "both are");
        db::execute(acme.database(), take).await;
        assert_eq!(sees().await, 403, "none is any more");
    }
}

/// The negative control: rights are remembered, and it is the marks that say when they hold no more. With a database
/// that is another one now, nothing remembered counts.
#[actix_web::test]
async fn rights_are_known_by_their_marks_and_forgotten_with_the_database() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let user = acme.user();
    assert_eq!(newly(&acme, app, &user).await, 403);
    let blind = "DROP TRIGGER mark_roles ON role_permissions; \
                 INSERT INTO role_permissions SELECT r.id, p.id FROM roles r, permissions p \
                 WHERE r.name = 'user' AND p.name = 'permissions:read'";
    db::execute(acme.database(), blind).await;
    assert_eq!(newly(&acme, app, &user).await, 403, "a change that moved no mark is not seen");
    // What no mark speaks of is not remembered.
    let admin = acme.admin();
    let nothing = async || {
        let session = sessions(&acme, &admin, 1).await.remove(0);
        session.post("/api/v1/users", json!({})).await
    };
    assert_eq!(nothing().await.status, 422);
    let required = format!("UPDATE users SET password_change_required = true WHERE id = '{}'", admin.user_id().await);
    db::execute(acme.database(), &required).await;
    nothing().await.refused(403, "password_change_required");
    let epoch = format!("UPDATE tenants SET epoch = epoch + 1 WHERE id = '{}'", acme.id);
    db::execute(app.control_database(), &epoch).await;
    let seen = async || newly(&acme, app, &user).await == 200;
    eventually(seconds(10), "of another epoch, rights are read anew", seen).await;
}

/// A server meets databases of the release before, until they are migrated.
#[actix_web::test]
async fn a_database_without_marks_is_served() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let user = acme.user();
    assert_eq!(newly(&acme, app, &user).await, 403);
    let version = async |version: i32| {
        let older =
            format!("UPDATE tenants SET schema_version = {version}, epoch = epoch + 1 WHERE id = '{}'", acme.id);
        db::execute(app.control_database(), &older).await;
        let known = async || app.router().tenant(acme.id).await.is_ok_and(|tenant| tenant.schema_version == version);
        eventually(seconds(10), "the node knows the schema's version", known).await;
    };
    version(2).await;
    let contract = "DROP FUNCTION mark_rights_of_people(), mark_rights_of_roles() CASCADE; DROP TABLE roles_mark; \
                    ALTER TABLE users DROP COLUMN rights_mark";
    db::execute(acme.database(), contract).await;
    assert_eq!(newly(&acme, app, &user).await, 403);
    let give = "INSERT INTO role_permissions SELECT r.id, p.id FROM roles r, permissions p \
                WHERE r.name = 'user' AND p.name = 'permissions:read'";
    db::execute(acme.database(), give).await;
    assert_eq!(newly(&acme, app, &user).await, 200, "nothing was remembered");
    let expand = include_str!("../../../../tenant-migrations/V3__rights_marks.sql");
    let role = acme.role();
    db::execute(acme.database(), &format!("BEGIN; SET LOCAL ROLE \"{role}\"; {expand} COMMIT;")).await;
    version(3).await;
    assert_eq!(newly(&acme, app, &user).await, 200);
    db::execute(acme.database(), "DELETE FROM role_permissions").await;
    assert_eq!(newly(&acme, app, &user).await, 403);
}
