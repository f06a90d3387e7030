//! People and their roles.

use serde_json::{Value, json};
use tenantry::testing::TestApp;

use super::scim;
use crate::support::{db, unique};

const PASSWORD: &str = "an uncommon sentence of five words";

#[actix_web::test]
async fn people_are_made_changed_and_removed() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let admin = acme.admin();
    let body = json!({"email": "Ada@Example.com", "firstName": "Ada", "lastName": "L", "roles": []});
    let made = admin.post("/api/v1/users", body).await.expect(201);
    assert_eq!(made.data()["roles"], json!([]));
    let path = format!("/api/v1/users/{}", made.id());
    assert_eq!(made.header("location"), Some(path.as_str()));
    let changed = admin.patch(&path, json!({"roles": ["user"], "firstName": "Augusta"})).await.expect(200);
    assert_eq!((&changed.data()["roles"], &changed.data()["firstName"]), (&json!(["user"]), &json!("Augusta")));
    let unknown = admin.patch(&path, json!({"roles": ["emperor"]})).await;
    assert!(unknown.invalid().iter().any(|(field, _)| field.starts_with("roles")), "{unknown:?}");
    for answer in [made, changed] {
        assert!(!answer.text.contains("argon2") && !answer.text.to_lowercase().contains("passwordhash"), "{answer:?}");
    }
    admin.delete(&path).await.expect(204);
    admin.delete(&path).await.refused(404, "not_found");
}

#[actix_web::test]
async fn a_user_changes_their_own_profile_and_nobody_else() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let (admin, user) = (acme.admin(), acme.user());
    user.patch("/api/v1/users/me", json!({"firstName": "Self"})).await.expect(200);
    assert_eq!(user.get("/api/v1/users/me").await.expect(200).data()["firstName"], "Self");
    let escalations = [json!({"roles": ["admin"]}), json!({"status": "active"}), json!({"id": "x"})];
    for body in escalations {
        let answer = user.patch("/api/v1/users/me", body).await;
        assert!([403, 422].contains(&answer.status), "{answer:?}");
    }
    let other = format!("/api/v1/users/{}", admin.user_id().await);
    user.get(&other).await.expect(200);
    user.patch(&other, json!({"firstName": "x"})).await.refused(403, "permission_denied");
    user.delete(&other).await.refused(403, "permission_denied");
    assert_eq!(user.get("/api/v1/users/me").await.expect(200).data()["roles"], json!(["user"]));
}

#[actix_web::test]
async fn a_tenant_keeps_an_administrator() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let admin = acme.admin();
    let path = format!("/api/v1/users/{}", admin.user_id().await);
    for answer in [
        admin.delete(&path).await,
        admin.patch(&path, json!({"roles": []})).await,
        admin.patch(&path, json!({"status": "deactivated"})).await,
    ] {
        assert!([403, 409, 422].contains(&answer.status), "the last administrator went: {answer:?}");
    }
}

#[actix_web::test]
async fn the_seeded_roles_and_permissions_are_shown() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let roles = acme.user().get("/api/v1/roles").await.expect(200);
    let names: Vec<_> =
        roles.data().as_array().unwrap().iter().map(|role| (role["name"].clone(), role["system"].clone())).collect();
    assert!(
        names.contains(&(json!("admin"), json!(true))) && names.contains(&(json!("user"), json!(true))),
        "{names:?}"
    );
    let permissions = acme.admin().get("/api/v1/permissions?pageSize=100").await.expect(200);
    let count = db::word(acme.database(), "SELECT count(*)::text AS word FROM permissions").await;
    assert_eq!(permissions.data().as_array().unwrap().len().to_string(), count);
}

/// Passwords are kept as Argon2id hashes alone, tokens as digests.
#[actix_web::test]
async fn no_secret_is_kept_in_clear() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let login = acme.admin().signed_in().await;
    let hashes =
        db::words(acme.database(), "SELECT password_hash AS word FROM users WHERE password_hash IS NOT NULL").await;
    assert!(!hashes.is_empty() && hashes.iter().all(|hash| hash.starts_with("$argon2id$v=19$")), "{hashes:?}");
    for table in ["users", "sessions", "refresh_tokens", "login_attempts"] {
        let rows = db::words(acme.database(), &format!("SELECT t::text AS word FROM {table} t")).await;
        for secret in [acme.password(), login["accessToken"].as_str().unwrap(), login["refreshToken"].as_str().unwrap()]
        {
            assert!(rows.iter().all(|row| !row.contains(secret)), "{table}");
        }
    }
}

/// Whoever has the smaller id: there is an administrator before and after.
#[actix_web::test]
async fn a_directory_puts_another_in_the_only_administrator_s_place() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let admin = acme.admin();
    let all = admin.get("/api/v1/permissions?pageSize=100").await.expect(200);
    let all: Vec<Value> = all.data().as_array().expect("a list").iter().map(|one| one["name"].clone()).collect();
    admin.post("/api/v1/roles", json!({"name": "able", "permissions": all})).await.expect(201);
    let add = async |role: &str| {
        let email = format!("{}@example.com", unique("p"));
        let body = json!({"email": email, "firstName": "P", "lastName": "P", "password": PASSWORD, "roles": [role]});
        (admin.post("/api/v1/users", body).await.expect(201).id(), acme.person(&email, PASSWORD))
    };
    // Of somebody who keeps their rights.
    let directory = scim::directory_of(&acme, &add("able").await.1).await;
    let (first, second) = (admin.user_id().await, add("user").await.0);
    let role = db::word(acme.database(), "SELECT id::text AS word FROM roles WHERE name = 'admin'").await;
    let admins = format!("{}/{role}", scim::GROUPS);
    for one in [&second, &first] {
        let only = json!([{"op": "replace", "path": "members", "value": [{"value": one}]}]);
        let answer = scim::patch(&directory, &admins, only).await.expect(200);
        assert_eq!(answer.body["members"][0]["value"], json!(one));
    }
    let none = json!([{"op": "replace", "path": "members", "value": []}]);
    scim::refused(&scim::patch(&directory, &admins, none).await, 409, "");
}
