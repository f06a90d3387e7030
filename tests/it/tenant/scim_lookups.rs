//! What directories look up, however large the organisation.

use reqwest::Method;
use serde_json::{Value, json};
use tenantry::testing::{Tenant, TestApp};

use super::scim::{GROUPS, USERS, at, directory, patch, person, refused, send};
use crate::support::{db, unique};

/// Gives a role to so many people, past everything that the product does.
async fn crowd(tenant: &Tenant, role: &str, people: u32) {
    let made = format!(
        "INSERT INTO users (id, email, email_key, status) \
         SELECT gen_random_uuid(), n || '@crowd.test', n || '@crowd.test', 'active' FROM generate_series(1, {people}) n; \
         INSERT INTO user_roles (user_id, role_id) \
         SELECT u.id, r.id FROM users u, roles r WHERE u.email LIKE '%@crowd.test' AND r.name = '{role}'"
    );
    db::execute(tenant.database(), &made).await;
}

#[actix_web::test]
async fn a_list_tells_no_more_members_than_fit_and_none_that_nobody_wants() {
    let acme = TestApp::shared().await.tenant("acme").await;
    let scim = directory(&acme).await;
    let made = send(&scim, Method::POST, GROUPS, json!({"displayName": "crowd"})).await.expect(201);
    crowd(&acme, "crowd", 10_001).await;
    let named = format!("{GROUPS}?filter=displayName+eq+%22crowd%22");
    for path in [GROUPS, &named, &format!("{named}&attributes=displayName,members.value")] {
        let many = scim.get(path).await;
        refused(&many, 400, "tooMany");
        assert!(
            many.body["detail"].as_str().is_some_and(|said| said.contains("excludedAttributes=members")),
            "{many:?}"
        );
    }
    for unwanted in ["excludedAttributes=members", "attributes=id,displayName", "attributes=urn:x:Group:externalId"] {
        let found = scim.get(&format!("{named}&{unwanted}")).await.expect(200);
        assert_eq!(found.body["Resources"].as_array().map(Vec::len), Some(1), "{unwanted}");
        assert_eq!(found.body["Resources"][0]["members"], Value::Null, "{unwanted}");
    }
    // A page without the crowd, and the crowd by itself.
    let first = scim.get(&format!("{GROUPS}?count=1")).await.expect(200);
    assert!(first.body["Resources"][0]["members"].is_array(), "{first:?}");
    let members = |group: &Value| group["members"].as_array().map(Vec::len);
    assert_eq!(members(&scim.get(&at(GROUPS, &made)).await.expect(200).body), Some(10_001));
    let left = "DELETE FROM user_roles ur USING users u WHERE u.id = ur.user_id AND u.email = '1@crowd.test'";
    db::execute(acme.database(), left).await;
    assert_eq!(members(&scim.get(&named).await.expect(200).body["Resources"][0]), Some(10_000));
}

#[actix_web::test]
async fn a_group_has_one_version_whether_its_members_are_told_or_not() {
    let acme = TestApp::shared().await.tenant("acme").await;
    let scim = directory(&acme).await;
    let member = send(&scim, Method::POST, USERS, person(&unique("grace"))).await.expect(201);
    let group = json!({"displayName": "crew", "members": [{"value": member.body["id"]}]});
    let made = send(&scim, Method::POST, GROUPS, group).await.expect(201);
    let (path, bare) = (at(GROUPS, &made), format!("{}?excludedAttributes=members", at(GROUPS, &made)));
    let version = async |path: &str| {
        let read = scim.get(path).await.expect(200);
        assert_eq!(read.body["meta"]["version"].as_str(), read.header("etag"), "{read:?}");
        read.header("etag").expect("a version").to_owned()
    };
    let first = version(&bare).await;
    assert_eq!((made.header("etag"), &version(&path).await), (Some(first.as_str()), &first));
    for path in [&path, &bare] {
        assert_eq!(scim.with("if-none-match", &first).get(path).await.status, 304, "{path}");
    }
    // As in a list, which without members says none at all rather than another one.
    let named = format!("{GROUPS}?filter=displayName+eq+%22crew%22");
    for (path, told) in [(named.clone(), json!(first)), (format!("{named}&excludedAttributes=members"), Value::Null)] {
        assert_eq!(scim.get(&path).await.expect(200).body["Resources"][0]["meta"]["version"], told, "{path}");
    }
    // Whatever the group says makes another one: what it is called, who is in it, what they are called.
    let reader = scim.with("if-match", &first);
    let renamed = json!([{"op": "replace", "path": "userName", "value": unique("hopper")}]);
    patch(&scim, &at(USERS, &member), renamed).await.expect(200);
    let second = version(&bare).await;
    assert_ne!(second, first);
    let emptied = json!([{"op": "remove", "path": "members"}]);
    refused(&patch(&reader, &path, emptied.clone()).await, 412, "");
    refused(&reader.delete(&path).await, 412, "");
    let third = patch(&scim.with("if-match", &second), &path, emptied).await.expect(200);
    assert_ne!(third.header("etag"), Some(second.as_str()));
    assert_eq!(third.header("etag"), Some(version(&bare).await.as_str()));
    let same = json!({"displayName": "crew", "externalId": "e"});
    refused(&send(&scim.with("if-match", &second), Method::PUT, &path, same.clone()).await, 412, "");
    let tag = version(&bare).await;
    let fourth = send(&scim.with("if-match", &tag), Method::PUT, &path, same).await.expect(200);
    assert_ne!(fourth.header("etag"), Some(tag.as_str()));
    let tag = version(&bare).await;
    assert_eq!(scim.with("if-match", &tag).delete(&path).await.status, 204);
}

/// Both are looked up by a key, and each finds whom it found before.
#[actix_web::test]
async fn a_person_is_found_by_their_user_name_and_by_their_address_in_any_case() {
    let acme = TestApp::shared().await.tenant("acme").await;
    let scim = directory(&acme).await;
    // Who has a name of the directory's, whose name is another one's address since, and who has none.
    let name = unique("Grace");
    let grace = send(&scim, Method::POST, USERS, person(&name)).await.expect(201).body["id"].clone();
    let mut other = person(&format!("ADA@{name}.test"));
    other["emails"][0]["value"] = json!(format!("other@{name}.test"));
    let other = send(&scim, Method::POST, USERS, other).await.expect(201).body["id"].clone();
    let body = json!({"email": format!("Ada@{name}.test"), "firstName": "A", "lastName": "L"});
    let ada = json!(acme.admin().post("/api/v1/users", body).await.expect(201).id());
    let (address, hers, lower) = (format!("{name}@acme.test"), format!("ada@{name}.test"), name.to_lowercase());
    let shouted = address.to_uppercase();
    for (filter, found) in [
        (format!("userName eq \"{name}\""), json!([grace])),
        (format!("userName eq \"{lower}\" and active eq true"), json!([grace])),
        (format!("userName eq \"{address}\""), json!([])),
        (format!("userName eq \" {name}\""), json!([])),
        (format!("emails eq \"{address}\""), json!([grace])),
        (format!("emails[type eq \"work\" and value eq \"{shouted}\"]"), json!([grace])),
        (format!("emails.value eq \"{name}\""), json!([])),
        (format!("userName eq \"{hers}\""), json!([other, ada])),
        (format!("emails eq \"{hers}\""), json!([ada])),
        (format!("emails eq \"{shouted}\" or userName eq \"{hers}\""), json!([grace, other, ada])),
        (format!("not (userName eq \"{hers}\") and emails co \"{name}\""), json!([grace])),
    ] {
        let query: String = url::form_urlencoded::byte_serialize(filter.as_bytes()).collect();
        let answer = scim.get(&format!("{USERS}?filter={query}")).await.expect(200);
        let ids = answer.body["Resources"].as_array().expect("a list").iter().map(|one| one["id"].clone());
        assert_eq!(ids.collect::<Value>(), found, "{filter}");
        assert_eq!(answer.body["totalResults"], json!(found.as_array().map(Vec::len)), "{filter}");
    }
}

/// A directory calls nobody as somebody else is called, and may deactivate whoever came by such a name otherwise.
#[actix_web::test]
async fn a_user_name_that_is_somebody_s_address_is_refused_and_keeps_nobody_active() {
    let acme = TestApp::shared().await.tenant("acme").await;
    let scim = directory(&acme).await;
    let address = |name: &str| format!("{}@names.test", unique(name));
    let add = async |email: &str| {
        let body = json!({"email": email, "firstName": "A", "lastName": "L", "password": "an uncommon sentence of five words"});
        format!("{USERS}/{}", acme.admin().post("/api/v1/users", body).await.expect(201).id())
    };
    let called = |user_name: &str, email: &str| {
        let mut wanted = person(user_name);
        wanted["emails"][0]["value"] = json!(email);
        wanted
    };
    let ada = address("ada");
    add(&ada).await;
    let taken = called(&ada.to_uppercase(), &address("other"));
    refused(&send(&scim, Method::POST, USERS, taken).await, 409, "uniqueness");
    let (bob, email) = (address("bob"), address("other"));
    let other = at(USERS, &send(&scim, Method::POST, USERS, called(&bob, &email)).await.expect(201));
    let renamed = json!([{"op": "replace", "path": "userName", "value": ada}]);
    refused(&patch(&scim, &other, renamed).await, 409, "uniqueness");
    refused(&send(&scim, Method::PUT, &other, called(&ada, &email)).await, 409, "uniqueness");
    // His address came after the name: either is deactivated all the same, by both ways.
    let theirs = add(&bob).await;
    for path in [&theirs, &other] {
        for active in [false, true] {
            let change = json!([{"op": "replace", "path": "active", "value": active}]);
            let changed = patch(&scim, path, change).await.expect(200);
            assert_eq!((&changed.body["active"], &changed.body["userName"]), (&json!(active), &json!(bob)), "{path}");
        }
    }
    let whole = json!({"userName": bob, "active": false, "emails": [{"value": bob, "primary": true}]});
    assert_eq!(send(&scim, Method::PUT, &theirs, whole).await.expect(200).body["active"], false);
    // Whoever is called by their address keeps the name when it changes.
    let moved = json!([{"op": "replace", "path": "emails[type eq \"work\"].value", "value": address("moved")}]);
    let path = add(&address("cleo")).await;
    let before = scim.get(&path).await.expect(200).body["userName"].clone();
    assert_eq!(patch(&scim, &path, moved).await.expect(200).body["userName"], before);
}
