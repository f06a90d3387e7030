//! A customer's own database, adopted; and the ones that are refused, with nothing left behind.

use std::fs;
use std::path::Path;

use futures_util::future::join_all;
use secrecy::ExposeSecret as _;
use serde_json::json;
use tenantry::fleet::provision::{ATTACH, Step};
use tenantry::router::Target;
use tenantry::testing::TestApp;

use super::scene::dies;
use super::tls::TlsServer;
use crate::support::binary::{Said, run};
use crate::support::{db, eventually, seconds, unique};

/// `tenant attach` with everything in files, as an operator does it.
async fn attach(app: &TestApp, directory: &Path, slug: &str, target: &Target) -> Said {
    attach_with(app, directory, slug, target, &[]).await
}

async fn attach_with(app: &TestApp, directory: &Path, slug: &str, target: &Target, more: &[&str]) -> Said {
    let file = |name: &str, content: &str| {
        let path = directory.join(name);
        fs::write(&path, content).unwrap();
        path.to_string_lossy().into_owned()
    };
    let url = file("url", target.to_url().expose_secret());
    let password = file("password", "correct horse battery staple\n");
    let mode = target.tls.mode.as_str();
    let mut arguments =
        vec!["tenant", "attach", slug, "--database-url-file", &url, "--tls-mode", mode, "--output", "json"];
    arguments.extend(["--admin-email", "admin@initech.test", "--admin-password-file", &password]);
    let ca = target.tls.ca.as_ref().map(|pem| file("ca.pem", pem));
    let certificate = target.tls.client_cert.as_ref().map(|pem| file("client.pem", pem));
    let key = target.tls.client_key.as_ref().map(|pem| file("client.key", pem.expose_secret()));
    for (flag, path) in [("--ca-file", &ca), ("--client-cert", &certificate), ("--client-key", &key)] {
        if let Some(path) = path {
            arguments.extend([flag, path]);
        }
    }
    arguments.extend(more);
    run(app, &arguments).await
}

#[actix_web::test]
async fn a_dedicated_database_is_adopted_over_verify_full_with_a_client_certificate() {
    let app = TestApp::shared().await;
    let (tls, files) = (TlsServer::start().await, tempfile::tempdir().unwrap());
    tls.database("initech").await;
    let target = tls.customer("initech");
    let slug = unique("initech");
    let said = attach(app, files.path(), &slug, &target).await.expect(0);
    for secret in [target.password.expose_secret(), "correct horse battery staple", "PRIVATE KEY"] {
        assert!(!said.all().contains(secret), "{said:#?}");
    }
    let tenant = said.json();
    assert_eq!((&tenant["status"], &tenant["kind"]), (&json!("active"), &json!("dedicated")));
    let body = json!({"tenant": slug, "email": "admin@initech.test", "password": "correct horse battery staple"});
    let login = app.anonymous().post("/api/v1/auth/login", body).await.expect(200);
    let admin = app.anonymous().bearing(login.data()["accessToken"].as_str().unwrap());
    let id = admin.contact("Lumbergh").await;
    admin.get(&format!("/api/v1/contacts/{id}")).await.expect(200);
    let there = tls.server.target().with_database("initech");
    assert_eq!(db::word(&there, "SELECT last_name AS word FROM contacts").await, "Lumbergh");
    let encrypted = "SELECT bool_and(ssl AND client_dn IS NOT NULL)::text AS word FROM pg_stat_ssl s \
                     JOIN pg_stat_activity a USING (pid) WHERE a.usename = 'customer'";
    assert_eq!(db::word(&there, encrypted).await, "true");
    // Given back: the data stays with its owner, the stamp and the entry go.
    run(app, &["tenant", "delete", &slug, "--now", "--yes"]).await.expect(0);
    assert_eq!(db::word(&there, "SELECT count(*)::text AS word FROM contacts").await, "1");
    assert_eq!(
        db::word(
            &there,
            "SELECT count(*)::text AS word FROM pg_tables WHERE schemaname = 'tenantry' AND tablename = 'stamp'"
        )
        .await,
        "0"
    );
    let out = async || admin.get("/api/v1/contacts").await.status == 401;
    eventually(seconds(3), "its tokens end", out).await;
}

#[actix_web::test]
async fn what_cannot_be_adopted_is_refused_with_its_remedy_and_nothing_is_left() {
    let app = TestApp::builder().start().await;
    let (tls, files) = (TlsServer::start().await, tempfile::tempdir().unwrap());
    let admin = tls.server.target();
    for name in ["taken", "filled", "theirs"] {
        tls.database(name).await;
    }
    let inside = |name: &str| admin.with_database(name);
    attach(&app, files.path(), "taken", &tls.customer("taken")).await.expect(0);
    db::execute(&inside("filled"), "CREATE TABLE invoices (id int)").await;
    db::execute(
        &inside("theirs"),
        "ALTER DATABASE theirs OWNER TO postgres; REVOKE CREATE ON SCHEMA public FROM PUBLIC",
    )
    .await;
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let with = |database: &str, change: &dyn Fn(&mut Target)| {
        let mut target = tls.customer(database);
        change(&mut target);
        target
    };
    let before = db::words(app.control_database(), "SELECT slug AS word FROM tenants").await;
    let cases = [
        ("stamped for another tenant", tls.customer("taken"), "stamp"),
        ("not empty", tls.customer("filled"), "empty"),
        ("too few rights", tls.customer("theirs"), "owner"),
        ("no such database", tls.customer("nowhere"), "database"),
        ("unreachable", with("filled", &|t| t.port = silent), "reach"),
        ("wrong password", with("filled", &|t| t.password = "wrong".into()), "password"),
        ("wrong host name", with("filled", &|t| t.host = "127.0.0.1".into()), "certificate"),
        ("no client certificate", with("filled", &|t| (t.tls.client_cert, t.tls.client_key) = (None, None)), ""),
    ];
    let mut said_so_far = Vec::new();
    for (what, target, word) in cases {
        let said = attach(&app, files.path(), &unique("refused"), &target).await;
        assert_eq!(said.code, Some(4), "{what}: {said:#?}");
        let line = said.stderr.lines().last().unwrap_or_default().to_owned();
        assert!(line.to_lowercase().contains(word), "{what}: {line}");
        for secret in [target.password.expose_secret(), &admin.port.to_string()] {
            assert!(!said.all().contains(secret), "{what}: {line}");
        }
        said_so_far.push(line);
    }
    assert_eq!(db::words(app.control_database(), "SELECT slug AS word FROM tenants").await, before);
    assert_eq!(
        db::word(&inside("filled"), "SELECT count(*)::text AS word FROM pg_namespace WHERE nspname = 'tenantry'").await,
        "0"
    );
    let remedies: std::collections::BTreeSet<_> = said_so_far.iter().take(5).collect();
    assert_eq!(remedies.len(), 5, "each has a remedy of its own: {said_so_far:#?}");
    // The one that was adopted before still serves.
    let body = json!({"tenant": "taken", "email": "admin@initech.test", "password": "correct horse battery staple"});
    app.anonymous().post("/api/v1/auth/login", body).await.expect(200);
}

/// A database of a customer's own, on the tests' server.
pub(super) async fn customers(app: &TestApp, name: &str) -> Target {
    let server = app.server();
    db::execute(&server, &format!("CREATE ROLE {name} LOGIN PASSWORD 'of {name}'")).await;
    db::execute(&server, &format!("CREATE DATABASE {name} OWNER {name} TEMPLATE template0")).await;
    Target { user: name.to_owned(), password: format!("of {name}").into(), ..server.with_database(name) }
}

/// Requests may come as another role than the owner, through a pooler say. What is made belongs to the owner all the same.
#[actix_web::test]
async fn requests_may_have_a_role_that_is_a_member_of_the_owner() {
    let app = TestApp::shared().await;
    let (name, files) = (unique("roles"), tempfile::tempdir().unwrap());
    let owner = customers(app, &name).await;
    let member = format!("{name}_app");
    db::execute(&app.server(), &format!("CREATE ROLE {member} LOGIN PASSWORD 'of {member}'")).await;
    let pooled = Target { user: member.clone(), password: format!("of {member}").into(), ..owner.clone() };
    let direct = files.path().join("direct");
    fs::write(&direct, owner.to_url().expose_secret()).unwrap();
    let direct = ["--direct-url-file", direct.to_str().unwrap()];
    // One that is none could sign nobody in.
    let remedy = format!("GRANT \"{name}\" TO \"{member}\"");
    let lacking = attach_with(app, files.path(), &name, &pooled, &direct).await;
    assert!(lacking.code == Some(4) && lacking.stderr.contains(&remedy), "{lacking:#?}");
    db::execute(&app.server(), &remedy).await;
    attach_with(app, files.path(), &name, &pooled, &direct).await.expect(0);
    let body = json!({"tenant": name, "email": "admin@initech.test", "password": "correct horse battery staple"});
    let login = app.anonymous().post("/api/v1/auth/login", body).await.expect(200);
    let admin = app.anonymous().bearing(login.data()["accessToken"].as_str().unwrap());
    let id = admin.contact("Lumbergh").await;
    admin.get(&format!("/api/v1/contacts/{id}")).await.expect(200);
    let owners = "SELECT DISTINCT tableowner::text AS word FROM pg_tables WHERE schemaname IN ('public', 'tenantry')";
    let owners = db::words(&app.server().with_database(&name), owners).await;
    assert!(!owners.is_empty() && !owners.contains(&member), "{owners:?}");
}

/// What is in it of ours: stamps and people, and how many tables.
async fn contents(inside: &Target) -> (String, String) {
    let tables = "SELECT count(*)::text AS word FROM pg_tables WHERE schemaname = 'public'";
    let counts = "SELECT (SELECT count(*) FROM tenantry.stamp) || ' ' || (SELECT count(*) FROM users) AS word";
    (db::word(inside, tables).await, db::word(inside, counts).await)
}

/// `kill -9` at any step, before the journal has it or after: the same command again makes one active tenant.
#[actix_web::test]
async fn after_a_crash_at_any_step_the_same_command_adopts_it() {
    let app = TestApp::shared().await;
    let one = async |step: Step, before_journal: bool| {
        let (name, files) = (unique("customer"), tempfile::tempdir().unwrap());
        let target = customers(app, &name).await;
        let mut halt = vec!["--halt-after", step.as_str()];
        halt.extend(before_journal.then_some("--halt-before-journal"));
        let died = attach_with(app, files.path(), &name, &target, &halt).await;
        assert_eq!(died.code, None, "{step}: {died:#?}");
        let status = format!("SELECT status AS word FROM tenants WHERE slug = '{name}'");
        if step < Step::Activate {
            assert_eq!(db::words(app.control_database(), &status).await, ["provisioning"], "{step}");
        }
        let again = attach(app, files.path(), &name, &target).await;
        // The last step may have been journaled: then nothing is left to do, and the slug is taken.
        if step == Step::Activate && !before_journal && again.code == Some(4) {
            assert_eq!(again.stdout, "", "{again:#?}");
        } else {
            let made = again.expect(0).json();
            assert_eq!((&made["status"], &made["kind"]), (&json!("active"), &json!("dedicated")), "{step}");
        }
        assert_eq!(db::words(app.control_database(), &status).await, ["active"], "{step}");
        let inside = app.server().with_database(&name);
        let (tables, counts) = contents(&inside).await;
        assert_eq!(counts, "1 1", "{step}: stamps and people");
        let body = json!({"tenant": name, "email": "admin@initech.test", "password": "correct horse battery staple"});
        app.anonymous().post("/api/v1/auth/login", body).await.expect(200);
        run(app, &["tenant", "delete", &name, "--now", "--yes"]).await.expect(0);
        db::execute(&app.server(), &format!("DROP DATABASE {name} WITH (FORCE)")).await;
        db::execute(&app.server(), &format!("DROP ROLE {name}")).await;
        tables
    };
    let mut tables = Vec::new();
    for step in ATTACH {
        tables.extend(join_all([true, false].map(|before_journal| one(*step, before_journal))).await);
    }
    assert!(tables.iter().all(|count| *count == tables[0]), "{tables:?}");
}

/// Or it is taken back, and the customer's database is as it was.
#[actix_web::test]
async fn after_a_crash_at_any_step_an_adoption_can_be_taken_back() {
    let app = TestApp::shared().await;
    let one = async |step: Step| {
        let (name, files) = (unique("given"), tempfile::tempdir().unwrap());
        let target = customers(app, &name).await;
        let halt = ["--halt-after", step.as_str(), "--halt-before-journal"];
        let died = attach_with(app, files.path(), &name, &target, &halt).await;
        assert_eq!(died.code, None, "{step}: {died:#?}");
        run(app, &["tenant", "delete", &name, "--now", "--yes"]).await.expect(0);
        let rows = format!("SELECT status AS word FROM tenants WHERE slug = '{name}'");
        assert!(db::words(app.control_database(), &rows).await.is_empty(), "{step}");
        let ours = "SELECT tablename::text AS word FROM pg_tables WHERE schemaname IN ('public', 'tenantry')";
        if step < Step::Activate {
            assert!(db::words(&app.server().with_database(&name), ours).await.is_empty(), "{step}");
            // It can be begun anew.
            attach(app, files.path(), &name, &target).await.expect(0);
        }
    };
    for pair in ATTACH.chunks(2) {
        join_all(pair.iter().map(|step| one(*step))).await;
    }
}

/// The same command goes on with what was begun; one that asks for something else is told what was begun.
#[actix_web::test]
async fn an_interrupted_adoption_is_gone_on_with_as_it_was_begun() {
    let app = TestApp::shared().await;
    let (name, files) = (unique("begun"), tempfile::tempdir().unwrap());
    let target = customers(app, &name).await;
    let begin = ["--name", "Begun", "--registration", "closed", "--halt-after", "stamp"];
    let died = attach_with(app, files.path(), &name, &target, &begin).await;
    assert_eq!(died.code, None, "{died:#?}");
    for (other, said) in [
        (["--name", "Another"], "its name is 'Begun', not 'Another'"),
        (["--registration", "open"], "its registration is 'closed', not 'open'"),
        (["--max-connections", "7"], "its ceiling of connections is none, not '7'"),
    ] {
        let refused = attach_with(app, files.path(), &name, &target, &other).await.expect(4);
        assert!(refused.stderr.contains(said), "{refused:#?}");
    }
    attach(app, files.path(), &name, &target).await.expect(0);
    let made =
        format!("SELECT name || ' ' || registration || ' ' || status AS word FROM tenants WHERE slug = '{name}'");
    assert_eq!(db::word(app.control_database(), &made).await, "Begun closed active");
}

/// What is certified was seen to go: nothing is, of a database that does not say whose it is. Large objects go as well, and
/// what the role has in schemas of others.
#[actix_web::test]
async fn an_adopted_database_is_erased_only_while_it_is_stamped_for_its_tenant() {
    let app = TestApp::shared().await;
    let (name, files) = (unique("erased"), tempfile::tempdir().unwrap());
    let target = customers(app, &name).await;
    attach(app, files.path(), &name, &target).await.expect(0);
    let inside = app.server().with_database(&name);
    let elsewhere = format!(
        "CREATE SCHEMA others; GRANT ALL ON SCHEMA others TO {name}; \
         CREATE TABLE others.saved AS TABLE tenantry.stamp; SET ROLE {name}; \
         CREATE TABLE others.kept (id int); SELECT lo_from_bytea(0, 'kept')"
    );
    db::execute(&inside, &elsewhere).await;
    let file = files.path().join("certificate");
    let erase = ["tenant", "erase", &name, "--certificate", file.to_str().unwrap(), "--yes"];
    let left = "SELECT (SELECT count(*) FROM pg_class WHERE relname = 'kept') + \
                (SELECT count(*) FROM pg_largeobject_metadata) || '' AS word";
    for another in ["UPDATE tenantry.stamp SET tenant_id = gen_random_uuid()", "DELETE FROM tenantry.stamp"] {
        db::execute(&inside, another).await;
        let refused = run(app, &erase).await.expect(4);
        assert!(refused.stderr.contains("not stamped"), "{refused:?}");
        assert_eq!(db::word(&inside, left).await, "2");
        db::execute(&inside, "DELETE FROM tenantry.stamp; INSERT INTO tenantry.stamp TABLE others.saved").await;
    }
    run(app, &erase).await.expect(0);
    assert_eq!(db::word(&inside, left).await, "0");
}

/// That its emptying was begun does not say that it was emptied: without the stamp, what is left in it is not certified away.
#[actix_web::test]
async fn an_adopted_database_that_was_not_emptied_is_not_certified() {
    let app = TestApp::shared().await;
    let (name, files) = (unique("halted"), tempfile::tempdir().unwrap());
    attach(app, files.path(), &name, &customers(app, &name).await).await.expect(0);
    let inside = app.server().with_database(&name);
    let refuse = "CREATE SCHEMA others; CREATE FUNCTION others.refuse() RETURNS event_trigger LANGUAGE plpgsql \
                  AS $$ BEGIN RAISE 'nothing goes'; END $$; \
                  CREATE EVENT TRIGGER refuses ON ddl_command_start EXECUTE FUNCTION others.refuse()";
    db::execute(&inside, refuse).await;
    let file = files.path().join("certificate");
    let erase = ["tenant", "erase", &name, "--certificate", file.to_str().unwrap(), "--yes"];
    assert_ne!(run(app, &erase).await.code, Some(0));
    let begun = format!(
        "SELECT s.state AS word FROM operation_steps s JOIN operations o ON o.id = s.operation_id \
         WHERE o.slug = '{name}' AND o.kind = 'erase' AND s.name = 'databases'"
    );
    assert_eq!(db::words(app.control_database(), &begun).await.len(), 1, "it was begun");
    db::execute(&inside, "DROP EVENT TRIGGER refuses").await;
    db::execute(&inside, &format!("SET ROLE {name}; DROP SCHEMA tenantry CASCADE")).await;
    let refused = run(app, &erase).await.expect(4);
    assert!(refused.stderr.contains("not stamped") && !file.exists(), "{refused:?}");
    assert_ne!(db::word(&inside, "SELECT count(*)::text AS word FROM users").await, "");

    // One that was emptied has no stamp either.
    let name = unique("emptied");
    attach(app, files.path(), &name, &customers(app, &name).await).await.expect(0);
    let erase = ["tenant", "erase", &name, "--certificate", file.to_str().unwrap(), "--yes"];
    dies(app, &erase, "databases", true).await;
    run(app, &erase).await.expect(0);
}

/// What was asked of a customer's database is done once it can be: no sweep forgets the database before.
#[actix_web::test]
async fn an_adopted_database_that_is_to_be_emptied_is_not_forgotten_before() {
    let app = TestApp::builder().start().await;
    let (fleet, files) = (app.fleet(), tempfile::tempdir().unwrap());
    let swept = async || fleet.purge_due().await.expect("the control plane answers");
    let ours = "SELECT tablename::text AS word FROM pg_tables WHERE schemaname IN ('public', 'tenantry')";
    let adopted = async |name: &str| {
        let target = customers(&app, name).await;
        attach(&app, files.path(), name, &target).await.expect(0);
        app.server().with_database(name)
    };
    let answers = async |name: &str, yes: bool| {
        db::execute(&app.server(), &format!("ALTER DATABASE {name} ALLOW_CONNECTIONS {yes}")).await;
    };

    let name = unique("erased");
    let inside = adopted(&name).await;
    let file = files.path().join("certificate");
    let erase = ["tenant", "erase", &name, "--certificate", file.to_str().unwrap(), "--yes"];
    dies(&app, &erase, "inventory", false).await;
    assert_eq!(swept().await, 0);
    assert!(!db::words(&inside, ours).await.is_empty(), "nothing was done yet");
    run(&app, &erase).await.expect(0);
    assert!(file.exists() && db::words(&inside, ours).await.is_empty());

    let name = unique("dropped");
    let inside = adopted(&name).await;
    answers(&name, false).await;
    let delete = ["tenant", "delete", &name, "--now", "--drop-dedicated-data", "--yes"];
    assert_ne!(run(&app, &delete).await.code, Some(0));
    assert_eq!(swept().await, 0);
    answers(&name, true).await;
    assert_eq!(swept().await, 1);
    assert!(db::words(&inside, ours).await.is_empty());

    // An erasure that has done nothing does not keep the tenant of a customer whose server is gone.
    let name = unique("gone");
    adopted(&name).await;
    answers(&name, false).await;
    let other = files.path().join("other");
    let erase = ["tenant", "erase", &name, "--certificate", other.to_str().unwrap(), "--yes"];
    assert_ne!(run(&app, &erase).await.code, Some(0));
    assert_eq!(swept().await, 0);
    run(&app, &["tenant", "delete", &name, "--now", "--yes"]).await.expect(0);
    let rows = format!("SELECT slug AS word FROM tenants WHERE slug = '{name}'");
    assert!(db::words(app.control_database(), &rows).await.is_empty());
}
