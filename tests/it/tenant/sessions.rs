//! Sessions are the truth: a token is worth nothing once its session has ended, on every node within two seconds.

use serde_json::json;
use tenantry::testing::TestApp;

use crate::support::{db, eventually, seconds};

#[actix_web::test]
async fn logout_ends_this_session_and_logout_all_all_of_them() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let [one, two, three] = [acme.another_login().await, acme.another_login().await, acme.another_login().await];
    one.post("/api/v1/auth/logout", json!({})).await.expect(204);
    one.get("/api/v1/users/me").await.refused(401, "token_revoked");
    let refreshed =
        one.anonymous().post("/api/v1/auth/refresh", json!({"refreshToken": one.refresh_token().await})).await;
    refreshed.refused(401, "token_revoked");
    two.get("/api/v1/users/me").await.expect(200);
    two.post("/api/v1/auth/logout-all", json!({})).await.expect(204);
    for session in [&two, &three] {
        session.get("/api/v1/users/me").await.refused(401, "token_revoked");
    }
    acme.another_login().await.get("/api/v1/users/me").await.expect(200);
}

#[actix_web::test]
async fn a_revocation_reaches_every_node_within_two_seconds() {
    let home = TestApp::shared().await;
    let app = TestApp::builder().beside(home).start().await;
    let acme = home.tenant("acme").await;
    let session = acme.another_login().await;
    let elsewhere = session.at(app.url());
    session.get("/api/v1/users/me").await.expect(200);
    elsewhere.get("/api/v1/users/me").await.expect(200);
    session.post("/api/v1/auth/logout", json!({})).await.expect(204);
    session.get("/api/v1/users/me").await.refused(401, "token_revoked");
    eventually(seconds(2), "the other node knows", async || elsewhere.get("/api/v1/users/me").await.status == 401)
        .await;
    elsewhere.get("/api/v1/users/me").await.refused(401, "token_revoked");
}

#[actix_web::test]
async fn rights_are_those_of_now_not_those_of_the_token() {
    let home = TestApp::shared().await;
    let app = TestApp::builder().beside(home).start().await;
    let acme = home.tenant("acme").await;
    let (admin, user) = (acme.admin(), acme.user());
    let user_id = user.user_id().await;
    let elsewhere = user.at(app.url());
    let body = || json!({"email": "x@example.com", "firstName": "X", "lastName": "X"});
    user.post("/api/v1/users", body()).await.refused(403, "permission_denied");
    let roles = admin.get("/api/v1/roles").await.expect(200);
    let role = roles.data().as_array().unwrap().iter().find(|role| role["name"] == "admin").unwrap()["id"].clone();
    admin.post(&format!("/api/v1/users/{user_id}/roles"), json!({"roleId": role})).await.ok();
    user.post("/api/v1/users", body()).await.expect(201);
    elsewhere.get("/api/v1/permissions").await.expect(200);
    admin.delete(&format!("/api/v1/users/{user_id}/roles/{}", role.as_str().unwrap())).await.ok();
    user.get("/api/v1/permissions").await.refused(403, "permission_denied");
    let gone = async || elsewhere.get("/api/v1/permissions").await.status == 403;
    eventually(seconds(2), "the other node knows", gone).await;
    // Somebody who may not come in any more is out at once.
    admin.patch(&format!("/api/v1/users/{user_id}"), json!({"status": "deactivated"})).await.expect(200);
    user.get("/api/v1/users/me").await.refused(401, "token_revoked");
    let out = async || elsewhere.get("/api/v1/users/me").await.status == 401;
    eventually(seconds(2), "the other node knows", out).await;
}

#[actix_web::test]
async fn the_password_is_changed_with_the_old_one() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let (admin, other) = (acme.another_login().await, acme.another_login().await);
    let change = |current: &str, new: &str| json!({"currentPassword": current, "newPassword": new});
    let new = "quite another sentence of words";
    let wrong = admin.post("/api/v1/auth/change-password", change("wrong", new)).await;
    assert!([401, 403, 422].contains(&wrong.status), "{wrong:?}");
    for weak in ["", "short", acme.email()] {
        let refused = admin.post("/api/v1/auth/change-password", change(acme.password(), weak)).await;
        assert_eq!(refused.status, 422, "{weak:?}: {refused:?}");
        assert!(weak != acme.email() || !refused.text.contains(weak), "{refused:?}");
    }
    admin.post("/api/v1/auth/change-password", change(acme.password(), new)).await.ok();
    // Whoever else was signed in with the old one is out.
    other.get("/api/v1/users/me").await.refused(401, "token_revoked");
    acme.log_in_as(acme.email(), acme.password()).await.refused(401, "invalid_credentials");
    acme.log_in_as(acme.email(), new).await.expect(200);
}

#[actix_web::test]
async fn sessions_are_listed_and_ended_one_by_one() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let (one, two) = (acme.another_login().await, acme.another_login().await);
    let list = one.get("/api/v1/auth/sessions").await.expect(200);
    let sessions = list.data().as_array().unwrap();
    assert_eq!(sessions.iter().filter(|session| session["current"] == true).count(), 1, "{list:?}");
    let mine = sessions.iter().find(|session| session["current"] == true).unwrap();
    assert_eq!(mine["amr"], json!(["pwd"]));
    let theirs = two.get("/api/v1/auth/sessions").await.expect(200);
    let theirs = theirs.data().as_array().unwrap().iter().find(|session| session["current"] == true).unwrap().clone();
    let path = format!("/api/v1/auth/sessions/{}", theirs["id"].as_str().unwrap());
    acme.user().delete(&path).await.refused(404, "not_found");
    one.delete(&path).await.expect(204);
    one.delete(&path).await.refused(404, "not_found");
    two.get("/api/v1/users/me").await.refused(401, "token_revoked");
    one.get("/api/v1/users/me").await.expect(200);

    let user = acme.user();
    let path = format!("/api/v1/users/{}/sessions", user.user_id().await);
    user.get(&path).await.refused(403, "permission_denied");
    assert!(acme.admin().get(&path).await.expect(200).data().as_array().is_some_and(|list| !list.is_empty()));
    acme.admin().delete(&path).await.expect(204);
    user.get("/api/v1/users/me").await.refused(401, "token_revoked");
}

/// However many a program has left behind that logs in again and again: a login looks at some of them.
#[actix_web::test]
async fn each_login_sweeps_out_a_hundred_that_ended_long_ago() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let id = acme.admin().user_id().await;
    let insert = format!(
        "INSERT INTO sessions (id, user_id, created_at, last_used_at, expires_at, amr, auth_time) \
         SELECT gen_random_uuid(), '{id}', at, at, at + interval '30 days', '{{pwd}}', at \
         FROM (SELECT now() - interval '80 days' + n * interval '1 second' AS at FROM generate_series(1, 150) n) s"
    );
    db::execute(acme.database(), &insert).await;
    let old = "SELECT count(*)::text AS word FROM sessions WHERE expires_at < now() - interval '31 days'";
    for left in ["50", "0"] {
        acme.another_login().await.get("/api/v1/users/me").await.expect(200);
        assert_eq!(db::word(acme.database(), old).await, left);
    }
    acme.admin().get("/api/v1/users/me").await.expect(200);
}
