//! `fleet verify`: passes on a sound installation, and names each fault of one that is not.

use serde_json::Value;
use tenantry::control::signing_keys::{self, StoredKey};
use tenantry::error::ApiError;
use tenantry::kernel::crypto::Place;
use tenantry::router::{MainConn, Target};
use tenantry::testing::{Tenant, TestApp};

use crate::support::binary::run;
use crate::support::{db, say, unique};

/// The faults, as `code subject`.
pub(super) fn faults(report: &Value) -> Vec<String> {
    let faults = report["faults"].as_array().expect("faults").iter();
    faults.map(|fault| format!("{} {}", fault["code"].as_str().unwrap(), fault["subject"].as_str().unwrap())).collect()
}

#[actix_web::test]
async fn isolation_is_proven_and_each_fault_is_named() {
    let app = TestApp::builder().start().await;
    for name in ["acme", "globex", "hooli", "initech"] {
        app.tenant(name).await;
    }
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
    // Without its signature it is not proven; without the report there is nothing to be asked about.
    let (signature, aside) = (directory.path().join("proof.json.sig"), directory.path().join("aside"));
    std::fs::rename(&signature, &aside).unwrap();
    let unsigned = run(&app, &check).await.expect(1);
    assert!(unsigned.stderr.contains("is not signed: there is no "), "{unsigned:#?}");
    std::fs::rename(&aside, &signature).unwrap();
    let nowhere = directory.path().join("nowhere.json");
    run(&app, &["fleet", "verify", "--check", nowhere.to_str().unwrap()]).await.expect(4);

    // What could not be proven is a fault, and signed as one.
    let said = run(&app, &["fleet", "verify", "--url", "http://127.0.0.1:1", "--report", &path]).await.expect(1);
    assert!(said.stdout.contains("not_proven  canaries"), "{said:#?}");
    assert_eq!(run(&app, &check).await.expect(0).json()["passed"], false);
}

/// A fault of the installation, how it is mended, and what is to be said of it and nothing else.
struct Flaw {
    name: &'static str,
    place: Target,
    breaks: String,
    mends: String,
    said: Vec<String>,
}

/// One tenant's signing key in another one's row, whole and sealed for it.
async fn shared_key(app: &TestApp, from: &Tenant, to: &Tenant) -> (String, String) {
    let control = app.control();
    let (keys, ids) = (control.keys.clone(), (from.id, to.id));
    let read = control.db.read(async move |conn: &mut MainConn| {
        Ok::<_, ApiError>((signing_keys::in_use(conn, ids.0).await?, signing_keys::in_use(conn, ids.1).await?))
    });
    let (theirs, own) = read.await.expect("keys");
    let seal =
        |private: &[u8]| Vec::from(keys.seal(Place::new("signing_keys", "private_sealed", own.id.uuid()), private));
    let put = |public: &[u8], sealed: Vec<u8>| {
        let (public, sealed) = (hex(public), hex(&sealed));
        format!(
            "UPDATE signing_keys SET public = '\\x{public}', private_sealed = '\\x{sealed}' WHERE id = '{}'",
            own.id
        )
    };
    let private = |key: &StoredKey| key.private(&keys).expect("ours");
    (put(&theirs.public, seal(&private(&theirs))), put(&own.public, seal(&private(&own))))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A database that the control plane keeps of a tenant, as a restore in place leaves it.
async fn kept_of(app: &TestApp, tenant: &Tenant) -> String {
    let name = format!("{}_{}", tenant.role(), unique(""));
    db::execute(&app.server(), &format!("CREATE DATABASE \"{name}\" OWNER \"{}\"", tenant.role())).await;
    db::execute(&app.server(), &format!("REVOKE ALL ON DATABASE \"{name}\" FROM PUBLIC")).await;
    let row = format!(
        "INSERT INTO kept_databases (id, tenant_id, cluster_id, database_name, left_by, purge_after) \
         SELECT gen_random_uuid(), id, cluster_id, '{name}', 'restore', now() + interval '1 day' \
         FROM tenants WHERE id = '{}'",
        tenant.id
    );
    db::execute(app.control_database(), &row).await;
    name
}

#[actix_web::test]
async fn each_fault_alone_is_named_and_once_mended_is_gone() {
    let app = TestApp::builder().start().await;
    let (acme, globex) = (app.tenant("acme").await, app.tenant("globex").await);
    let (control, server) = (app.control_database(), app.server());
    let (a, b) = (acme.role(), globex.role());
    let sharing = shared_key(&app, &acme, &globex).await;
    let stamp = |name, breaks: &str, mends: String, code: &str| Flaw {
        name,
        place: acme.database().clone(),
        breaks: breaks.replace("ROLE", a),
        mends: mends.replace("ROLE", a),
        said: vec![format!("{code} {}", acme.slug)],
    };
    let own = format!("UPDATE tenantry.stamp SET tenant_id = '{}'", acme.id);
    let other = format!("UPDATE tenantry.stamp SET tenant_id = '{}'", globex.id);
    let (reporting, kept) = (unique("reporting_"), kept_of(&app, &globex).await);
    let flaws = [
        Flaw {
            name: "somebody else's role that may what a tenant's may",
            place: server.clone(),
            breaks: format!("CREATE ROLE \"{reporting}\" LOGIN; GRANT \"{b}\" TO \"{reporting}\""),
            mends: format!("DROP ROLE \"{reporting}\""),
            said: vec![format!("role_granted {}", globex.slug)],
        },
        Flaw {
            // Not everybody: no tenant is made on a server where its role could connect elsewhere, which others use too.
            name: "a kept database that another tenant's role may connect to",
            place: server.clone(),
            breaks: format!("GRANT CONNECT ON DATABASE \"{kept}\" TO \"{a}\""),
            mends: format!("REVOKE CONNECT ON DATABASE \"{kept}\" FROM \"{a}\""),
            said: vec![format!("role_granted {kept}")],
        },
        stamp(
            "a stamp that its role may not read",
            "REVOKE SELECT ON tenantry.stamp FROM \"ROLE\", pg_database_owner",
            "GRANT SELECT ON tenantry.stamp TO \"ROLE\", pg_database_owner".to_owned(),
            "stamp_missing",
        ),
        stamp("another tenant's stamp", &other, own, "stamp_wrong"),
        Flaw {
            name: "a role that may connect to another tenant's database",
            place: server.clone(),
            breaks: format!("GRANT CONNECT ON DATABASE \"{b}\" TO \"{a}\""),
            mends: format!("REVOKE CONNECT ON DATABASE \"{b}\" FROM \"{a}\""),
            said: vec![format!("role_granted {}", globex.slug), format!("role_let_in {}", acme.slug)],
        },
        Flaw {
            name: "a signing key of two tenants",
            place: control.clone(),
            breaks: sharing.0,
            mends: sharing.1,
            said: vec![format!("key_shared {}, {}", acme.slug, globex.slug)],
        },
    ];
    let verify = ["fleet", "verify", "--url", app.url(), "--output", "json"];
    for Flaw { name, place, breaks, mends, said } in flaws {
        db::execute(&place, &breaks).await;
        let broken = run(&app, &verify).await.expect(1).json();
        let mut found = faults(&broken);
        found.sort();
        assert_eq!((&broken["passed"], &found), (&Value::Bool(false), &said), "{name}");
        db::execute(&place, &mends).await;
        let mended = run(&app, &verify).await.expect(0).json();
        assert_eq!((&mended["passed"], faults(&mended)), (&Value::Bool(true), Vec::new()), "{name}");
    }
    // Several at once hide none.
    db::execute(acme.database(), "DELETE FROM tenantry.stamp").await;
    db::execute(&server, &format!("GRANT \"{b}\" TO \"{a}\"")).await;
    let half = format!("UPDATE signing_keys SET public = '\\x00' WHERE tenant_id = '{}'", globex.id);
    db::execute(control, &half).await;
    let found = faults(&run(&app, &verify).await.expect(1).json());
    for (code, tenant) in
        [("stamp_missing", &acme), ("role_granted", &acme), ("role_let_in", &acme), ("key_halves_differ", &globex)]
    {
        assert!(found.contains(&format!("{code} {}", tenant.slug)), "{code}: {found:?}");
    }
}
