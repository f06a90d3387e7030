//! `fleet verify`: passes on a sound installation, and names each fault of one that is not.

use serde_json::Value;
use tenantry::testing::TestApp;

use crate::support::binary::run;
use crate::support::{db, say};

/// The faults, as `code subject`.
fn faults(report: &Value) -> Vec<String> {
    let faults = report["faults"].as_array().expect("faults").iter();
    faults.map(|fault| format!("{} {}", fault["code"].as_str().unwrap(), fault["subject"].as_str().unwrap())).collect()
}

#[actix_web::test]
async fn isolation_is_proven_and_each_fault_is_named() {
    let app = TestApp::builder().start().await;
    let (acme, globex) = (app.tenant("acme").await, app.tenant("globex").await);
    let (hooli, initech) = (app.tenant("hooli").await, app.tenant("initech").await);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("proof.json");
    let path = file.to_string_lossy().into_owned();
    let verify = ["fleet", "verify", "--url", app.url(), "--report", &path, "--output", "json"];
    let report = run(&app, &verify).await.expect(0).json();
    assert_eq!((&report["passed"], faults(&report).len()), (&Value::Bool(true), 0));
    let checks = report["checks"].as_array().unwrap();
    for check in checks {
        assert!(check["passed"] == true && check["tried"].as_u64().unwrap() > 0, "{check}");
    }
    let tried = |name: &str| checks.iter().find(|check| check["name"] == name).map(|check| check["tried"].as_u64());
    assert!(tried("attacks").flatten() > Some(200), "{checks:?}");
    // Every role against every other tenant's database, and against three that are nobody's.
    assert_eq!(tried("roles"), Some(Some(4 * 3 + 4 * 3)));
    let noisy = &report["noisyNeighbour"];
    assert!(noisy["p99Ratio"].as_f64() > Some(0.0) && noisy["noiseAnswered"].as_u64() > Some(0), "{noisy}");
    say(&format!("noisy neighbour: {noisy}"));
    assert_eq!(report["tenants"].as_array().unwrap().len(), 4);
    assert!(report["tenants"][0]["bytes"].as_u64() > Some(0) && report["sizes"]["tenants"] == 4);
    let left = "SELECT count(*)::text AS word FROM tenants WHERE slug LIKE 'canary-%'";
    assert_eq!(db::word(app.control_database(), left).await, "0");
    // Signed, and only as it is.
    let page = std::fs::read_to_string(directory.path().join("proof.html")).unwrap();
    assert!(page.contains("Isolation proven") && !page.contains("<script"), "{page}");
    let check = ["fleet", "verify", "--check", &path, "--output", "json"];
    assert_eq!(run(&app, &check).await.expect(0).json()["passed"], true);
    let mut bytes = std::fs::read(&file).unwrap();
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    std::fs::write(&file, &bytes).unwrap();
    run(&app, &check).await.expect(1);
    bytes[at] ^= 1;
    std::fs::write(&file, &bytes).unwrap();
    run(&app, &check).await.expect(0);
    run(TestApp::shared().await, &check).await.expect(1);

    db::execute(acme.database(), "DELETE FROM tenantry.stamp").await;
    db::execute(globex.database(), "UPDATE tenantry.stamp SET tenant_id = gen_random_uuid()").await;
    let grant = format!("GRANT CONNECT ON DATABASE \"{}\" TO \"{}\"", hooli.role(), initech.role());
    db::execute(&app.server(), &grant).await;
    db::execute(&app.server(), &format!("GRANT \"{}\" TO \"{}\"", initech.role(), hooli.role())).await;
    let share = format!(
        "UPDATE signing_keys SET public = (SELECT public FROM signing_keys WHERE tenant_id = '{}') WHERE tenant_id = '{}'",
        globex.id, initech.id
    );
    db::execute(app.control_database(), &share).await;
    let report = run(&app, &verify).await.expect(1).json();
    let found = faults(&report);
    for fault in [
        format!("stamp_missing {}", acme.slug),
        format!("stamp_wrong {}", globex.slug),
        format!("role_granted {}", hooli.slug),
        format!("role_let_in {}", initech.slug),
        format!("role_let_in {}", hooli.slug),
        format!("key_shared {}, {}", globex.slug, initech.slug),
        format!("key_halves_differ {}", initech.slug),
    ] {
        assert!(found.contains(&fault), "not named: {fault}\n{found:#?}");
    }
    assert!(!found.iter().any(|fault| fault.starts_with("attack") || fault.starts_with("not_proven")), "{found:#?}");
    assert_eq!(run(&app, &check).await.expect(0).json()["passed"], false);
    let said = run(&app, &["fleet", "verify", "--url", "http://127.0.0.1:1"]).await.expect(1);
    assert!(said.stdout.contains("not_proven  canaries"), "{said:#?}");
}
