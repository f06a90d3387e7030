//! `tenantry tenant`: exit codes, JSON, and what is never printed.

use serde_json::{Value, json};
use tenantry::testing::TestApp;

use crate::support::binary::run;
use crate::support::{eventually, seconds, unique};

#[actix_web::test]
async fn create_prints_the_tenant_and_its_steps_and_it_serves_at_once() {
    let app = TestApp::shared().await;
    let slug = unique("hooli");
    let arguments =
        ["tenant", "create", &slug, "--name", "Hooli", "--admin-email", "gavin@hooli.test", "--output", "json"];
    let said = run(app, &arguments).await.expect(0);
    let tenant = said.json();
    for field in ["id", "slug", "name", "status", "kind", "cluster", "databaseName", "schemaVersion", "createdAt"] {
        assert!(!tenant[field].is_null(), "{field}: {tenant}");
    }
    assert_eq!(
        (&tenant["status"], &tenant["kind"], &tenant["name"]),
        (&json!("active"), &json!("shared"), &json!("Hooli"))
    );
    let steps = tenant["steps"].as_array().expect("steps");
    assert!(steps.len() >= 10 && steps.iter().all(|step| step["name"].is_string() && step["ms"].is_i64()), "{steps:?}");
    let password = tenant["adminPassword"].as_str().expect("a password, once");
    assert_eq!(said.all().matches(password).count(), 1, "{said:#?}");
    assert!(!said.all().contains("postgres://"), "{said:#?}");
    let body = json!({"tenant": slug, "email": "gavin@hooli.test", "password": password});
    app.anonymous().post("/api/v1/auth/login", body).await.expect(200);
    let show = run(app, &["tenant", "show", &slug, "--output", "json"]).await.expect(0);
    assert_eq!(show.json()["id"], tenant["id"]);
    assert!(!show.all().contains(password), "{show:#?}");
    let list = run(app, &["tenant", "list", "--output", "json"]).await.expect(0).json();
    assert!(list.as_array().unwrap().iter().any(|entry| entry["slug"] == slug.as_str()));
}

#[actix_web::test]
async fn refusals_have_their_exit_codes() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let slug = acme.slug.as_str();
    for bad in ["Bad", "ab", "1abc", "a_b", "a b", "admin", &"a".repeat(49)] {
        run(app, &["tenant", "create", bad]).await.expect(2);
    }
    let taken = run(app, &["tenant", "create", slug]).await.expect(4);
    assert_eq!(taken.stderr.trim().lines().count(), 1, "{taken:#?}");
    // Nobody is there to confirm.
    let unconfirmed = run(app, &["tenant", "delete", slug, "--now"]).await.expect(4);
    assert!(unconfirmed.stderr.contains("--yes"), "{unconfirmed:#?}");
    acme.admin().get("/api/v1/contacts").await.expect(200);
    for arguments in [&["tenant", "show", "nobody-has-this"][..], &["tenant", "suspend", "nobody-has-this"]] {
        let said = run(app, arguments).await;
        assert!([Some(1), Some(4)].contains(&said.code) && said.stderr.trim().lines().count() == 1, "{said:#?}");
    }
    let weak = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(weak.path(), "short").unwrap();
    let path = weak.path().to_string_lossy().into_owned();
    let arguments = ["tenant", "create", &unique("weak"), "--admin-email", "a@b.ch", "--admin-password-file", &path];
    let said = run(app, &arguments).await;
    assert!([Some(2), Some(4)].contains(&said.code) && !said.all().contains("short "), "{said:#?}");
}

#[actix_web::test]
async fn suspend_and_resume_reach_a_running_server() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let (admin, slug) = (acme.admin(), acme.slug.as_str());
    admin.get("/api/v1/contacts").await.expect(200);
    let suspended = run(app, &["tenant", "suspend", slug, "--output", "json"]).await.expect(0).json();
    assert_eq!(suspended["status"], "suspended");
    eventually(seconds(2), "suspended", async || admin.get("/api/v1/contacts").await.status == 403).await;
    run(app, &["tenant", "resume", slug]).await.expect(0);
    eventually(seconds(2), "resumed", async || admin.get("/api/v1/contacts").await.status == 200).await;
    run(app, &["tenant", "set", slug, "--name", "Renamed"]).await.expect(0);
    let renamed = async || admin.get("/api/v1/tenants/current").await.data()["name"] == "Renamed";
    eventually(seconds(2), "renamed", renamed).await;
    let only = run(app, &["tenant", "list", "--status", "suspended", "--output", "json"]).await.expect(0).json();
    assert!(only.as_array().unwrap().iter().all(|entry| entry["status"] == "suspended"));
}

#[actix_web::test]
async fn clusters_and_operators_are_listed_without_their_secrets() {
    use secrecy::ExposeSecret as _;
    let app = TestApp::builder().start().await;
    app.tenant("acme").await;
    let password = app.server().password.expose_secret().to_owned();
    let list = run(&app, &["cluster", "list", "--output", "json"]).await.expect(0);
    assert!(list.json()[0].get("connectionBudget").is_some(), "{list:#?}");
    let show = run(&app, &["cluster", "show", "local", "--output", "json"]).await.expect(0);
    let operators = run(&app, &["operator", "list", "--output", "json"]).await.expect(0);
    for said in [&list, &show, &operators] {
        assert!(!said.all().contains(&password) && !said.all().contains("$argon2"), "{said:#?}");
    }
    let refused = run(&app, &["cluster", "remove", "local", "--yes"]).await;
    assert!(refused.code != Some(0), "tenants live on it: {refused:#?}");
}

#[actix_web::test]
async fn operators_are_printed_as_rest_gives_them() {
    let app = TestApp::builder().start().await;
    let (one, two) = (app.tenant("one").await, app.tenant("two").await);
    let email = "cto@operators.test";
    let as_rest_gives_it = async |printed: &Value| {
        let path = format!("/api/v1/admin/operators/{}", printed["id"].as_str().expect("an id"));
        assert_eq!(printed, app.operator().get(&path).await.expect(200).data());
    };
    let both = format!("{},{}", two.slug, one.slug);
    let create = ["operator", "create", "--email", email, "--role", "owner", "--tenants", &both, "--output", "json"];
    let mut created = run(&app, &create).await.expect(0).json();
    let password = created.as_object_mut().and_then(|fields| fields.remove("password"));
    assert!(password.is_some_and(|password| password.is_string()), "{created}");
    assert_eq!(created["tenants"], json!([one.slug, two.slug]));
    as_rest_gives_it(&created).await;

    let listed = run(&app, &["operator", "list", "--output", "json"]).await.expect(0).json();
    let listed = listed.as_array().expect("a list");
    as_rest_gives_it(listed.iter().find(|operator| operator["email"] == email).expect("in it")).await;
    let table = run(&app, &["operator", "list"]).await.expect(0).stdout;
    assert!(table.lines().any(|line| line.contains(email) && line.contains(&format!("{},{}", one.slug, two.slug))));
    let set = ["operator", "set", "--email", email, "--tenants", one.slug.as_str(), "--output", "json"];
    let set = run(&app, &set).await.expect(0).json();
    assert_eq!(set["tenants"], json!([one.slug]));
    as_rest_gives_it(&set).await;
    let disable = ["operator", "disable", "--email", email, "--yes", "--output", "json"];
    let disabled = run(&app, &disable).await.expect(0).json();
    assert!(disabled["disabledAt"].is_string() && disabled["tenants"] == json!([one.slug]), "{disabled}");
    as_rest_gives_it(&disabled).await;
}

/// TLS belongs to an address: without one it would change nothing, and look as if it had.
#[actix_web::test]
async fn tls_without_the_address_that_it_goes_with_is_refused() {
    let app = TestApp::shared().await;
    let tenant = app.tenant("plain").await;
    let flags: [&[&str]; 3] =
        [&["--tls-mode", "verify-full"], &["--ca-file", "x"], &["--client-cert", "x", "--client-key", "x"]];
    let commands: [(&[&str], &str); 3] = [
        (&["cluster", "set", "local", "--region", "nowhere"], "--admin-url-file"),
        (&["tenant", "rotate-credentials", tenant.slug.as_str()], "--database-url-file"),
        (&["tenant", "rotate-credentials", "--all"], "--database-url-file"),
    ];
    for given in flags {
        for (command, url) in commands {
            let said = run(app, &[command, given].concat()).await.expect(2);
            assert!(said.stderr.contains(&format!("--client-key go with {url}")), "{said:#?}");
        }
    }
}

/// What is to become of a move has nothing to do with where one would go: it would be ignored.
#[actix_web::test]
async fn what_becomes_of_a_move_stands_alone() {
    let app = TestApp::shared().await;
    let others: [&[&str]; 3] = [&["--to", "local"], &["--method", "dump"], &["--hold-deadline", "30s"]];
    for settle in ["--abort", "--confirm"] {
        for other in others {
            let said = run(app, &[&["tenant", "move", "nobody-here", settle][..], other].concat()).await.expect(2);
            let stands = said.stderr.contains("cannot be used with") && said.stderr.contains(other[0]);
            assert!(stands && said.stderr.contains(settle), "{said:#?}");
        }
    }
    let both = run(app, &["tenant", "move", "nobody-here", "--abort", "--confirm"]).await.expect(2);
    assert!(both.stderr.contains("cannot be used with"), "{both:#?}");
}

/// A tenant has one TLS mode, whichever way its server is reached.
#[actix_web::test]
async fn two_urls_that_ask_for_different_tls_are_refused() {
    let (app, files) = (TestApp::shared().await, tempfile::tempdir().unwrap());
    let file = |name: &str, url: &str| {
        let path = files.path().join(name);
        std::fs::write(&path, url).unwrap();
        path.to_string_lossy().into_owned()
    };
    let pooled = file("pooled", "postgres://u:hunter2@127.0.0.1:9/d");
    let slug = unique("two");
    let attach = ["tenant", "attach", &slug, "--database-url-file", &pooled, "--direct-url-file"];
    for (mode, said) in [("disable", "'verify-full' and 'disable'"), ("prefer", "promise nothing")] {
        let direct = file("direct", &format!("postgres://u:hunter2@127.0.0.1:9/d?sslmode={mode}"));
        let refused = run(app, &[&attach[..], &[&*direct]].concat()).await.expect(4);
        assert!(refused.stderr.contains(said) && !refused.all().contains("hunter2"), "{refused:#?}");
    }
}
