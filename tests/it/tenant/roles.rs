//! Roles of the organisation's own.

use reqwest::Method;
use serde_json::json;
use tenantry::testing::{Answer, TestApp};

use super::scim;
use crate::support::jwt::part;
use crate::support::{db, unique};

const PASSWORD: &str = "an uncommon sentence of five words";

#[actix_web::test]
async fn a_role_is_made_given_changed_and_removed() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let admin = acme.admin();
    let name = unique("auditor");
    let body = json!({"name": name, "description": "Looks", "permissions": ["contacts:read"]});
    let made = admin.post("/api/v1/roles", body.clone()).await.expect(201);
    assert_eq!((&made.data()["name"], &made.data()["system"]), (&json!(name), &json!(false)));
    let path = format!("/api/v1/roles/{}", made.id());
    assert_eq!(made.header("location"), Some(path.as_str()));
    admin.post("/api/v1/roles", body).await.refused(409, "already_exists");

    let email = format!("{}@example.com", unique("auditor"));
    let person = json!({"email": email, "firstName": "A", "lastName": "A", "password": PASSWORD, "roles": [name]});
    admin.post("/api/v1/users", person).await.expect(201);
    let auditor = acme.person(&email, PASSWORD);
    auditor.get("/api/v1/contacts").await.expect(200);
    auditor.post("/api/v1/contacts", json!({"lastName": "X"})).await.refused(403, "permission_denied");

    let stale = made.header("etag").expect("an ETag").to_owned();
    let more = json!({"permissions": ["contacts:read", "contacts:write"]});
    let changed = admin.with("if-match", &stale).patch(&path, more.clone()).await.expect(200);
    assert_eq!(changed.data()["permissions"], json!(["contacts:read", "contacts:write"]));
    admin.with("if-match", &stale).patch(&path, more).await.refused(412, "version_mismatch");
    auditor.post("/api/v1/contacts", json!({"lastName": "X"})).await.expect(201);
    let replaced = admin.put(&path, json!({"name": name})).await.expect(200);
    assert_eq!((&replaced.data()["permissions"], &replaced.data()["description"]), (&json!([]), &json!("")));

    admin.delete(&path).await.expect(204);
    admin.get(&path).await.refused(404, "not_found");
    auditor.get("/api/v1/contacts").await.refused(403, "permission_denied");
}

#[actix_web::test]
async fn nobody_makes_a_role_beyond_their_own_rights() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let admin = acme.admin();
    let own = json!({"name": unique("makers"), "permissions": ["roles:write", "roles:read", "contacts:read"]});
    let own = admin.post("/api/v1/roles", own).await.expect(201);
    let email = format!("{}@example.com", unique("maker"));
    let person =
        json!({"email": email, "firstName": "M", "lastName": "M", "password": PASSWORD, "roles": [own.data()["name"]]});
    admin.post("/api/v1/users", person).await.expect(201);
    let maker = acme.person(&email, PASSWORD);
    let beyond = json!({"name": unique("more"), "permissions": ["contacts:read", "users:write"]});
    let refused = maker.post("/api/v1/roles", beyond).await.expect(422);
    assert_eq!(refused.invalid(), [("permissions[1]".to_owned(), "beyond_own_permissions".to_owned())]);
    let path = format!("/api/v1/roles/{}", own.id());
    maker.patch(&path, json!({"permissions": ["users:write"]})).await.expect(422);
    // Nor changes one that can do more.
    let stronger = json!({"name": unique("strong"), "permissions": ["users:write"]});
    let stronger = format!("/api/v1/roles/{}", admin.post("/api/v1/roles", stronger).await.expect(201).id());
    maker.patch(&stronger, json!({"permissions": []})).await.refused(403, "permission_denied");
    maker.delete(&stronger).await.refused(403, "permission_denied");
    acme.user().post("/api/v1/roles", json!({"name": "x"})).await.refused(403, "permission_denied");
}

#[actix_web::test]
async fn the_product_s_roles_stay_as_they_are() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let roles = acme.admin().get("/api/v1/roles").await.expect(200);
    for role in roles.data().as_array().unwrap() {
        let path = format!("/api/v1/roles/{}", role["id"].as_str().unwrap());
        acme.admin().patch(&path, json!({"permissions": []})).await.refused(409, "conflict");
        acme.admin().delete(&path).await.refused(409, "conflict");
    }
}

#[actix_web::test]
async fn what_is_demanded_of_a_role_goes_with_its_name() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let admin = acme.admin();
    let (before, after) = (unique("before"), unique("after"));
    let role = admin.post("/api/v1/roles", json!({"name": before})).await.expect(201);
    let path = format!("/api/v1/roles/{}", role.id());
    admin.patch("/api/v1/security-policy", json!({"mfaRequiredRoles": [before]})).await.expect(200);
    admin.patch(&path, json!({"name": after})).await.expect(200);
    let demanded = async || admin.get("/api/v1/security-policy").await.expect(200).data()["mfaRequiredRoles"].clone();
    assert_eq!(demanded().await, json!([after]));
    admin.delete(&path).await.expect(204);
    assert_eq!(demanded().await, json!([]));
}

#[actix_web::test]
async fn people_have_changed_when_a_role_of_theirs_is_called_otherwise() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let admin = acme.admin();
    let role = admin.post("/api/v1/roles", json!({"name": "auditor"})).await.expect(201).id();
    let body = json!({"email": "aud@example.com", "firstName": "A", "lastName": "B", "roles": ["auditor"]});
    let path = format!("/api/v1/users/{}", admin.post("/api/v1/users", body).await.expect(201).id());
    let tag = async || admin.get(&path).await.expect(200).header("etag").expect("an ETag").to_owned();
    let first = tag().await;
    admin.patch(&format!("/api/v1/roles/{role}"), json!({"description": "Looks"})).await.expect(200);
    assert_eq!(tag().await, first);
    admin.patch(&format!("/api/v1/roles/{role}"), json!({"name": "reviewer"})).await.expect(200);
    let second = tag().await;
    assert_ne!(second, first);
    assert_eq!(admin.with("if-none-match", &first).get(&path).await.expect(200).data()["roles"], json!(["reviewer"]));
    admin.delete(&format!("/api/v1/roles/{role}")).await.expect(204);
    assert_ne!(tag().await, second);
}

#[actix_web::test]
async fn teams_have_changed_when_a_role_of_theirs_is_called_otherwise() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let (admin, directory) = (acme.admin(), scim::directory(&acme).await);
    let role = admin.post("/api/v1/roles", json!({"name": "auditor"})).await.expect(201).id();
    let group = json!({"displayName": "own"});
    let group = scim::send(&directory, Method::POST, scim::GROUPS, group).await.expect(201);
    let team = json!({"name": "auditors", "roles": ["auditor", "own"]});
    let path = format!("/api/v1/teams/{}", admin.post("/api/v1/teams", team).await.expect(201).id());
    let other = json!({"name": "others", "roles": ["user"]});
    let other = format!("/api/v1/teams/{}", admin.post("/api/v1/teams", other).await.expect(201).id());
    let version = async |path: &str| admin.get(path).await.expect(200).data()["version"].as_i64().expect("a version");
    let tag = async || admin.get(&path).await.expect(200).header("etag").expect("an ETag").to_owned();
    let (first, untouched) = (tag().await, version(&other).await);
    admin.patch(&format!("/api/v1/roles/{role}"), json!({"description": "Looks"})).await.expect(200);
    assert_eq!(tag().await, first);
    admin.patch(&format!("/api/v1/roles/{role}"), json!({"name": "reviewer"})).await.expect(200);
    let renamed = admin.with("if-none-match", &first).get(&path).await.expect(200);
    assert_eq!(renamed.data()["roles"], json!(["own", "reviewer"]));
    assert_ne!(renamed.data()["updatedAt"], renamed.data()["createdAt"]);
    admin.with("if-match", &first).patch(&path, json!({"name": "x"})).await.refused(412, "version_mismatch");
    let second = tag().await;
    admin.delete(&format!("/api/v1/roles/{role}")).await.expect(204);
    let third = tag().await;
    assert_ne!(third, second);
    assert_eq!(directory.delete(&scim::at(scim::GROUPS, &group)).await.status, 204);
    assert_ne!(tag().await, third);
    assert_eq!(version(&other).await, untouched);
}

/// Migrations gave `admin` permissions, and `V24__role_versions.sql` says so to whoever has read it before.
#[actix_web::test]
async fn whoever_has_read_admin_before_its_permissions_came_reads_it_anew() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let admin = acme.admin();
    admin.post("/api/v1/roles", json!({"name": "auditor"})).await.expect(201);
    let versions = async || {
        let roles = admin.get("/api/v1/roles").await.expect(200);
        let roles = roles.data().as_array().expect("a list").clone();
        ["admin", "auditor", "user"].map(|name| {
            let role = roles.iter().find(|role| role["name"] == name).expect("the role");
            role["version"].as_i64().expect("a version")
        })
    };
    let [had, others @ ..] = versions().await;
    let v24 = include_str!("../../../tenant-migrations/V24__role_versions.sql");
    db::execute(acme.database(), v24).await;
    let [has, same @ ..] = versions().await;
    assert_eq!((has, same), (had + 1, others));
}

/// Fifty roles of the longest names, more than a token has room for.
#[actix_web::test]
async fn however_many_roles_somebody_has_their_token_is_taken() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let admin = acme.admin();
    let wide = json!([{"name": "wide", "source": "constant", "value": "x".repeat(200)}]);
    acme.another_login().await.patch("/api/v1/security-policy", json!({"tokenClaims": wide})).await.expect(200);
    for letter in ["r", "\u{416}"] {
        let names: Vec<String> = (10..60).map(|at| format!("{at}{}", letter.repeat(62))).collect();
        for name in &names {
            admin.post("/api/v1/roles", json!({"name": name, "permissions": ["contacts:read"]})).await.expect(201);
        }
        let email = format!("{}@example.com", unique("many"));
        let person = json!({"email": email, "firstName": "M", "lastName": "M", "password": PASSWORD, "roles": names});
        admin.post("/api/v1/users", person).await.expect(201);

        let taken = async |answer: &Answer| {
            let token = answer.data()["accessToken"].as_str().expect("a token");
            let bearer = acme.anonymous().bearing(token);
            // Cut, in their order; what is asked of the database is all there.
            let said = part(token, 1)["roles"].as_array().expect("a list").clone();
            assert!(!said.is_empty() && said.len() < 50, "{said:?}");
            assert!(said.iter().zip(&names).all(|(said, name)| said == name), "{said:?}");
            assert_eq!(bearer.get("/api/v1/users/me").await.expect(200).data()["roles"], json!(names));
            bearer.get("/api/v1/contacts").await.expect(200);
        };
        let login = acme.log_in_as(&email, PASSWORD).await.expect(200);
        taken(&login).await;
        let refresh = json!({"refreshToken": login.data()["refreshToken"]});
        taken(&acme.anonymous().post("/api/v1/auth/refresh", refresh).await.expect(200)).await;
    }
}
