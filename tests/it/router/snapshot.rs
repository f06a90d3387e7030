//! The registry's snapshot on disk: complete, soon, sealed, and refused when it should be.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use chrono::TimeDelta;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use tenantry::kernel::TenantId;
use tenantry::kernel::crypto::MasterKeys;
use tenantry::router::{
    ControlPlaneRegistry, Error, MainDb, Registry as _, SnapshotSettings, Target, Tenant, TenantStatus,
};
use tenantry::testing::TestApp;

use crate::support::dir::Dir;
use crate::support::servers::Server;
use crate::support::{eventually, seconds, shared};

fn nowhere(app: &TestApp) -> Target {
    Target { host: "127.0.0.1".into(), port: 1, ..app.control_database().clone() }
}

/// A registry whose control plane does not answer.
fn alone(app: &TestApp, keys: Arc<MasterKeys>, settings: SnapshotSettings) -> ControlPlaneRegistry {
    ControlPlaneRegistry::new(MainDb::new(nowhere(app), 1), keys).with_snapshot(settings)
}

/// What a node would know that starts now without the control plane, beside whoever has the file.
async fn on_disk(app: &TestApp, file: &Path, id: TenantId) -> Option<Tenant> {
    let registry = alone(app, app.control().keys, SnapshotSettings::new(file));
    registry.installation().await.ok()?;
    registry.tenant_by_id(id).await.ok().flatten()
}

fn why(error: &Error) -> String {
    match error {
        Error::ControlPlane(cause) => cause.to_string(),
        other => panic!("{other:?}"),
    }
}

#[actix_web::test]
async fn every_change_is_on_disk_within_ten_seconds_without_announcements_and_sealed() {
    let app = TestApp::builder().start().await;
    let dir = Dir::new();
    let file = dir.path().join("registry.redb");
    let (acme, globex) = (app.tenant("acme").await, app.tenant("globex").await);
    let control = app.control();
    // Nobody follows the registry here: what is on disk is there without announcements.
    let keeper =
        ControlPlaneRegistry::new(control.db.clone(), control.keys.clone()).with_snapshot(SnapshotSettings::new(&file));
    keeper.installation().await.unwrap();
    let there = async |id| on_disk(&app, &file, id).await.map(|tenant| tenant.status);
    for id in [acme.id, globex.id] {
        eventually(seconds(10), "on disk", async || there(id).await == Some(TenantStatus::Active)).await;
    }
    acme.suspend().await;
    eventually(seconds(10), "suspended", async || there(acme.id).await == Some(TenantStatus::Suspended)).await;
    let late = app.tenant("late").await;
    eventually(seconds(10), "a new one", async || there(late.id).await == Some(TenantStatus::Active)).await;
    app.fleet().archive(late.id).await.unwrap();
    eventually(seconds(10), "archived", async || there(late.id).await == Some(TenantStatus::Archived)).await;

    // By slug as well, and nobody who is not there.
    let registry = alone(&app, control.keys.clone(), SnapshotSettings::new(&file));
    registry.installation().await.unwrap();
    assert_eq!(registry.id_by_slug(&globex.slug).await.unwrap(), Some(globex.id));
    let unknown = registry.tenant_by_id(TenantId::generate()).await.map(drop).unwrap_err();
    assert!(matches!(unknown, Error::ControlPlane(_)), "not known is not the same as not there: {unknown:?}");
    assert!(registry.id_by_slug(&"never-heard-of".parse().unwrap()).await.is_err());

    // Nothing of it can be read, nor by anybody else.
    let tenant = registry.tenant_by_id(globex.id).await.unwrap().unwrap();
    let bytes = std::fs::read(&file).unwrap();
    let secrets = [
        tenant.target.host.as_str(),
        &tenant.target.user,
        &tenant.target.database,
        tenant.target.password.expose_secret(),
        tenant.target.to_url().expose_secret(),
        globex.slug.as_str(),
        &tenant.name,
    ]
    .map(str::to_owned);
    for secret in secrets {
        assert!(
            !secret.is_empty() && !bytes.windows(secret.len()).any(|window| window == secret.as_bytes()),
            "{secret}"
        );
    }
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
}

#[actix_web::test]
async fn a_snapshot_that_is_old_foreign_damaged_or_missing_is_refused_with_the_reason() {
    let app = TestApp::builder().start().await;
    let dir = Dir::new();
    let file = dir.path().join("registry.redb");
    let acme = app.tenant("acme").await;
    let control = app.control();
    let missing = alone(&app, control.keys.clone(), SnapshotSettings::new(&file));
    assert!(why(&missing.installation().await.unwrap_err()).contains("none was written yet"));
    drop(missing);
    {
        let keeper = ControlPlaneRegistry::new(control.db.clone(), control.keys.clone())
            .with_snapshot(SnapshotSettings::new(&file));
        keeper.installation().await.unwrap();
        eventually(seconds(10), "on disk", async || on_disk(&app, &file, acme.id).await.is_some()).await;
    }
    let settings = SnapshotSettings { clock: app.clock().clone(), ..SnapshotSettings::new(&file) };
    let known = async || {
        let registry = alone(&app, control.keys.clone(), settings.clone());
        registry.installation().await.map(drop)
    };
    eventually(seconds(5), "its file is free again", async || known().await.is_ok()).await;

    let foreign = MasterKeys::parse(&MasterKeys::generate()).unwrap();
    let refused = alone(&app, Arc::new(foreign), settings.clone()).installation().await.unwrap_err();
    assert!(why(&refused).contains("a master key that is not in the list"), "{}", why(&refused));
    let both: SecretString = format!(
        "{},{}",
        MasterKeys::generate().expose_secret(),
        app.environment().iter().find(|(name, _)| name == "TENANTRY_MASTER_KEY").unwrap().1
    )
    .into();
    let rotated = alone(&app, Arc::new(MasterKeys::parse(&both).unwrap()), settings.clone());
    rotated.installation().await.unwrap();
    assert!(rotated.tenant_by_id(acme.id).await.unwrap().is_some(), "the old key is still in the list");
    drop(rotated);

    app.clock().advance(TimeDelta::days(8));
    let refused = alone(&app, control.keys.clone(), settings.clone()).installation().await.unwrap_err();
    assert!(why(&refused).contains("router.snapshot_max_age"), "{}", why(&refused));
    app.clock().advance(TimeDelta::days(-8));
    known().await.unwrap();
    // A clock that is behind: refused with what to do, and as good as before once the clock is right.
    app.clock().advance(TimeDelta::hours(-1));
    let refused = known().await.unwrap_err();
    assert!(why(&refused).contains("ahead of this machine's clock"), "{}", why(&refused));
    app.clock().advance(TimeDelta::hours(1));
    known().await.unwrap();

    for damage in [b"no database at all".to_vec(), std::fs::read(&file).unwrap()[..5000].to_vec()] {
        for neighbour in std::fs::read_dir(dir.path()).unwrap().flatten() {
            std::fs::remove_file(neighbour.path()).unwrap();
        }
        std::fs::write(&file, &damage).unwrap();
        let refused = alone(&app, control.keys.clone(), settings.clone()).installation().await.unwrap_err();
        assert!(why(&refused).contains("no snapshot to start from"), "{}", why(&refused));
        // It is put aside, and the control plane gives a new one.
        let keeper =
            ControlPlaneRegistry::new(control.db.clone(), control.keys.clone()).with_snapshot(settings.clone());
        keeper.installation().await.unwrap();
        eventually(seconds(10), "made anew", async || on_disk(&app, &file, acme.id).await.is_some()).await;
        assert_eq!(std::fs::read(file.with_extension("damaged")).unwrap(), damage);
    }
}

#[actix_web::test]
async fn with_the_control_plane_frozen_tenants_nobody_asked_for_are_served_and_then_caught_up_with() {
    let plane = Server::start().await;
    let dir = Dir::new();
    let file = dir.path().join("registry.redb");
    let home = TestApp::builder().control_database(plane.target()).start().await;
    let (acme, globex) = (home.tenant("acme").await, home.tenant("globex").await);
    let node =
        TestApp::builder().beside(&home).set("TENANTRY_ROUTER__SNAPSHOT_PATH", file.to_str().unwrap()).start().await;
    for id in [acme.id, globex.id] {
        eventually(seconds(10), "on disk", async || on_disk(&home, &file, id).await.is_some()).await;
    }
    let frozen = plane.freeze();
    // Whoever comes first may have to find out.
    let there = acme.at(node.url());
    let (one, admin) = (Instant::now(), there.admin());
    admin.get("/api/v1/contacts").await.expect(200);
    assert!(one.elapsed() < shared(seconds(5)), "{:?}", one.elapsed());
    let (two, other) = (Instant::now(), globex.at(node.url()).admin());
    other.get("/api/v1/contacts").await.expect(200);
    assert!(two.elapsed() < shared(seconds(2)), "{:?}", two.elapsed());
    let body = json!({"tenant": "never-heard-of", "email": "a@example.com", "password": "x"});
    let asked = Instant::now();
    let refused = node.anonymous().post("/api/v1/auth/login", body.clone()).await;
    assert!(refused.refused(503, "control_plane_unavailable").header("retry-after").is_some());
    assert!(asked.elapsed() < shared(seconds(1)), "{:?}", asked.elapsed());
    drop(frozen);
    let back = async || node.anonymous().post("/api/v1/auth/login", body.clone()).await.status == 401;
    eventually(seconds(15), "who is unknown is known again", back).await;
    acme.suspend().await;
    eventually(seconds(5), "followed", async || admin.get("/api/v1/contacts").await.status == 403).await;
    other.get("/api/v1/contacts").await.expect(200);
}
