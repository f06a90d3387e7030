//! What a password has to be like, and where people bring theirs along.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use serde_json::{Value, json};
use tenantry::testing::{Tenant, TestApp};

use crate::support::dir::Dir;
use crate::support::{db, unique};

const PASSWORD: &str = "an uncommon sentence of five words";
const POLICY: &str = "/api/v1/security-policy";
/// bcrypt, by another library, of "correct horse battery".
const FOREIGN: &str = "$2b$10$vmvwA8yJazhsPiut.0dtXO9indCXJq3dU8M0Y6/IDXl/OsowFyr6G";

fn person(password: &str, roles: &[&str]) -> Value {
    let email = format!("{}@example.com", unique("p"));
    json!({"email": email, "firstName": "Augusta", "lastName": "Byron", "password": password, "roles": roles})
}

async fn refused(tenant: &Tenant, password: &str, roles: &[&str]) -> String {
    let answer = tenant.admin().post("/api/v1/users", person(password, roles)).await.expect(422);
    let faults = answer.invalid();
    assert_eq!((faults.len(), &*faults[0].0), (1, "password"), "{answer:?}");
    faults[0].1.clone()
}

#[actix_web::test]
async fn the_policy_decides_what_a_password_has_to_be_like() {
    let app = TestApp::shared().await;
    let acme = app.tenant("words").await;
    let admin = acme.admin();
    assert_eq!(refused(&acme, "ninewagons kXw", &[]).await, "too_short");
    assert_eq!(refused(&acme, "passwordpassword", &[]).await, "too_guessable");
    assert_eq!(refused(&acme, "augusta byron augusta", &[]).await, "too_guessable");
    admin.post("/api/v1/users", person("ninewagons kXw7", &[])).await.expect(201);
    admin.post("/api/v1/users", person(&"nine wagons, ".repeat(6), &[])).await.expect(201);

    let rules = json!({"password": {"minLength": 20, "blockedWords": ["Roadrunner Industries"]}});
    let policy = admin.patch(POLICY, rules).await.expect(200);
    let wanted =
        json!({"minLength": 20, "minLengthWithFactor": 8, "history": 0, "blockedWords": ["Roadrunner Industries"]});
    assert_eq!(policy.data()["password"], wanted);
    assert_eq!(refused(&acme, "ninewagons kXw7", &[]).await, "too_short");
    assert_eq!(refused(&acme, "roadrunner industries", &[]).await, "too_guessable");
    // Beside a second factor a shorter one will do.
    admin.patch(POLICY, json!({"mfaRequiredRoles": ["user"]})).await.expect(200);
    admin.post("/api/v1/users", person("kXw7wagon", &["user"])).await.expect(201);
    assert_eq!(refused(&acme, "kXw7wagon", &[]).await, "too_short");

    let usual = admin.patch(POLICY, json!({"password": null})).await.expect(200);
    let wanted = json!({"minLength": 15, "minLengthWithFactor": 8, "history": 0, "blockedWords": []});
    assert_eq!(usual.data()["password"], wanted);
    for (bad, field) in [
        (json!({"minLength": 7}), "password.minLength"),
        (json!({"history": 25}), "password.history"),
        (json!({"blockedWords": ["ab"]}), "password.blockedWords[0]"),
        (json!({"rotation": 90}), "password.rotation"),
    ] {
        let faults = admin.patch(POLICY, json!({"password": bad})).await.expect(422).invalid();
        assert_eq!(faults[0].0, field);
    }
}

#[actix_web::test]
async fn an_earlier_password_is_not_taken_again_where_the_policy_says_so() {
    let app = TestApp::shared().await;
    let acme = app.tenant("memory").await;
    let admin = acme.admin();
    admin.patch(POLICY, json!({"password": {"history": 2}})).await.expect(200);
    let made = admin.post("/api/v1/users", person(PASSWORD, &[])).await.expect(201);
    let path = format!("/api/v1/users/{}", made.id());
    let set = async |password: &str| admin.patch(&path, json!({"password": password})).await;
    let [first, second, third] =
        ["first", "second", "third"].map(|word| format!("the {word} sentence of a quiet person"));
    set(PASSWORD).await.expect(422);
    set(&first).await.expect(200);
    assert_eq!(set(PASSWORD).await.invalid(), [("password".to_owned(), "used_before".to_owned())]);
    set(&second).await.expect(200);
    set(&first).await.expect(422);
    set(&third).await.expect(200);
    set(PASSWORD).await.expect(200);

    // Turned off, nothing is kept, and nothing is asked.
    admin.patch(POLICY, json!({"password": {"history": 0}})).await.expect(200);
    set(PASSWORD).await.expect(200);
    let kept = format!("SELECT count(*)::text AS word FROM password_history WHERE user_id = '{}'", made.id());
    assert_eq!(db::word(acme.database(), &kept).await, "0");
}

#[actix_web::test]
async fn a_stranger_to_the_current_password_learns_nothing_of_the_earlier_ones() {
    let app = TestApp::shared().await;
    let acme = app.tenant("reserve").await;
    let admin = acme.admin();
    admin.patch(POLICY, json!({"password": {"history": 3}})).await.expect(200);
    let body = person(PASSWORD, &["user"]);
    admin.post("/api/v1/users", body.clone()).await.expect(201);
    let they = acme.person(body["email"].as_str().unwrap(), PASSWORD);
    let change = async |current: &str, new: &str| {
        let body = json!({"currentPassword": current, "newPassword": new});
        they.post("/api/v1/auth/change-password", body).await
    };
    let wrong = change("a wrong guess at what it is", PASSWORD).await.invalid();
    assert_eq!(wrong, [("currentPassword".to_owned(), "incorrect".to_owned())]);
    let again = change(PASSWORD, PASSWORD).await.invalid();
    assert_eq!(again, [("newPassword".to_owned(), "used_before".to_owned())]);
    change(PASSWORD, "Augusta Byron Augusta").await.refused(422, "validation_failed");
    change(PASSWORD, "another uncommon sentence of mine").await.expect(204);
}

#[actix_web::test]
async fn whoever_may_not_set_a_password_learns_nothing_by_trying() {
    let app = TestApp::shared().await;
    let acme = app.tenant("guesses").await;
    let admin = acme.admin();
    admin.patch(POLICY, json!({"password": {"history": 3}})).await.expect(200);
    let role = json!({"name": unique("keeper"), "permissions": ["users:read", "users:write"]});
    let role = admin.post("/api/v1/roles", role).await.expect(201);
    let keeper = person(PASSWORD, &[role.data()["name"].as_str().unwrap()]);
    admin.post("/api/v1/users", keeper.clone()).await.expect(201);
    let keeper = acme.person(keeper["email"].as_str().unwrap(), PASSWORD);
    let (earlier, current) = (PASSWORD, "another uncommon sentence of theirs");
    let mut whole = person(earlier, &["admin"]);
    let path = format!("/api/v1/users/{}", admin.post("/api/v1/users", whole.clone()).await.expect(201).id());
    admin.patch(&path, json!({"password": current})).await.expect(200);
    for guess in [earlier, current, "a wrong guess at what it might be"] {
        keeper.patch(&path, json!({"password": guess})).await.refused(403, "permission_denied");
        whole["password"] = json!(guess);
        keeper.put(&path, whole.clone()).await.refused(403, "permission_denied");
    }
    // Nor where the mails go by which it is reset: another spelling may be another mailbox.
    let (local, domain) = whole["email"].as_str().unwrap().split_once('@').unwrap();
    let spelt = json!({"email": format!("{}@{domain}", local.to_uppercase())});
    keeper.patch(&path, spelt.clone()).await.refused(403, "permission_denied");
    keeper.patch(&path, json!({"lastName": "Anybody's to change"})).await.expect(200);
    admin.patch(&path, spelt).await.expect(200);
}

#[actix_web::test]
async fn people_bring_their_passwords_along() {
    let app = TestApp::shared().await;
    let acme = app.tenant("arrivals").await;
    let admin = acme.admin();
    let [bound, invited] = ["bound", "invited"].map(|name| format!("{}@example.com", unique(name)));
    let body = json!({"users": [
        {"email": bound, "firstName": "B", "lastName": "C", "passwordHash": FOREIGN, "roles": ["user"]},
        {"email": invited, "lastName": "D"},
    ]});
    let done = admin.post("/api/v1/users/import", body.clone()).await.expect(201);
    assert_eq!((&done.data()["added"], &done.data()["skipped"]), (&json!(2), &json!([])));

    let hash = format!("SELECT password_hash AS word FROM users WHERE email = '{bound}'");
    assert_eq!(db::word(acme.database(), &hash).await, FOREIGN);
    acme.log_in_as(&bound, "correct horse battery!").await.refused(401, "invalid_credentials");
    assert_eq!(db::word(acme.database(), &hash).await, FOREIGN);
    acme.person(&bound, "correct horse battery").get("/api/v1/contacts").await.expect(200);
    let ours = db::word(acme.database(), &hash).await;
    assert!(ours.starts_with("$argon2id$v=19$m=19456,t=2,p=1"), "{ours}");
    acme.log_in_as(&bound, "correct horse battery").await.expect(200);
    assert_eq!(db::word(acme.database(), &hash).await, ours, "it is renewed once");

    let again = admin.post("/api/v1/users/import", body.clone()).await;
    let again = again.refused(409, "already_exists");
    assert_eq!(again.body["error"]["errors"][0]["field"], "users[0].email");
    let mut more = body;
    more["skipExisting"] = json!(true);
    more["users"].as_array_mut().unwrap().push(json!({"email": format!("{}@example.com", unique("third"))}));
    let done = admin.post("/api/v1/users/import", more).await.expect(201);
    assert_eq!((&done.data()["added"], &done.data()["skipped"]), (&json!(1), &json!([bound, invited])));
    let noted = "SELECT count(*)::text AS word FROM audit WHERE action = 'user.imported'";
    assert_eq!(db::word(acme.database(), noted).await, "3");
}

#[actix_web::test]
async fn an_import_is_all_or_nothing() {
    let app = TestApp::shared().await;
    let acme = app.tenant("departures").await;
    let admin = acme.admin();
    let email = |name: &str| format!("{name}@departures.example.com");
    let import = async |users: Value| admin.post("/api/v1/users/import", json!({"users": users})).await;
    let good = json!({"email": email("good"), "passwordHash": FOREIGN});
    for (bad, field, code) in [
        (json!({"email": "nobody"}), "users[1].email", "invalid"),
        (json!({"email": email("GOOD")}), "users[1].email", "duplicate"),
        (json!({"email": email("x"), "passwordHash": "in clear"}), "users[1].passwordHash", "unknown_hash"),
        (
            json!({"email": email("x"), "passwordHash": FOREIGN.replace("$10$", "$31$")}),
            "users[1].passwordHash",
            "too_costly",
        ),
        (
            json!({"email": email("x"), "passwordHash": FOREIGN.replace("$10$", "$09$")}),
            "users[1].passwordHash",
            "too_weak",
        ),
        (json!({"email": email("x"), "roles": ["user", "emperor"]}), "users[1].roles[1]", "unknown_role"),
    ] {
        let faults = import(json!([good, bad])).await.expect(422).invalid();
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert_eq!((&*faults[0].0, &*faults[0].1), (field, code));
    }
    import(json!([])).await.expect(422);
    let here = "SELECT count(*)::text AS word FROM users WHERE email LIKE '%@departures.example.com'";
    assert_eq!(db::word(acme.database(), here).await, "0");
    import(json!([good])).await.expect(201);

    // Whoever may add people, and no more, brings no administrators along.
    let role = json!({"name": unique("clerk"), "permissions": ["users:read", "users:write"]});
    let role = admin.post("/api/v1/roles", role).await.expect(201);
    let clerk = person(PASSWORD, &[role.data()["name"].as_str().unwrap()]);
    admin.post("/api/v1/users", clerk.clone()).await.expect(201);
    let clerk = acme.person(clerk["email"].as_str().unwrap(), PASSWORD);
    let body = json!({"users": [{"email": email("king"), "passwordHash": FOREIGN, "roles": ["admin"]}]});
    let faults = clerk.post("/api/v1/users/import", body).await.expect(422).invalid();
    assert_eq!(faults[0].1, "beyond_own_permissions");
}

#[actix_web::test]
async fn what_has_leaked_is_refused_where_a_list_is_named() {
    let home = TestApp::shared().await;
    let acme = home.tenant("acme").await;
    let known = "an uncommon sentence that everybody knows";
    let digest = digest(&SHA1_FOR_LEGACY_USE_ONLY, known.as_bytes());
    let digest: String = digest.as_ref().iter().map(|byte| format!("{byte:02X}")).collect();
    let dir = Dir::new();
    let list = dir.path().join("leaked.txt");
    std::fs::write(&list, format!("{digest}:3\r\n")).unwrap();
    let app = TestApp::builder().beside(home).set("TENANTRY_AUTH__LEAKED_PASSWORDS", list.to_str().unwrap());
    let app = app.start().await;
    let admin = acme.at(app.url()).admin();
    let faults = admin.post("/api/v1/users", person(known, &[])).await.expect(422).invalid();
    assert_eq!(faults, [("password".to_owned(), "too_guessable".to_owned())]);
    let body = json!({"currentPassword": acme.password(), "newPassword": known});
    let faults = admin.post("/api/v1/auth/change-password", body).await.expect(422).invalid();
    assert_eq!(faults, [("newPassword".to_owned(), "too_guessable".to_owned())]);
    admin.post("/api/v1/users", person("an uncommon sentence that nobody knows", &[])).await.expect(201);
    acme.admin().post("/api/v1/users", person(known, &[])).await.expect(201);
}

/// Whoever finds a session open takes nobody's account by it, not even the one it is of.
#[actix_web::test]
async fn what_one_comes_in_by_is_not_changed_in_passing() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let admin = acme.admin();
    let new = json!({"password": "another uncommon sentence of mine"});
    let own = format!("/api/v1/users/{}", admin.user_id().await);
    let faults = admin.patch(&own, new.clone()).await.expect(422).invalid();
    assert_eq!(faults, [("password".to_owned(), "own_password".to_owned())]);
    let made = admin.post("/api/v1/users", person(PASSWORD, &[])).await.expect(201);
    let path = format!("/api/v1/users/{}", made.id());
    let key = json!({"name": unique("key"), "scopes": ["users:read", "users:write"]});
    let key = admin.post("/api/v1/api-keys", key).await.expect(201).data()["key"].as_str().unwrap().to_owned();
    let program = acme.anonymous().with("x-api-key", &key);
    program.patch(&path, new.clone()).await.refused(403, "permission_denied");
    program.patch(&path, json!({"firstName": "Other"})).await.expect(200);
    let later = TestApp::builder().beside(app).start().await;
    let known = later.at(&acme).anonymous().bearing(&admin.token().await);
    later.clock().advance(chrono::TimeDelta::minutes(11));
    known.patch(&path, new).await.refused(403, "step_up_required");
    // Nor where the link to another one is sent, nor what is asked for beside it.
    let elsewhere = json!({"email": format!("{}@example.com", unique("p"))});
    program.patch(&path, elsewhere.clone()).await.refused(403, "permission_denied");
    for path in [&path, &own] {
        known.patch(path, elsewhere.clone()).await.refused(403, "step_up_required");
        known.delete(&format!("{path}/mfa")).await.refused(403, "step_up_required");
    }
    known.patch(&path, json!({"firstName": "Another"})).await.expect(200);
    admin.patch(&path, elsewhere).await.expect(200);
}

/// Whoever comes with a hash that needs a dropped pepper is told what everybody is told, and gets in by a reset.
#[actix_web::test]
async fn a_dropped_pepper_is_a_wrong_password_to_whoever_logs_in() {
    let home = TestApp::shared().await;
    let acme = home.tenant("acme").await;
    let email = format!("{}@example.com", unique("p"));
    let body = json!({"email": email, "firstName": "A", "lastName": "B", "password": PASSWORD});
    acme.admin().post("/api/v1/users", body).await.expect(201);
    let dropped = format!(
        "UPDATE users SET password_hash = replace(password_hash, 'p=1$', 'p=1,keyid=AAAAAAAA$') WHERE email = '{email}'"
    );
    db::execute(acme.database(), &dropped).await;
    acme.log_in_as(&email, PASSWORD).await.refused(401, "invalid_credentials");
}

/// A password is judged by the roles of whose it is to be, whichever way they have them.
#[actix_web::test]
async fn whoever_is_invited_chooses_by_their_own_roles() {
    const SHORT: &str = "kXw7wagon";
    let app = TestApp::shared().await;
    let acme = app.tenant("own").await;
    let admin = acme.another_login().await;
    let accept = async |roles: &[&str]| {
        let email = format!("{}@example.com", unique("i"));
        let body = json!({"email": email, "firstName": "I", "lastName": "I", "roles": roles});
        let made = admin.post("/api/v1/users", body).await.expect(201);
        let token = made.data()["invitationToken"].as_str().expect("a token").to_owned();
        let body = json!({"tenant": acme.slug.as_str(), "email": email, "password": SHORT, "invitation": token});
        acme.anonymous().post("/api/v1/auth/register", body).await
    };
    let role = unique("guarded");
    admin.post("/api/v1/roles", json!({"name": role, "permissions": []})).await.expect(201);
    admin.patch(POLICY, json!({"mfaRequiredRoles": [role]})).await.expect(200);
    accept(&[role.as_str()]).await.expect(201);
    assert_eq!(accept(&["user"]).await.invalid()[0].1, "too_short");
    admin.patch(POLICY, json!({"mfaRequiredRoles": ["user"]})).await.expect(200);
    assert_eq!(accept(&[role.as_str()]).await.invalid()[0].1, "too_short");
    // By way of a team as well.
    let id = admin.post("/api/v1/users", person(PASSWORD, &[])).await.expect(201).id();
    let change = async || admin.patch(&format!("/api/v1/users/{id}"), json!({"password": SHORT})).await;
    assert_eq!(change().await.invalid()[0].1, "too_short");
    let team = admin.post("/api/v1/teams", json!({"name": unique("t"), "roles": ["user"]})).await.expect(201).id();
    admin.put(&format!("/api/v1/teams/{team}/members/{id}"), Value::Null).await.expect(204);
    change().await.expect(200);
}
