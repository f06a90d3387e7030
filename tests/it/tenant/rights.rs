//! What people may do is read from six tables, then known by two marks. Whatever changes it moves a mark, whoever writes.

use serde_json::json;
use tenantry::router::AdminConn;
use tenantry::testing::{Persona, Tenant, TestApp};

use crate::support::{db, eventually, seconds};

/// Whose mark a change moves.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Moves {
    /// That of the person it is about.
    Hers,
    /// Everybody's, because it is about a role.
    All,
    /// Nobody's: it changes no rights.
    None,
}

/// Makes a role for the changes, and a permission that only this role gives. `ada` has the role, `bob` another one.
const GROUND: &str = "\
INSERT INTO permissions (id, name) VALUES ('00000000-0000-0000-0000-0000000000f1', 'songs:sing'), \
    ('00000000-0000-0000-0000-0000000000f2', 'songs:write'); \
INSERT INTO roles (id, name) VALUES ('00000000-0000-0000-0000-0000000000e1', 'singer'), \
    ('00000000-0000-0000-0000-0000000000e2', 'listener'); \
INSERT INTO role_permissions SELECT r.id, p.id FROM roles r, permissions p \
    WHERE r.name = 'singer' AND p.name = 'songs:sing'; \
INSERT INTO users (id, email, email_key, status) VALUES \
    ('00000000-0000-0000-0000-0000000000a1', 'ada@x.test', 'ada@x.test', 'active'), \
    ('00000000-0000-0000-0000-0000000000b1', 'bob@x.test', 'bob@x.test', 'active'); \
INSERT INTO user_roles (user_id, role_id) VALUES \
    ('00000000-0000-0000-0000-0000000000a1', '00000000-0000-0000-0000-0000000000e1'), \
    ('00000000-0000-0000-0000-0000000000b1', '00000000-0000-0000-0000-0000000000e2');";

/// The old row and the new one are noticed each by one.
const EXCHANGED: &[&str] = &["mark_changed_from ON user_roles", "mark_changed_to ON user_roles"];
/// What hangs on a removed row goes with it, which is noticed there too.
const CASCADED: &[&str] = &["mark_roles ON permissions", "mark_roles ON role_permissions"];
const REMOVED: &[&str] =
    &["mark_roles ON roles", "mark_roles ON role_permissions", "mark_taken ON user_roles", "mark_roles ON team_roles"];

/// Every kind of change, one after the other, with the triggers that notice it.
const CHANGES: [(&str, Moves, &[&str], &str); 25] = [
    (
        "role given",
        Moves::Hers,
        &["mark_given ON user_roles"],
        "INSERT INTO user_roles (user_id, role_id) SELECT u.id, r.id FROM users u, roles r \
      WHERE u.email = 'ada@x.test' AND r.name = 'listener'",
    ),
    (
        "role given again",
        Moves::None,
        &[],
        "INSERT INTO user_roles (user_id, role_id) SELECT u.id, r.id FROM users u, roles r \
      WHERE u.email = 'ada@x.test' AND r.name = 'listener' ON CONFLICT DO NOTHING",
    ),
    (
        "role taken",
        Moves::Hers,
        &["mark_taken ON user_roles"],
        "DELETE FROM user_roles USING roles r, users u WHERE r.id = role_id AND u.id = user_id \
      AND r.name = 'listener' AND u.email = 'ada@x.test'",
    ),
    (
        "role exchanged",
        Moves::Hers,
        EXCHANGED,
        "UPDATE user_roles SET role_id = (SELECT id FROM roles WHERE name = 'listener') \
      WHERE user_id = (SELECT id FROM users WHERE email = 'ada@x.test')",
    ),
    (
        "role exchanged back",
        Moves::Hers,
        EXCHANGED,
        "UPDATE user_roles SET role_id = (SELECT id FROM roles WHERE name = 'singer') \
      WHERE user_id = (SELECT id FROM users WHERE email = 'ada@x.test')",
    ),
    (
        "permission given",
        Moves::All,
        &["mark_roles ON role_permissions"],
        "INSERT INTO role_permissions SELECT r.id, p.id FROM roles r, permissions p \
      WHERE r.name = 'singer' AND p.name = 'songs:write'",
    ),
    (
        "permission exchanged",
        Moves::All,
        &["mark_roles ON role_permissions"],
        "UPDATE role_permissions SET permission_id = (SELECT id FROM permissions WHERE name = 'contacts:read') \
      WHERE permission_id = (SELECT id FROM permissions WHERE name = 'songs:write')",
    ),
    (
        "permission taken",
        Moves::All,
        &["mark_roles ON role_permissions"],
        "DELETE FROM role_permissions USING roles r, permissions p WHERE r.id = role_id AND p.id = permission_id \
      AND r.name = 'singer' AND p.name = 'contacts:read'",
    ),
    ("role renamed", Moves::All, &["mark_roles ON roles"], "UPDATE roles SET name = 'soprano' WHERE name = 'singer'"),
    (
        "role described",
        Moves::None,
        &[],
        "UPDATE roles SET description = 'sings', version = version + 1 WHERE name = 'soprano'",
    ),
    (
        "permission renamed",
        Moves::All,
        &["mark_roles ON permissions"],
        "UPDATE permissions SET name = 'songs:hum' WHERE name = 'songs:sing'",
    ),
    ("permission described", Moves::None, &[], "UPDATE permissions SET description = 'hums' WHERE name = 'songs:hum'"),
    ("profile changed", Moves::None, &[], "UPDATE users SET first_name = 'Ada' WHERE email = 'ada@x.test'"),
    ("permission removed", Moves::All, CASCADED, "DELETE FROM permissions WHERE name = 'songs:hum'"),
    ("role removed", Moves::All, REMOVED, "DELETE FROM roles WHERE name = 'soprano'"),
    ("permissions emptied", Moves::All, &["mark_roles ON role_permissions"], "TRUNCATE role_permissions"),
    ("roles emptied", Moves::All, &["mark_emptied ON user_roles"], "TRUNCATE user_roles"),
    (
        "teams made",
        Moves::None,
        &[],
        "INSERT INTO teams (id, name, name_key, created_at, updated_at) VALUES \
      (gen_random_uuid(), 'choir', 'choir', now(), now()), (gen_random_uuid(), 'stage', 'stage', now(), now())",
    ),
    (
        "team joined",
        Moves::Hers,
        &["mark_joined ON team_members"],
        "INSERT INTO team_members SELECT t.id, u.id, now() FROM teams t, users u \
      WHERE t.name = 'choir' AND u.email = 'ada@x.test'",
    ),
    (
        "team given a role",
        Moves::All,
        &["mark_roles ON team_roles"],
        "INSERT INTO team_roles SELECT t.id, r.id FROM teams t, roles r WHERE t.name = 'choir' AND r.name = 'listener'",
    ),
    (
        "team put under another",
        Moves::All,
        &["mark_roles ON teams"],
        "UPDATE teams SET parent_id = (SELECT id FROM teams WHERE name = 'stage') WHERE name = 'choir'",
    ),
    ("team described", Moves::None, &[], "UPDATE teams SET description = 'sings' WHERE name = 'choir'"),
    ("team's role taken", Moves::All, &["mark_roles ON team_roles"], "DELETE FROM team_roles"),
    ("team left", Moves::Hers, &["mark_left ON team_members"], "DELETE FROM team_members"),
    (
        "team removed",
        Moves::All,
        &["mark_roles ON teams", "mark_roles ON team_roles"],
        "DELETE FROM teams WHERE name = 'choir'",
    ),
];

/// The two marks of a person, and what their ETag is made of.
#[derive(Debug, PartialEq)]
struct Marks {
    hers: String,
    all: String,
    etag: String,
}

async fn marks(conn: &mut AdminConn, email: &str) -> Marks {
    let query = format!(
        "SELECT concat_ws(' ', rights_mark, (SELECT mark FROM roles_mark), \
         concat_ws('/', version, auth_version, updated_at)) AS word FROM users WHERE email = '{email}'"
    );
    let words = db::words_on(conn, &query).await;
    let mut parts = words[0].splitn(3, ' ').map(str::to_owned);
    let mut next = || parts.next().expect("three parts");
    Marks { hers: next(), all: next(), etag: next() }
}

#[actix_web::test]
async fn every_change_of_rights_moves_a_mark_and_no_etag() {
    let acme = TestApp::shared().await.tenant("acme").await;
    db::execute(acme.database(), GROUND).await;
    let mut conn = db::open(acme.database()).await;
    for (what, moves, _, change) in CHANGES {
        let (ada, bob) = (marks(&mut conn, "ada@x.test").await, marks(&mut conn, "bob@x.test").await);
        db::words_on(&mut conn, change).await;
        let (ada_now, bob_now) = (marks(&mut conn, "ada@x.test").await, marks(&mut conn, "bob@x.test").await);
        // Those who had a role that is removed are marked too.
        let hers = moves == Moves::Hers || what == "role removed";
        assert_eq!(ada_now.hers != ada.hers, hers, "{what}: {ada:?} {ada_now:?}");
        assert_eq!(ada_now.all != ada.all, moves == Moves::All, "{what}: {ada:?} {ada_now:?}");
        assert_eq!(bob_now.hers, bob.hers, "{what}: somebody else's own mark");
        assert_eq!((&ada_now.etag, &bob_now.etag), (&ada.etag, &bob.etag), "{what}: the ETag");
    }
    // Somebody new begins with a mark that nobody had.
    let insert = "INSERT INTO users (id, email, email_key, status) \
                  VALUES (gen_random_uuid(), 'eve@x.test', 'eve@x.test', 'active')";
    db::words_on(&mut conn, insert).await;
    assert!(!marks(&mut conn, "eve@x.test").await.hers.starts_with("00000000"));
}

/// The negative control of the table above: it is each row's own trigger that moves the mark.
#[actix_web::test]
async fn without_its_trigger_a_change_moves_nothing() {
    let acme = TestApp::shared().await.tenant("acme").await;
    db::execute(acme.database(), GROUND).await;
    let mut conn = db::open(acme.database()).await;
    for (what, moves, triggers, change) in CHANGES {
        if moves != Moves::None {
            db::words_on(&mut conn, "BEGIN").await;
            for trigger in triggers {
                db::words_on(&mut conn, &format!("DROP TRIGGER {trigger}")).await;
            }
            let before = marks(&mut conn, "ada@x.test").await;
            db::words_on(&mut conn, change).await;
            assert_eq!(marks(&mut conn, "ada@x.test").await, before, "{what} without {triggers:?}");
            db::words_on(&mut conn, "ROLLBACK").await;
        }
        db::words_on(&mut conn, change).await;
    }
}

#[actix_web::test]
async fn a_role_that_goes_from_one_to_another_marks_both() {
    let acme = TestApp::shared().await.tenant("acme").await;
    db::execute(acme.database(), GROUND).await;
    let mut conn = db::open(acme.database()).await;
    let (ada, bob) = (marks(&mut conn, "ada@x.test").await, marks(&mut conn, "bob@x.test").await);
    let hand_over = "UPDATE user_roles SET user_id = (SELECT id FROM users WHERE email = 'bob@x.test') \
                     WHERE user_id = (SELECT id FROM users WHERE email = 'ada@x.test')";
    db::words_on(&mut conn, hand_over).await;
    assert_ne!(marks(&mut conn, "ada@x.test").await.hers, ada.hers);
    assert_ne!(marks(&mut conn, "bob@x.test").await.hers, bob.hers);
}

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
    let expand = include_str!("../../../tenant-migrations/V3__rights_marks.sql");
    let role = acme.role();
    db::execute(acme.database(), &format!("BEGIN; SET LOCAL ROLE \"{role}\"; {expand} COMMIT;")).await;
    version(3).await;
    assert_eq!(newly(&acme, app, &user).await, 200);
    db::execute(acme.database(), "DELETE FROM role_permissions").await;
    assert_eq!(newly(&acme, app, &user).await, 403);
}

/// Nobody adds a second row to what is asked as one.
#[actix_web::test]
async fn the_mark_of_the_roles_stays_one() {
    let acme = TestApp::shared().await.tenant("acme").await;
    let role = acme.role();
    let mut conn = db::open(acme.database()).await;
    db::words_on(&mut conn, &format!("SET ROLE \"{role}\"")).await;
    for right in ["INSERT", "DELETE", "TRUNCATE"] {
        let has = format!("SELECT has_table_privilege('roles_mark', '{right}')::text AS word");
        assert_eq!(db::words_on(&mut conn, &has).await, ["false"], "{right}");
    }
    assert_eq!(db::words_on(&mut conn, "SELECT count(*)::text AS word FROM roles_mark").await, ["1"]);
    // Whoever else is let change roles moves the marks too, and calls nothing that is the owner's.
    let functions = "SELECT concat_ws(' ', prosecdef, proconfig, pg_get_userbyid(proowner) = current_user, \
                     has_function_privilege('public', oid, 'EXECUTE')) AS word FROM pg_proc WHERE proname LIKE 'mark_rights%'";
    let functions = db::words_on(&mut conn, functions).await;
    assert_eq!(functions, [r#"t {"search_path=\"\""} t f"#; 2]);
}
