//! What a thief of the control plane's database gets: nothing that opens a door.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use secrecy::{ExposeSecret as _, SecretString};
use tenantry::control::rewrap;
use tenantry::kernel::crypto::{MasterKeys, Place, Sealed, random};
use tenantry::router::{Registry as _, Target};
use tenantry::testing::TestApp;

use crate::support::binary::{run, run_with};
use crate::support::{db, unhex};

/// Every value of every text-like and binary column, binary as hex and as text.
async fn everything(database: &Target) -> Vec<(String, String)> {
    let columns = "SELECT table_name || '.' || column_name || ' ' || data_type AS word FROM information_schema.columns \
                   WHERE table_schema = 'public'";
    let mut conn = db::open(database).await;
    let mut found = Vec::new();
    for line in db::words_on(&mut conn, columns).await {
        let (column, kind) = line.split_once(' ').unwrap();
        let (table, name) = column.split_once('.').unwrap();
        let value = if kind == "bytea" {
            format!(
                "encode(\"{name}\", 'hex') || ' ' || encode(\"{name}\", 'escape') || ' ' || encode(\"{name}\", 'base64')"
            )
        } else {
            format!("\"{name}\"::text")
        };
        let rows = format!("SELECT {value} AS word FROM \"{table}\" WHERE \"{name}\" IS NOT NULL");
        found.extend(db::words_on(&mut conn, &rows).await.into_iter().map(|value| (column.to_owned(), value)));
    }
    found
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn sealed_values(database: &Target) -> Vec<(&'static str, &'static str, String, Vec<u8>)> {
    const COLUMNS: [(&str, &str); 9] = [
        ("installation", "mac_sealed"),
        ("clusters", "admin_password_sealed"),
        ("clusters", "tls_client_key_sealed"),
        ("tenants", "password_sealed"),
        ("tenants", "url_sealed"),
        ("tenants", "direct_url_sealed"),
        ("tenants", "tls_client_key_sealed"),
        ("signing_keys", "private_sealed"),
        ("backup_keys", "key_sealed"),
    ];
    let mut all = Vec::new();
    for (table, column) in COLUMNS {
        let rows =
            format!("SELECT id || ' ' || encode({column}, 'hex') AS word FROM {table} WHERE {column} IS NOT NULL");
        for row in db::words(database, &rows).await {
            let (id, value) = row.split_once(' ').unwrap();
            all.push((table, column, id.to_owned(), unhex(value)));
        }
    }
    all
}

#[actix_web::test]
async fn no_secret_stands_in_the_control_plane_in_clear() {
    let app = TestApp::builder().start().await;
    let (acme, globex) = (app.tenant("acme").await, app.tenant("globex").await);
    let control = app.control();
    let registry = tenantry::router::ControlPlaneRegistry::new(control.db.clone(), control.keys.clone());
    let mut secrets = vec![app.server().password.expose_secret().to_owned()];
    for tenant in [&acme, &globex] {
        let entry = registry.tenant_by_id(tenant.id).await.unwrap().unwrap();
        secrets.push(entry.target.password.expose_secret().to_owned());
        secrets.push(entry.target.to_url().expose_secret().to_owned());
        secrets.push(tenant.password().to_owned());
    }
    for (table, column, id, value) in sealed_values(app.control_database()).await {
        let place = Place::new(table, column, id.parse().unwrap());
        let plain = control.keys.open(place, &Sealed::from(value)).unwrap();
        secrets.extend([hex(&plain), BASE64.encode(&*plain)]);
        secrets.extend(String::from_utf8(plain.to_vec()).ok());
    }
    secrets.extend(app.environment().into_iter().filter(|(name, _)| name == "TENANTRY_MASTER_KEY").map(|(_, key)| key));
    assert!(secrets.len() > 12 && secrets.iter().all(|secret| secret.len() >= 16), "{}", secrets.len());
    let dump = everything(app.control_database()).await;
    assert!(dump.len() > 50);
    for (column, value) in &dump {
        let unbroken = value.replace('\n', "");
        assert!(!value.contains("postgres://") && !value.contains("postgresql://"), "a URL in {column}");
        assert!(!value.contains("PRIVATE KEY"), "a key in {column}");
        for secret in &secrets {
            assert!(!unbroken.contains(secret.as_str()), "a secret in {column}");
        }
    }
}

#[actix_web::test]
async fn a_sealed_value_opens_in_its_own_place_alone() {
    let app = TestApp::shared().await;
    let (acme, globex) = (app.tenant("acme").await, app.tenant("globex").await);
    let keys = app.control().keys;
    let value = format!("SELECT encode(password_sealed, 'hex') AS word FROM tenants WHERE id = '{}'", acme.id);
    let value = unhex(&db::word(app.control_database(), &value).await);
    let open = |table, column, id: uuid::Uuid, value: &[u8]| {
        keys.open(Place::new(table, column, id), &Sealed::from(value.to_vec()))
    };
    assert!(open("tenants", "password_sealed", acme.id.uuid(), &value).is_ok());
    assert!(open("tenants", "password_sealed", globex.id.uuid(), &value).is_err(), "another row");
    assert!(open("tenants", "url_sealed", acme.id.uuid(), &value).is_err(), "another column");
    assert!(open("clusters", "password_sealed", acme.id.uuid(), &value).is_err(), "another table");
    let mut damaged = value.clone();
    *damaged.last_mut().unwrap() ^= 1;
    assert!(open("tenants", "password_sealed", acme.id.uuid(), &damaged).is_err());
}

/// A row that carries another row's secret does not serve.
#[actix_web::test]
async fn swapped_secrets_do_not_open() {
    let app = TestApp::builder().start().await;
    let (acme, globex) = (app.tenant("acme").await, app.tenant("globex").await);
    let admin = acme.admin();
    admin.get("/api/v1/contacts").await.expect(200);
    let copy = format!(
        "UPDATE tenants SET password_sealed = (SELECT password_sealed FROM tenants WHERE id = '{}'), epoch = epoch + 1 WHERE id = '{}'",
        globex.id, acme.id
    );
    db::execute(app.control_database(), &copy).await;
    let refused = async || admin.get("/api/v1/contacts").await.status >= 500;
    crate::support::eventually(crate::support::seconds(3), "the entry does not open", refused).await;
    globex.admin().get("/api/v1/contacts").await.expect(200);
}

#[actix_web::test]
async fn rotation_seals_everything_anew_and_the_old_key_opens_nothing() {
    let app = TestApp::builder().start().await;
    let acme = app.tenant("acme").await;
    let admin = acme.admin();
    admin.get("/api/v1/contacts").await.expect(200);
    let environment = app.environment();
    let old = environment.iter().find(|(name, _)| name == "TENANTRY_MASTER_KEY").unwrap().1.clone();
    let new = BASE64.encode(random::<32>());
    let with_key = |key: String| {
        let mut variables = environment.clone();
        variables
            .iter_mut()
            .filter(|(name, _)| name == "TENANTRY_MASTER_KEY")
            .for_each(|(_, value)| *value = key.clone());
        variables
    };
    let generation = "SELECT generation::text AS word FROM registry_head";
    let before = db::word(app.control_database(), generation).await;
    let said = run_with(&with_key(format!("{new},{old}")), &["key", "rotate", "--yes"]).await.expect(0);
    assert!(!said.all().contains(&new) && !said.all().contains(&old), "{said:#?}");
    assert_eq!(db::word(app.control_database(), generation).await, before, "nobody has to reload");
    let keys = |text: &str| MasterKeys::parse(&SecretString::from(text.to_owned())).unwrap();
    let values = sealed_values(app.control_database()).await;
    assert!(values.len() >= 5, "{}", values.len());
    for (table, column, id, value) in values {
        let place = Place::new(table, column, id.parse().unwrap());
        let sealed = Sealed::from(value);
        assert!(keys(&new).open(place, &sealed).is_ok(), "{table}.{column} is under the new key");
        assert!(keys(&old).open(place, &sealed).is_err(), "{table}.{column} is not under the old key");
    }
    // With the new key alone everything goes on; with the old one alone, nothing.
    run_with(&with_key(new.clone()), &["tenant", "create", "after-rotation"]).await.expect(0);
    let refused = run_with(&with_key(old), &["tenant", "create", "with-the-old-key"]).await;
    assert!(refused.code != Some(0), "{refused:#?}");
    // Again there is nothing to do, and who is running does not notice.
    run_with(&with_key(new), &["key", "rotate", "--yes"]).await.expect(0);
    admin.get("/api/v1/contacts").await.expect(200);
}

#[actix_web::test]
async fn rewrap_counts_what_it_did() {
    let app = TestApp::builder().start().await;
    app.tenant("acme").await;
    let report = rewrap(&app.control()).await.unwrap();
    assert!(report.iter().all(|line| line.count == 0), "all are under the newest key: {report:?}");
}

#[actix_web::test]
async fn a_generated_key_is_a_key() {
    let app = TestApp::shared().await;
    let said = run(app, &["key", "generate"]).await.expect(0);
    MasterKeys::parse(&SecretString::from(said.stdout.trim().to_owned())).unwrap();
    assert_ne!(run(app, &["key", "generate"]).await.expect(0).stdout, said.stdout);
    let said = run(app, &["key", "generate", "--output", "json"]).await.expect(0).json();
    MasterKeys::parse(&SecretString::from(said["key"].as_str().unwrap().to_owned())).unwrap();
}
