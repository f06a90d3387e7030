//! Versions: ETag, If-None-Match, If-Match.

use diesel_async::SimpleAsyncConnection as _;
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::json;
use tenantry::testing::{Answer, TestApp};

use crate::support::openapi::OpenApi;
use crate::support::{db, eventually, seconds, unique};

#[actix_web::test]
async fn versions_guard_against_lost_updates() {
    let app = TestApp::shared().await;
    let admin = app.tenant("acme").await.admin();
    let made = admin.post("/api/v1/contacts", json!({"lastName": "L"})).await.expect(201);
    let path = format!("/api/v1/contacts/{}", made.id());
    let first = made.header("etag").expect("an ETag").to_owned();
    assert!(first.starts_with('"') && first.ends_with('"'), "strong: {first}");
    let read = admin.get(&path).await.expect(200);
    assert_eq!(read.header("etag"), Some(first.as_str()));

    for known in [first.clone(), format!("W/{first}"), format!("\"other\", {first}"), "*".into()] {
        let same = admin.with("if-none-match", &known).get(&path).await.expect(304);
        assert!(same.text.is_empty() && same.header("etag") == Some(first.as_str()), "{same:?}");
    }
    admin.with("if-none-match", "\"other\"").get(&path).await.expect(200);

    let changed = admin.with("if-match", &first).patch(&path, json!({"title": "T"})).await.expect(200);
    let second = changed.header("etag").expect("an ETag").to_owned();
    assert_ne!(first, second);
    admin.with("if-none-match", &first).get(&path).await.expect(200);
    for stale in [first.as_str(), "\"0\"", "W/\"2\"", "nonsense", ""] {
        let stale = admin.with("if-match", stale);
        stale.patch(&path, json!({"title": "U"})).await.refused(412, "version_mismatch");
        stale.put(&path, json!({"lastName": "U"})).await.refused(412, "version_mismatch");
        stale.delete(&path).await.refused(412, "version_mismatch");
    }
    assert_eq!(admin.get(&path).await.expect(200).data()["title"], "T");
    admin.with("if-match", "*").put(&path, json!({"lastName": "V"})).await.expect(200);
    let current = admin.get(&path).await.expect(200).header("etag").expect("an ETag").to_owned();
    // Any one of several will do.
    admin.with("if-match", &format!("{first}, {second}")).delete(&path).await.refused(412, "version_mismatch");
    admin.with("if-match", &format!("{first}, {current}")).delete(&path).await.expect(204);
}

#[actix_web::test]
async fn people_have_versions_too() {
    let app = TestApp::shared().await;
    let admin = app.tenant("acme").await.admin();
    let body = json!({"email": "ada@example.com", "firstName": "Ada", "lastName": "L"});
    let made = admin.post("/api/v1/users", body).await.expect(201);
    let path = format!("/api/v1/users/{}", made.id());
    let tag = admin.get(&path).await.expect(200).header("etag").expect("an ETag").to_owned();
    admin.with("if-none-match", &tag).get(&path).await.expect(304);
    admin.with("if-match", &tag).patch(&path, json!({"firstName": "Augusta"})).await.expect(200);
    admin.with("if-match", &tag).patch(&path, json!({"firstName": "Lost"})).await.refused(412, "version_mismatch");
    let roles = admin.get("/api/v1/roles").await.expect(200);
    let user = roles.data().as_array().expect("a list").iter().find(|role| role["name"] == "user").expect("the role");
    let given = admin.post(&format!("{path}/roles"), json!({"roleId": user["id"]})).await.expect(200);
    let given = given.header("etag").expect("an ETag").to_owned();
    let role = format!("{path}/roles/{}", user["id"].as_str().expect("an id"));
    admin.with("if-match", &tag).delete(&role).await.refused(412, "version_mismatch");
    admin.with("if-match", &given).delete(&role).await.expect(200);
}

/// Grows with the API: what has a version says so, and no change of it goes past `If-Match`.
#[actix_web::test]
async fn whatever_has_a_version_is_changed_under_it() {
    let app = TestApp::shared().await;
    let admin = app.tenant("acme").await.admin();
    let document = OpenApi::of(app).await;
    let said = |path: &str, method: &Method| document.0["paths"][path][method.as_str().to_lowercase()].clone();
    let operations = document.operations();
    let (mut faults, mut versioned) = (Vec::new(), 0);
    for read in operations.iter().filter(|operation| operation.method == Method::GET) {
        let says = said(&read.path, &Method::GET)["responses"]["304"].is_object();
        if !read.path.contains('{') && !read.path.contains("/admin/") {
            let has = admin.get(&read.path).await.header("etag").is_some();
            if has != says {
                faults.push(format!("GET {}: ETag {has}, 304 in the document {says}", read.path));
            }
        }
        versioned += usize::from(says);
        let changes = [Method::PUT, Method::PATCH, Method::DELETE];
        for change in operations.iter().filter(|o| says && o.path == read.path && changes.contains(&o.method)) {
            let parameters = said(&change.path, &change.method)["parameters"].clone();
            if !parameters.as_array().is_some_and(|all| all.iter().any(|one| one["name"] == "If-Match")) {
                faults.push(format!("{} {}: looks at no If-Match", change.method, change.path));
            }
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
    assert!(versioned > 12, "only {versioned}");
}

#[actix_web::test]
async fn the_words_of_mails_keys_and_apps_are_changed_under_their_version() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let admin = acme.admin();
    let tag_of = async |path: &str| admin.get(path).await.expect(200).header("etag").expect("an ETag").to_owned();
    let path = "/api/v1/mail-templates/security-notice/en";
    let words = |subject: &str| json!({"subject": subject, "text": "{{ event }}"});
    let built_in = tag_of(path).await;
    let put = admin.with("if-match", &built_in).put(path, words("one")).await.expect(200);
    let first = put.header("etag").expect("an ETag").to_owned();
    assert_eq!(tag_of(path).await, first);
    admin.with("if-match", &built_in).put(path, words("lost")).await.refused(412, "version_mismatch");
    admin.with("if-match", &built_in).delete(path).await.refused(412, "version_mismatch");
    admin.with("if-match", &first).delete(path).await.expect(204);
    // What is put anew is not what was there.
    admin.with("if-match", &built_in).put(path, words("two")).await.expect(200);
    admin.with("if-match", &first).put(path, words("lost")).await.refused(412, "version_mismatch");
    assert_eq!(admin.get(path).await.expect(200).data()["subject"], "two");

    let key = json!({"name": unique("key"), "scopes": []});
    let app_body = json!({"name": unique("app"), "confidential": true, "grants": ["client_credentials"], "scopes": []});
    for (made_at, body) in [("/api/v1/api-keys", key), ("/api/v1/oauth/clients", app_body)] {
        let path = format!("{made_at}/{}", admin.post(made_at, body).await.expect(201).id());
        let stale = tag_of(&path).await;
        admin.patch(&path, json!({"name": unique("renamed")})).await.expect(200);
        admin.with("if-match", &stale).delete(&path).await.refused(412, "version_mismatch");
        admin.with("if-match", &tag_of(&path).await).delete(&path).await.expect(204);
    }

    let current = tag_of("/api/v1/tenants/current").await;
    admin.with("if-none-match", &current).get("/api/v1/tenants/current").await.expect(304);
}

/// Nobody is told that they have it already who has something else; and who changes it has read its newest version all the same.
#[actix_web::test]
async fn what_changes_without_a_version_is_told_anew() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let admin = acme.admin();
    let team = admin.post("/api/v1/teams", json!({"name": unique("team")})).await.expect(201).id();
    let key = json!({"name": unique("key"), "scopes": ["contacts:read"]});
    let key = admin.post("/api/v1/api-keys", key).await.expect(201);
    let program = acme.anonymous().with("x-api-key", key.data()["key"].as_str().expect("the key"));
    for (path, member) in
        [(format!("/api/v1/teams/{team}"), "memberCount"), (format!("/api/v1/api-keys/{}", key.id()), "lastUsedAt")]
    {
        let before = admin.get(&path).await.expect(200);
        let first = before.header("etag").expect("an ETag").to_owned();
        admin.with("if-none-match", &first).get(&path).await.expect(304);
        if member == "memberCount" {
            admin.put(&format!("{path}/members/{}", admin.user_id().await), json!(null)).await.expect(204);
        } else {
            program.get("/api/v1/contacts").await.expect(200);
            let used = async || !admin.get(&path).await.expect(200).data()["lastUsedAt"].is_null();
            eventually(seconds(10), "its use is noted", used).await;
        }
        let after = admin.with("if-none-match", &first).get(&path).await.expect(200);
        assert_ne!(after.data()[member], before.data()[member]);
        assert_eq!(after.data()["version"], before.data()["version"]);
        let second = after.header("etag").expect("an ETag").to_owned();
        assert_ne!(second, first);
        let same = admin.with("if-none-match", &second).get(&path).await.expect(304);
        assert_eq!(same.header("etag"), Some(second.as_str()));
        admin.with("if-match", &first).patch(&path, json!({"name": unique("renamed")})).await.expect(200);
        for stale in [&first, &second] {
            admin.with("if-match", stale).patch(&path, json!({"name": "x"})).await.refused(412, "version_mismatch");
        }
    }
}

/// What the node that answers has open to a tenant is no change of the tenant.
#[actix_web::test]
async fn an_operator_is_told_of_another_pool() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let (operator, admin, path) = (app.operator(), acme.admin(), format!("/api/v1/admin/tenants/{}", acme.id));
    let tag = |answer: &Answer| answer.header("etag").expect("an ETag").to_owned();
    let before = operator.get(&path).await.expect(200);
    let first = tag(&before);
    let mut holder = db::open(acme.database()).await;
    holder.batch_execute("BEGIN; LOCK TABLE contacts IN SHARE MODE").await.expect("a lock");
    let looking = async {
        let busy = async || operator.get(&path).await.expect(200).data()["pool"]["busy"] == 1;
        eventually(seconds(10), "its connection is at work", busy).await;
        let after = operator.with("if-none-match", &first).get(&path).await.expect(200);
        assert_eq!(after.data()["version"], before.data()["version"]);
        assert_ne!(tag(&after), first);
        holder.batch_execute("COMMIT").await.expect("let go");
    };
    futures_util::join!(admin.contact("Held"), looking);
    let same = async || {
        let now = tag(&operator.get(&path).await.expect(200));
        operator.with("if-none-match", &now).get(&path).await.status == 304
    };
    eventually(seconds(10), "nothing changes any more", same).await;
    operator.with("if-match", &first).patch(&path, json!({"name": "Another"})).await.expect(200);
    operator.with("if-match", &first).patch(&path, json!({"name": "x"})).await.refused(412, "version_mismatch");
}

/// What lives on a cluster is no change of the cluster.
#[actix_web::test]
async fn an_operator_is_told_of_another_tenant_of_a_cluster() {
    let app = TestApp::builder().start().await;
    app.cluster("second", &app.server()).await;
    let (operator, path) = (app.operator(), "/api/v1/admin/clusters/second");
    let tag = |answer: &Answer| answer.header("etag").expect("an ETag").to_owned();
    let before = operator.get(path).await.expect(200);
    let first = tag(&before);
    let tenant = json!({"slug": unique("another"), "cluster": "second"});
    operator.post("/api/v1/admin/tenants", tenant).await.expect(201);
    let after = operator.with("if-none-match", &first).get(path).await.expect(200);
    assert_eq!((&before.data()["tenants"], &after.data()["tenants"]), (&json!(0), &json!(1)));
    assert_eq!(after.data()["version"], before.data()["version"]);
    assert_ne!(tag(&after), first);
    operator.with("if-match", &first).patch(path, json!({"maxTenants": 7})).await.expect(200);
    operator.with("if-match", &first).patch(path, json!({"maxTenants": 8})).await.refused(412, "version_mismatch");
}

/// The version is compared where the change is made, not a moment before.
#[actix_web::test]
async fn of_those_who_change_a_cluster_at_once_one_does() {
    let app = TestApp::builder().start().await;
    app.cluster("second", &app.server()).await;
    let (operator, path) = (app.operator(), "/api/v1/admin/clusters/second");
    for round in 0..4 {
        let read = operator.get(path).await.expect(200).header("etag").expect("an ETag").to_owned();
        let same = operator.with("if-match", &read);
        let asked = join_all((1..=8).map(|n| same.patch(path, json!({"maxTenants": round * 10 + n})))).await;
        let (done, late): (Vec<_>, Vec<_>) = asked.into_iter().partition(|answer| answer.status == 200);
        assert_eq!(done.len(), 1, "{done:?}");
        for answer in late {
            answer.refused(412, "version_mismatch");
        }
        let now = operator.get(path).await.expect(200);
        assert_eq!(now.data()["maxTenants"], done[0].data()["maxTenants"], "nobody came after it");
        assert_eq!(now.data()["version"], done[0].data()["version"]);
        same.delete(path).await.refused(412, "version_mismatch");
    }
    let read = operator.get(path).await.expect(200).header("etag").expect("an ETag").to_owned();
    operator.with("if-match", &read).delete(path).await.expect(204);
}

/// A tenant that somebody has changed is not deleted by whoever has not seen that.
#[actix_web::test]
async fn of_those_who_change_and_delete_a_tenant_at_once_one_does() {
    let app = TestApp::builder().start().await;
    let operator = app.operator();
    for round in 0..4 {
        let path = format!("/api/v1/admin/tenants/{}", app.tenant("contested").await.slug);
        let read = operator.get(&path).await.expect(200).header("etag").expect("an ETag").to_owned();
        let same = operator.with("if-match", &read);
        let asked = (0..6).map(|n| {
            let (same, path) = (&same, &path);
            async move {
                match n % 2 {
                    0 => same.patch(path, json!({"name": format!("Name {round}.{n}")})).await,
                    _ => same.delete(path).await,
                }
            }
        });
        let mut done = 0;
        for answer in join_all(asked).await {
            match answer.status {
                200 | 204 => done += 1,
                // Archived by now, there is nothing to delete any more.
                404 => drop(answer.refused(404, "not_found")),
                _ => drop(answer.refused(412, "version_mismatch")),
            }
        }
        assert_eq!(done, 1);
        operator.with("if-match", &read).delete(&format!("{path}?now=true")).await.refused(412, "version_mismatch");
    }
}
