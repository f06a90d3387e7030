//! The marks, in the database.

use tenantry::router::AdminConn;
use tenantry::testing::TestApp;

use crate::support::db;

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
    let functions = "SELECT concat_ws(' ', prosecdef, proconfig, pg_has_role(proowner, 'USAGE'), \
                     has_function_privilege('public', oid, 'EXECUTE')) AS word FROM pg_proc WHERE proname LIKE 'mark_rights%'";
    let functions = db::words_on(&mut conn, functions).await;
    assert_eq!(functions, [r#"t {"search_path=\"\""} t f"#; 2]);
}
