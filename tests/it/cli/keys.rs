//! A master key of another installation is noticed before anything is sealed with it.

use std::io::Write as _;

use secrecy::ExposeSecret as _;
use tempfile::NamedTempFile;
use tenantry::kernel::crypto::MasterKeys;
use tenantry::testing::TestApp;

use crate::support::binary::run_with;
use crate::support::{db, unique};

/// The installation's variables, but for the key.
fn with_another_key(app: &TestApp) -> Vec<(String, String)> {
    let mut variables = app.environment();
    variables.retain(|(name, _)| name != "TENANTRY_MASTER_KEY");
    variables.push(("TENANTRY_MASTER_KEY".into(), MasterKeys::generate().expose_secret().to_owned()));
    for listener in ["TENANTRY_LISTEN", "TENANTRY_MANAGEMENT_LISTEN"] {
        variables.push((listener.into(), "127.0.0.1:0".into()));
    }
    variables
}

#[actix_web::test]
async fn another_installation_s_key_changes_nothing_and_is_named() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let variables = with_another_key(app);
    let mut url = NamedTempFile::new().unwrap();
    writeln!(url, "{}", app.server().to_url().expose_secret()).unwrap();
    let (slug, cluster, operator) =
        (acme.slug.as_str(), unique("foreign"), format!("{}@tenantry.test", unique("foreign")));
    let add = ["cluster", "add", &cluster, "--admin-url-file", url.path().to_str().unwrap(), "--tls-mode", "disable"];
    let create = unique("foreign");
    let looks = [
        format!(
            "SELECT id::text || coalesce(retired_at::text, '') AS word FROM signing_keys WHERE tenant_id = '{}'",
            acme.id
        ),
        format!("SELECT name AS word FROM clusters WHERE name = '{cluster}'"),
        format!("SELECT email AS word FROM operators WHERE email = '{operator}'"),
        format!("SELECT slug AS word FROM tenants WHERE slug = '{create}'"),
        format!("SELECT action AS word FROM operator_audit WHERE target IN ('{slug}', '{cluster}', '{operator}')"),
    ];
    let there = async || {
        let mut found = Vec::new();
        for look in &looks {
            found.push(db::words(app.control_database(), look).await);
        }
        found
    };
    let before = there().await;
    for command in [
        &["tenant", "rotate-keys", slug][..],
        &add,
        &["tenant", "create", &create],
        &["tenant", "rotate-credentials", slug],
        &["operator", "create", "--email", &operator],
        &["key", "rotate"],
        &["migrate"],
        // These read, and open what they read.
        &["cluster", "list"],
        &["serve"],
        &["worker"],
    ] {
        let said = run_with(&variables, command).await.expect(4);
        let line = said.stderr.lines().last().unwrap_or_default();
        assert!(
            line.contains("TENANTRY_MASTER_KEY") && line.contains("TENANTRY_DATABASE_URL"),
            "{command:?}: {said:#?}"
        );
        assert!(line.contains("belongs to another installation; "), "{command:?}: {said:#?}");
        assert!(said.stdout.is_empty(), "{command:?}: {said:#?}");
    }
    assert_eq!(there().await, before, "nothing has changed");
    acme.admin().get("/api/v1/contacts").await.expect(200);
    // What needs no key is not kept from anybody who looks for the fault.
    run_with(&variables, &["key", "generate"]).await.expect(0);
    run_with(&variables, &["config", "check"]).await.expect(0);
    let doctor = run_with(&variables, &["fleet", "doctor"]).await.expect(3);
    assert!(doctor.stdout.contains("TENANTRY_MASTER_KEY"), "{doctor:#?}");
}
