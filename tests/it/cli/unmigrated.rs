//! Before `tenantry migrate`, every command says that it is what is missing.

use secrecy::ExposeSecret as _;
use tenantry::testing::{TestApp, TestCluster};

use crate::support::binary::run_with;

#[actix_web::test]
async fn a_control_plane_without_a_schema_is_refused_with_the_remedy() {
    let app = TestApp::shared().await;
    let empty = TestCluster::get().await.database("unmigrated").await;
    let mut environment = app.environment();
    environment.retain(|(name, _)| name != "TENANTRY_DATABASE_URL");
    environment.push(("TENANTRY_DATABASE_URL".into(), empty.target().to_url().expose_secret().to_owned()));
    for listener in ["TENANTRY_LISTEN", "TENANTRY_MANAGEMENT_LISTEN"] {
        environment.push((listener.into(), "127.0.0.1:0".into()));
    }
    let url = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(url.path(), app.server().to_url().expose_secret()).unwrap();
    let file = url.path().to_str().unwrap();
    for command in [
        &["operator", "create", "--email", "first@tenantry.test"][..],
        &["cluster", "add", "main", "--admin-url-file", file, "--tls-mode", "disable"],
        &["tenant", "create", "acme"],
        // These read.
        &["tenant", "list"],
        &["tenant", "show", "acme"],
        &["operator", "list"],
        &["cluster", "list"],
        &["fleet", "status"],
        &["serve"],
        // It would wait for one that is away.
        &["worker"],
    ] {
        let said = run_with(&environment, command).await.expect(4);
        let line = said.stderr.lines().last().unwrap_or_default();
        assert!(line.contains("no schema yet; run `tenantry migrate`"), "{command:?}: {said:#?}");
        assert!(!line.contains("relation") && said.stdout.is_empty(), "{command:?}: {said:#?}");
    }
    run_with(&environment, &["migrate"]).await.expect(0);
    let made = run_with(&environment, &["operator", "list", "--output", "json"]).await.expect(0).json();
    assert_eq!(made, serde_json::json!([]));
}
