//! Directories over SCIM, as Entra ID and Okta speak it.

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use tenantry::testing::{Answer, Persona, Tenant, TestApp};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::identity::{self, evil, provider};
use crate::support::{db, eventually, seconds, shared, unique};

const TOKENS: &str = "/api/v1/scim-tokens";
pub(super) const USERS: &str = "/scim/v2/Users";
pub(super) const GROUPS: &str = "/scim/v2/Groups";
const PASSWORD: &str = "an uncommon sentence of five words";

/// The directory with a token of this person's.
pub(super) async fn directory_of(tenant: &Tenant, owner: &Persona) -> Persona {
    let made = owner.post(TOKENS, json!({"name": unique("directory")})).await.expect(201);
    tenant.anonymous().bearing(made.data()["token"].as_str().expect("the token"))
}

pub(super) async fn directory(tenant: &Tenant) -> Persona {
    directory_of(tenant, &tenant.admin()).await
}

pub(super) async fn send(who: &Persona, method: Method, path: &str, body: Value) -> Answer {
    who.send(method, path, Some(("application/scim+json", body.to_string()))).await
}

pub(super) async fn patch(who: &Persona, path: &str, operations: Value) -> Answer {
    let body = json!({"schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"], "Operations": operations});
    send(who, Method::PATCH, path, body).await
}

pub(super) fn person(name: &str) -> Value {
    json!({
        "schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"], "userName": name, "externalId": unique("ext"),
        "name": {"givenName": "Grace", "familyName": "Hopper"}, "active": true,
        "emails": [{"value": format!("{name}@acme.test"), "type": "work", "primary": true}],
    })
}

pub(super) fn at(base: &str, answer: &Answer) -> String {
    format!("{base}/{}", answer.body["id"].as_str().unwrap_or_else(|| panic!("no id: {answer:?}")))
}

/// A refusal as the standard has it.
#[track_caller]
pub(super) fn refused(answer: &Answer, status: u16, kind: &str) {
    assert_eq!(answer.status, status, "{answer:?}");
    assert_eq!(answer.header("content-type"), Some("application/scim+json"), "{answer:?}");
    let body = &answer.body;
    assert_eq!(body["schemas"], json!(["urn:ietf:params:scim:api:messages:2.0:Error"]), "{answer:?}");
    assert_eq!((&body["status"], body["scimType"].as_str().unwrap_or_default()), (&json!(status.to_string()), kind));
}

/// Who asks is known before the body is there, and a body is as large as the server's limit lets it be.
#[actix_web::test]
async fn a_stranger_is_refused_before_a_body_and_a_directory_may_send_a_large_one() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let address = app.url().strip_prefix("http://").expect("an address");
    for (method, path) in [("POST", USERS), ("PATCH", "/scim/v2/Groups/01890000-0000-7000-8000-000000000000")] {
        let mut stranger = TcpStream::connect(address).await.expect("the node listens");
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/scim+json\r\nContent-Length: 100\r\n\r\n"
        );
        stranger.write_all(head.as_bytes()).await.expect("it is sent");
        let mut answer = [0; 12];
        let read = timeout(shared(seconds(10)), stranger.read_exact(&mut answer)).await;
        read.expect("nobody waits for the body").expect("an answer");
        assert_eq!(&answer, b"HTTP/1.1 401", "{method} {path}");
    }
    let scim = directory(&acme).await;
    let mut large = person(&unique("large"));
    large["unknown"] = json!("x".repeat(300 * 1024));
    send(&scim, Method::POST, USERS, large.clone()).await.expect(201);
    large["unknown"] = json!("x".repeat(1024 * 1024));
    assert_eq!(send(&scim, Method::POST, USERS, large).await.status, 413);
}

#[actix_web::test]
async fn a_directory_makes_finds_changes_and_removes_people() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let scim = directory(&acme).await;
    let name = unique("grace");
    let made = send(&scim, Method::POST, USERS, person(&name)).await.expect(201);
    let path = at(USERS, &made);
    assert_eq!(made.header("content-type"), Some("application/scim+json"));
    assert!(made.header("location").is_some_and(|location| location.ends_with(&path)), "{made:?}");
    assert_eq!(made.body["meta"]["version"].as_str(), made.header("etag"));
    assert_eq!((&made.body["userName"], &made.body["active"]), (&json!(name), &json!(true)));
    assert_eq!(made.body["groups"][0]["display"], "user");
    let seen = acme.admin().get(&format!("/api/v1/users/{}", made.body["id"].as_str().unwrap())).await.expect(200);
    assert_eq!(
        (&seen.data()["email"], &seen.data()["firstName"]),
        (&json!(format!("{name}@acme.test")), &json!("Grace"))
    );
    let again = send(&scim, Method::POST, USERS, person(&name)).await;
    refused(&again, 409, "uniqueness");
    refused(&scim.get("/scim/v2/Devices").await, 404, "");
    refused(&patch(&scim, &path, json!([])).await, 400, "invalidSyntax");
    let malformed = json!([{"op": "replace", "path": "emails[type eq", "value": "x"}]);
    refused(&patch(&scim, &path, malformed).await, 400, "invalidPath");

    // Found by what directories ask for, also people who were here before.
    let count = async |filter: &str| {
        let query: String = url::form_urlencoded::byte_serialize(filter.as_bytes()).collect();
        let found = scim.get(&format!("{USERS}?filter={query}")).await.expect(200);
        (found.body["totalResults"].as_i64().unwrap(), found.body["Resources"].as_array().unwrap().len())
    };
    let external = made.body["externalId"].as_str().unwrap();
    for (filter, found) in [
        (format!("userName eq \"{}\"", name.to_uppercase()), (1, 1)),
        (format!("externalId eq \"{external}\""), (1, 1)),
        (format!("userName eq \"{}\"", acme.email()), (1, 1)),
        (format!("userName sw \"{name}\" and active eq true"), (1, 1)),
        (format!("userName co \"{}\" and active eq false", &name[2..]), (0, 0)),
        (format!("not (userName co \"@\") and emails[type eq \"work\" and value eq \"{name}@acme.test\"]"), (1, 1)),
        ("userName eq \"nobody' OR 1=1\"".to_owned(), (0, 0)),
    ] {
        assert_eq!(count(&filter).await, found, "{filter}");
    }
    refused(&scim.get(&format!("{USERS}?filter=password+eq+%22x%22")).await, 400, "invalidFilter");
    let page = scim.get(&format!("{USERS}?startIndex=2&count=1")).await.expect(200);
    let shape = ["totalResults", "startIndex", "itemsPerPage"].map(|name| page.body[name].as_i64().unwrap());
    assert_eq!(shape, [2, 2, 1], "{page:?}");
    let none = scim.get(&format!("{USERS}?count=0")).await.expect(200);
    assert_eq!((&none.body["totalResults"], &none.body["Resources"]), (&json!(2), &json!([])));

    // Changed as Entra ID and as Okta do it, and not by whoever read something older.
    let entra = json!([
        {"op": "Replace", "path": "name.familyName", "value": "Murray"},
        {"op": "Add", "path": "emails[type eq \"work\"].value", "value": format!("{name}@new.test")},
        {"op": "Replace", "path": "externalId", "value": "other"},
        {"op": "Add", "path": "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:department", "value": "x"},
    ]);
    let changed = patch(&scim, &path, entra).await.expect(200);
    assert_eq!((&changed.body["name"]["familyName"], &changed.body["externalId"]), (&json!("Murray"), &json!("other")));
    assert_eq!(changed.body["emails"][0]["value"], json!(format!("{name}@new.test")));
    let okta = json!([{"op": "replace", "value": {"name": {"givenName": "G"}, "userName": format!("{name}2")}}]);
    let later = patch(&scim, &path, okta).await.expect(200);
    assert_eq!((&later.body["name"]["givenName"], &later.body["userName"]), (&json!("G"), &json!(format!("{name}2"))));
    let stale = scim.with("if-match", changed.header("etag").unwrap());
    refused(&patch(&stale, &path, json!([{"op": "replace", "path": "active", "value": false}])).await, 412, "");
    let fresh = scim.with("if-match", later.header("etag").unwrap());
    let mut whole = person(&format!("{name}2"));
    whole["emails"][0]["value"] = json!(format!("{name}@new.test"));
    let replaced = send(&fresh, Method::PUT, &path, whole).await.expect(200);
    assert_eq!(replaced.body["name"]["familyName"], "Hopper");
    let tag = replaced.header("etag").unwrap();
    for (read, status) in [(tag.to_owned(), 304), (format!("W/\"else\", {tag}"), 304), ("W/\"else\"".into(), 200)] {
        assert_eq!(scim.with("if-none-match", &read).get(&path).await.status, status, "{read}");
    }
    refused(&patch(&scim, &path, json!([{"op": "replace", "path": "groups", "value": []}])).await, 400, "invalidPath");
    refused(
        &patch(&scim, &path, json!([{"op": "replace", "path": "active", "value": "maybe"}])).await,
        400,
        "invalidValue",
    );
    refused(&send(&scim, Method::POST, USERS, json!({"userName": "no address"})).await, 400, "invalidValue");
    refused(&scim.send(Method::POST, USERS, Some(("application/json", "{".into()))).await, 400, "invalidSyntax");
    refused(&scim.send(Method::POST, USERS, Some(("text/plain", "{}".into()))).await, 415, "");

    assert_eq!(scim.delete(&path).await.status, 204);
    refused(&scim.delete(&path).await, 404, "");
    refused(&scim.get(&path).await, 404, "");
    for document in ["ServiceProviderConfig", "ResourceTypes", "Schemas"] {
        scim.get(&format!("/scim/v2/{document}")).await.expect(200);
    }
}

#[actix_web::test]
async fn whoever_a_directory_deactivates_is_out_at_once() {
    let home = TestApp::shared().await;
    let other = TestApp::builder().beside(home).start().await;
    let acme = home.tenant("acme").await;
    let scim = directory(&acme).await;
    let user = acme.user();
    let there = user.at(other.url());
    for one in [&user, &there] {
        one.get("/api/v1/users/me").await.expect(200);
    }
    let path = format!("{USERS}/{}", user.user_id().await);
    let changed = patch(&scim, &path, json!([{"op": "Replace", "path": "active", "value": "False"}])).await.expect(200);
    assert_eq!(changed.body["active"], false);
    user.get("/api/v1/users/me").await.refused(401, "token_revoked");
    eventually(seconds(2), "the other node knows", async || there.get("/api/v1/users/me").await.status == 401).await;
    // What was ended stays ended.
    patch(&scim, &path, json!([{"op": "replace", "value": {"active": true}}])).await.expect(200);
    user.get("/api/v1/users/me").await.refused(401, "token_revoked");
    // The last administrator stays, whatever a directory says; nobody takes over who may do more.
    let admin = format!("{USERS}/{}", acme.admin().user_id().await);
    refused(&patch(&scim, &admin, json!([{"op": "replace", "path": "active", "value": false}])).await, 409, "");
    refused(&scim.delete(&admin).await, 403, "mutability");
    let role = json!({"name": "keeper", "permissions": ["users:read", "users:write", "scim-tokens:write"]});
    acme.admin().post("/api/v1/roles", role).await.expect(201);
    let email = format!("{}@acme.test", unique("keeper"));
    let body = json!({"email": email, "firstName": "K", "lastName": "K", "password": PASSWORD, "roles": ["keeper"]});
    let id = acme.admin().post("/api/v1/users", body).await.expect(201).id();
    let small = directory_of(&acme, &acme.person(&email, PASSWORD)).await;
    let mail = json!([{"op": "replace", "path": "emails[type eq \"work\"].value", "value": "mine@acme.test"}]);
    refused(&patch(&small, &admin, mail).await, 403, "");
    // What its owner may not do any more, a directory may not do.
    let mine = format!("{USERS}/{id}");
    small.get(&mine).await.expect(200);
    acme.admin().patch(&format!("/api/v1/users/{id}"), json!({"roles": ["user"]})).await.expect(200);
    refused(&small.get(&mine).await, 403, "");
    acme.admin().patch(&format!("/api/v1/users/{id}"), json!({"status": "deactivated"})).await.expect(200);
    refused(&small.get(&mine).await, 401, "");
}

#[actix_web::test]
async fn groups_are_roles_and_never_beyond_the_token_s_owner() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let scim = directory(&acme).await;
    let user = acme.user();
    let id = user.user_id().await;
    user.get("/api/v1/api-keys").await.refused(403, "permission_denied");
    let role = json!({"name": "key masters", "permissions": ["api-keys:read"]});
    acme.admin().post("/api/v1/roles", role).await.expect(201);
    // A group of the directory's takes the role of its name over.
    let group = json!({"displayName": "key masters", "externalId": "g1", "members": [{"value": id}]});
    let taken = send(&scim, Method::POST, GROUPS, group.clone()).await.expect(201);
    user.get("/api/v1/api-keys").await.expect(200);
    refused(&send(&scim, Method::POST, GROUPS, group).await, 409, "uniqueness");
    let path = at(GROUPS, &taken);
    let found = scim.get(&format!("{GROUPS}?filter=displayName+eq+%22key+masters%22&excludedAttributes=members")).await;
    assert_eq!((&found.body["totalResults"], &found.body["Resources"][0]["members"]), (&json!(1), &Value::Null));
    let remove = json!([{"op": "Remove", "path": format!("members[value eq \"{id}\"]")}]);
    patch(&scim, &path, remove).await.expect(200);
    user.get("/api/v1/api-keys").await.refused(403, "permission_denied");
    let add = json!([{"op": "Add", "path": "members", "value": [{"value": id}]}]);
    patch(&scim, &path, add.clone()).await.expect(200);
    user.get("/api/v1/api-keys").await.expect(200);
    let entra = json!([{"op": "Remove", "path": "members", "value": [{"value": id}]}]);
    let emptied = patch(&scim, &path, entra).await.expect(200);
    assert_eq!(emptied.body["members"], json!([]));
    // What a role may do is not a directory's to say, nor its name; a role that was here stays.
    refused(
        &patch(&scim, &path, json!([{"op": "replace", "path": "permissions", "value": []}])).await,
        400,
        "invalidPath",
    );
    refused(&patch(&scim, &path, json!([{"op": "replace", "value": {"displayName": "x"}}])).await, 409, "");
    refused(&scim.delete(&path).await, 403, "mutability");
    // One of its own may do nothing until somebody here says what, and goes when it says so.
    let own =
        send(&scim, Method::POST, GROUPS, json!({"displayName": unique("own"), "members": [{"value": id}]})).await;
    let own = at(GROUPS, &own.expect(201));
    assert_eq!(scim.get(&own).await.expect(200).body["members"][0]["value"], json!(id));
    assert_eq!(scim.delete(&own).await.status, 204);
    refused(&scim.get(&own).await, 404, "");

    // A directory with a token of somebody who may do less gives no more than they may.
    let role = json!({"name": "keeper", "permissions": ["users:read", "users:write", "scim-tokens:write"]});
    acme.admin().post("/api/v1/roles", role).await.expect(201);
    let email = format!("{}@acme.test", unique("keeper"));
    let body = json!({"email": email, "firstName": "K", "lastName": "K", "password": PASSWORD, "roles": ["keeper"]});
    acme.admin().post("/api/v1/users", body).await.expect(201);
    let small = directory_of(&acme, &acme.person(&email, PASSWORD)).await;
    refused(&patch(&small, &path, add).await, 403, "");
    // Not even to somebody who may do nothing yet.
    let nobody = json!({"email": format!("{}@acme.test", unique("nobody")), "firstName": "N", "lastName": "N"});
    let nobody = acme.admin().post("/api/v1/users", nobody).await.expect(201).id();
    let add = json!([{"op": "Add", "path": "members", "value": [{"value": nobody}]}]);
    refused(&patch(&small, &path, add.clone()).await, 403, "");
    patch(&scim, &path, add).await.expect(200);
    let noted = format!(
        "SELECT string_agg(action, ' ' ORDER BY id) AS word FROM audit WHERE user_id = '{id}' AND action LIKE 'scim.%'"
    );
    let each = "scim.role_given scim.role_taken";
    assert_eq!(db::word(acme.database(), &noted).await, format!("{each} {each} {each}"));
    // Not even the last administrator's own directory takes them away.
    let admins = scim.get(&format!("{GROUPS}?filter=displayName+eq+%22admin%22")).await.expect(200);
    let admins = format!("{GROUPS}/{}", admins.body["Resources"][0]["id"].as_str().unwrap());
    refused(&patch(&scim, &admins, json!([{"op": "replace", "path": "members", "value": []}])).await, 409, "");
}

/// Of many who change what they have read at the same moment one does, and the others know.
#[actix_web::test]
async fn of_many_changes_of_one_version_one_is_made() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let scim = directory(&acme).await;
    let name = unique("grace");
    let made = send(&scim, Method::POST, USERS, person(&name)).await.expect(201);
    let id = made.body["id"].clone();
    let group = unique("group");
    let owned = json!({"displayName": group, "externalId": "g"});
    let owned = send(&scim, Method::POST, GROUPS, owned).await.expect(201);
    let others = |n: usize| {
        let mut other = person(&name);
        other["name"]["givenName"] = json!(format!("Grace {n}"));
        other
    };
    let members = |n: usize| json!({"displayName": group, "externalId": format!("g{n}"), "members": [{"value": id}]});
    let many = async |path: String, read: &Answer, bodies: Vec<Value>| {
        let reader = scim.with("if-match", read.header("etag").expect("a version"));
        let puts = bodies.into_iter().map(|body| send(&reader, Method::PUT, &path, body));
        let mut answers: Vec<u16> = join_all(puts).await.iter().map(|answer| answer.status).collect();
        answers.sort_unstable();
        answers
    };
    let one = [200, 412, 412, 412, 412, 412, 412, 412, 412, 412];
    assert_eq!(many(at(USERS, &made), &made, (0..10).map(others).collect()).await, one);
    assert_eq!(many(at(GROUPS, &owned), &owned, (0..10).map(members).collect()).await, one);
    // Any of the versions that were read will do.
    let now = scim.get(&at(USERS, &made)).await.expect(200);
    let tag = now.header("etag").expect("a version");
    let several = scim.with("if-match", &format!("\"other\", {tag}"));
    send(&several, Method::PUT, &at(USERS, &made), person(&name)).await.expect(200);
    refused(&send(&several, Method::PUT, &at(USERS, &made), person(&name)).await, 412, "");
}

#[actix_web::test]
async fn a_directory_s_token_is_for_scim_and_one_tenant_alone() {
    let app = TestApp::shared().await;
    let (acme, globex) = (app.tenant("acme").await, app.tenant("globex").await);
    acme.user().post(TOKENS, json!({"name": "x"})).await.refused(403, "permission_denied");
    let made = acme.admin().post(TOKENS, json!({"name": "x"})).await.expect(201);
    let text = made.data()["token"].as_str().unwrap().to_owned();
    assert!(text.starts_with("tsc_"));
    let scim = acme.anonymous().bearing(&text);
    let listed = acme.admin().get(TOKENS).await.expect(200);
    assert!(!listed.text.contains(&text), "{listed:?}");
    let kept = db::word(acme.database(), "SELECT t::text AS word FROM scim_tokens t").await;
    assert!(!kept.contains(&text[10..]), "{kept}");
    // Not on other routes, and none but it here.
    scim.get("/api/v1/users").await.refused(401, "token_invalid");
    acme.anonymous().with("x-api-key", &text).get("/api/v1/users").await.refused(401, "token_invalid");
    refused(&acme.admin().get(USERS).await, 401, "");
    refused(&acme.anonymous().get(USERS).await, 401, "");
    let forged = format!("{}{}", &text[..text.len() - 1], if text.ends_with('A') { 'B' } else { 'A' });
    refused(&acme.anonymous().bearing(&forged).get(USERS).await, 401, "");
    // Of one tenant: the other's people are not there, and naming it is refused.
    let theirs = format!("{USERS}/{}", globex.admin().user_id().await);
    refused(&scim.get(&theirs).await, 404, "");
    refused(&patch(&scim, &theirs, json!([{"op": "replace", "path": "active", "value": false}])).await, 404, "");
    refused(&scim.with("x-tenant-id", globex.slug.as_str()).get(USERS).await, 404, "");
    let all = scim.get(USERS).await.expect(200);
    assert!(!all.text.contains(globex.email()), "{all:?}");
    acme.admin().delete(&format!("{TOKENS}/{}", made.id())).await.expect(204);
    refused(&scim.get(USERS).await, 401, "");
    acme.admin().delete(&format!("{TOKENS}/{}", made.id())).await.refused(404, "not_found");
    for end in ["2001-01-01T00:00:00Z", "-9999-01-01T00:00:00Z", "+10000-01-01T00:00:00Z"] {
        let wanted = json!({"name": "x", "expiresAt": end});
        assert_eq!(acme.admin().post(TOKENS, wanted).await.invalid()[0].0, "expiresAt", "{end}");
    }
}

/// What a directory makes, an identity provider lets in.
#[actix_web::test]
async fn a_person_of_a_directory_comes_in_through_its_provider() {
    let acme = identity::app().await.tenant("acme").await;
    provider(&acme, "evil", &format!("{}/directory", evil()), json!({"allowedDomains": []})).await;
    let scim = directory(&acme).await;
    let name = unique("ivy");
    let made = send(&scim, Method::POST, USERS, person(&name)).await.expect(201);
    let begun = identity::begin(&acme, "evil").await;
    let code = begun.code(&json!({"claims": {"sub": unique("s"), "email": format!("{name}@acme.test")}}));
    let came = identity::back(&acme.anonymous(), &begun.state, &code, None).await.expect(200);
    assert_eq!(came.data()["user"]["id"], made.body["id"]);
    let who = acme.anonymous().bearing(came.data()["accessToken"].as_str().unwrap());
    who.get("/api/v1/contacts").await.expect(200);
    let out = json!([{"op": "replace", "path": "active", "value": false}]);
    patch(&scim, &at(USERS, &made), out).await.expect(200);
    who.get("/api/v1/contacts").await.refused(401, "token_revoked");
}
