//! The configuration, loaded from what a test sets.

use std::time::Duration;

use super::*;

fn load(variables: &[(&str, &str)]) -> Result<Config, String> {
    Config::load(&Sources::from_variables(variables)).map_err(|error| error.to_string())
}

#[test]
fn the_embedded_file_is_the_default() {
    let config = load(&[]).unwrap();
    assert_eq!(config.listen().to_string(), "127.0.0.1:8080");
    assert_eq!(config.public_url(), "http://127.0.0.1:8080");
    assert_eq!(config.http().body_limit.0, 1024 * 1024);
    assert_eq!(config.router().acquire_timeout.0, Duration::from_secs(5));
    assert_eq!(config.auth().refresh_token_ttl.0, Duration::from_secs(30 * 86_400));
    assert!(config.database_url().unwrap_err().to_string().starts_with("TENANTRY_DATABASE_URL is not set; "));
}

#[test]
fn the_environment_wins() {
    let config = load(&[
        ("TENANTRY_LISTEN", "0.0.0.0:80"),
        ("TENANTRY_ROUTER__CLUSTER_BUDGET", "7"),
        ("TENANTRY_AUTH__ACCESS_TOKEN_TTL", "1500ms"),
        ("TENANTRY_HTTP__DOCS", "false"),
        ("TENANTRY_HTTP__BODY_LIMIT", "2048"),
        ("TENANTRY_HTTP__CORS_ORIGINS", "https://a.example, https://b.example"),
        ("TENANTRY_PUBLIC_URL", "https://api.example.com/"),
        ("TENANTRY_ROUTER__SNAPSHOT_PATH", "/var/lib/tenantry/registry.redb"),
        ("PATH", "/bin"),
    ])
    .unwrap();
    assert_eq!(config.snapshot_path(), Some("/var/lib/tenantry/registry.redb".into()));
    assert_eq!(config.router().cluster_budget, 7);
    assert_eq!(config.auth().access_token_ttl.0, Duration::from_millis(1500));
    assert!(!config.http().docs);
    assert_eq!(config.http().body_limit.0, 2048);
    assert_eq!(config.http().cors_origins, ["https://a.example", "https://b.example"]);
    assert_eq!(config.public_url(), "https://api.example.com");
}

/// Of services called `tenantry` and `tenantry-db`, in whose namespace it runs.
#[test]
fn what_kubernetes_says_of_services_is_no_setting() {
    let links = [
        ("TENANTRY_SERVICE_HOST", "10.0.0.7"),
        ("TENANTRY_SERVICE_PORT", "8080"),
        ("TENANTRY_SERVICE_PORT_HTTP", "8080"),
        ("TENANTRY_PORT", "tcp://10.0.0.7:8080"),
        ("TENANTRY_PORT_8080_TCP", "tcp://10.0.0.7:8080"),
        ("TENANTRY_PORT_8080_TCP_PROTO", "tcp"),
        ("TENANTRY_PORT_8080_TCP_PORT", "8080"),
        ("TENANTRY_PORT_8080_TCP_ADDR", "10.0.0.7"),
        ("TENANTRY_DB_SERVICE_HOST", "10.0.0.8"),
        ("TENANTRY_DB_PORT", "tcp://10.0.0.8:5432"),
        ("TENANTRY_DB_PORT_5432_TCP_ADDR", "10.0.0.8"),
    ];
    load(&links).unwrap();
    assert_eq!(Sources::from_variables(&links).unknown().count(), 0, "nor is it warned about");
    // What looks alike is not passed over.
    let alike = [("TENANTRY_HOST", "10.0.0.7"), ("TENANTRY_PORT", "8080"), ("TENANTRY_PORT_TCP", "8080")];
    let alone = Sources::from_variables(&alike);
    assert!(alone.unknown().eq(alike.map(|(name, _)| name)), "{alone:?}");
}

/// Scripts and CI name their own variables so: those start the program. A slip of the pen does not.
#[test]
fn a_variable_that_is_like_a_setting_is_refused_and_others_are_named() {
    let own =
        [("TENANTRY_BIN", "a"), ("TENANTRY_TEST_DATABASE_URL", "b"), ("TENANTRY_URL", "c"), ("TENANTRY_VERSION", "d")];
    load(&own).unwrap();
    let mut sources = Sources::from_variables(&[&own[..], &[("TENANTRY_LISTEN", "127.0.0.1:1")]].concat());
    assert!(sources.unknown().eq(own.map(|(name, _)| name)));
    sources = Sources::from_variables(&[("TENANTRY_REDIS_URL", "redis://h"), ("TENANTRY_CONFIG", "f")]);
    assert_eq!(sources.unknown().count(), 0);
    for (wrong, meant) in [
        ("TENANTRY_LISTN", "TENANTRY_LISTEN"),
        ("TENANTRY_LISTEN_ADDR", "TENANTRY_LISTEN"),
        ("TENANTRY_DATADIR", "TENANTRY_DATA_DIR"),
        ("TENANTRY_MASTER_KEYS", "TENANTRY_MASTER_KEY"),
        ("TENANTRY_LOG_LEVEL", "TENANTRY_LOG__LEVEL"),
        ("TENANTRY_ROUTER__CLUSTR_BUDGET", "TENANTRY_ROUTER__CLUSTER_BUDGET"),
        // Without their section.
        ("TENANTRY_TRUSTED_PROXIES", "TENANTRY_HTTP__TRUSTED_PROXIES"),
        ("TENANTRY_CORS_ORIGINS", "TENANTRY_HTTP__CORS_ORIGINS"),
        ("TENANTRY_BODY_LIMIT", "TENANTRY_HTTP__BODY_LIMIT"),
        ("TENANTRY_STATEMENT_TIMEOUT", "TENANTRY_ROUTER__STATEMENT_TIMEOUT"),
        ("TENANTRY_CLUSTER_BUDGET", "TENANTRY_ROUTER__CLUSTER_BUDGET"),
    ] {
        let said = load(&[(wrong, "7")]).unwrap_err();
        assert_eq!(said, format!("{wrong} is no setting; did you mean {meant}?"));
    }
    let said = load(&[("TENANTRY_SHELF__BOOK", "7")]).unwrap_err();
    assert!(said.starts_with("TENANTRY_SHELF"), "a section is ours: {said}");
}

#[test]
fn a_fault_is_one_line_with_variable_and_remedy() {
    let long = format!("https://{}.example.com", "h".repeat(200));
    let table = [
        (("TENANTRY_ROUTER__CLUSTR_BUDGET", "7"), "TENANTRY_ROUTER__CLUSTR_BUDGET is no setting; "),
        (("TENANTRY_ROUTER__CLUSTER_BUDGET", "many"), "TENANTRY_ROUTER__CLUSTER_BUDGET "),
        (("TENANTRY_ROUTER__CLUSTER_BUDGET", "0"), "TENANTRY_ROUTER__CLUSTER_BUDGET "),
        (("TENANTRY_ROUTER__IDLE_TIMEOUT", "60"), "TENANTRY_ROUTER__IDLE_TIMEOUT "),
        (("TENANTRY_BACKUP__KEEP", "100000000d"), "TENANTRY_BACKUP__KEEP "),
        (("TENANTRY_FLEET__PURGE_GRACE", "100000000d"), "TENANTRY_FLEET__PURGE_GRACE "),
        (("TENANTRY_AUTH__REFRESH_TOKEN_TTL", "100000000d"), "TENANTRY_AUTH__REFRESH_TOKEN_TTL "),
        (("TENANTRY_ROUTER__STATEMENT_TIMEOUT", "25d"), "TENANTRY_ROUTER__STATEMENT_TIMEOUT "),
        (("TENANTRY_LISTEN", "localhost"), "TENANTRY_LISTEN "),
        (("TENANTRY_PUBLIC_URL", "example.com"), "TENANTRY_PUBLIC_URL "),
        (("TENANTRY_PUBLIC_URL", long.as_str()), "TENANTRY_PUBLIC_URL is longer than 180 "),
        (("TENANTRY_HTTP__TRUSTED_PROXIES", "10.0.0.0/99"), "TENANTRY_HTTP__TRUSTED_PROXIES "),
        (("TENANTRY_HTTP__CORS_ORIGINS", "*"), "TENANTRY_HTTP__CORS_ORIGINS "),
        (("TENANTRY_LOG__FORMAT", "xml"), "TENANTRY_LOG__FORMAT "),
        (("TENANTRY_MASTER_KEY_FILE", "/nonexistent"), "TENANTRY_MASTER_KEY_FILE "),
        (("TENANTRY_CONFIG", "/nonexistent.toml"), "TENANTRY_CONFIG "),
    ];
    for (variable, begins) in table {
        let said = load(&[variable]).unwrap_err();
        assert!(said.starts_with(begins), "{said}");
        assert!(said.contains("; ") && !said.contains('\n'), "{said}");
    }
}

#[test]
fn secrets_stay_hidden() {
    let config = load(&[("TENANTRY_DATABASE_URL", "postgres://u:hunter2@h/d"), ("TENANTRY_MASTER_KEY", "12345678")]);
    let config = config.unwrap();
    assert_eq!(config.database_url().unwrap().expose_secret(), "postgres://u:hunter2@h/d");
    assert_eq!(config.master_key().unwrap().expose_secret(), "12345678");
    let shown = format!("{:?} {:?}", config.describe(), config);
    assert!(!shown.contains("hunter2") && !shown.contains("12345678"));
}

#[test]
fn a_data_directory_gives_database_key_and_address() {
    let dir = std::env::temp_dir().join(format!("tenantry-config-{}", uuid::Uuid::now_v7()));
    std::fs::create_dir(&dir).unwrap();
    let ready = r#"{"url": "http://127.0.0.1:8099", "databaseUrl": "postgres://u:p@h/d", "tenants": []}"#;
    std::fs::write(dir.join("ready.json"), ready).unwrap();
    std::fs::write(dir.join("master.key"), "c2VjcmV0\n").unwrap();
    let mut sources = Sources::default();
    sources.data_dir = Some(dir.clone());
    let node = Config::load(&sources).unwrap();
    assert_eq!(node.public_url(), "http://127.0.0.1:8099");
    assert_eq!(node.snapshot_path(), Some(dir.join("registry.redb")));
    assert_eq!(node.master_key().unwrap().expose_secret(), "c2VjcmV0");
    assert_eq!(node.database_url().unwrap().expose_secret(), "postgres://u:p@h/d");
    let mut dev = sources.clone();
    dev.overrides.push(("listen", "127.0.0.1:8100".into()));
    assert_eq!(Config::load(&dev).unwrap().public_url(), "http://127.0.0.1:8100");
    assert!(Config::load(&sources.without_data_dir()).unwrap().master_key().is_err());
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn a_data_directory_opens_nothing_unless_it_is_dev_s() {
    let dir = std::env::temp_dir().join(format!("tenantry-config-{}", uuid::Uuid::now_v7()));
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("master.key"), "c2VjcmV0\n").unwrap();
    let of = |variables: &[(&str, &str)]| {
        let mut sources = Sources::from_variables(variables);
        sources.data_dir = Some(dir.clone());
        Config::load(&sources).unwrap()
    };
    let production = of(&[]);
    assert_eq!(production.signup().mode, SignUpMode::Closed);
    assert!(production.signup().unlimited.is_empty() && production.outbound().allow.is_empty());
    assert!(production.mail().allowed_networks.is_empty());
    std::fs::write(dir.join(DEV_MARK), "{}").unwrap();
    let dev = of(&[]);
    assert_eq!(dev.signup().mode, SignUpMode::Open);
    let lists = [&dev.signup().unlimited, &dev.outbound().allow, &dev.mail().allowed_networks];
    assert!(lists.iter().all(|list| list.len() == 2), "{lists:?}");
    let said = of(&[("TENANTRY_SIGNUP__MODE", "approval"), ("TENANTRY_OUTBOUND__ALLOW", "")]);
    assert_eq!(said.signup().mode, SignUpMode::Approval);
    assert!(said.outbound().allow.is_empty());
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn a_directory_of_dev_s_opens_no_other_installation() {
    let dir = std::env::temp_dir().join(format!("tenantry-config-{}", uuid::Uuid::now_v7()));
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join(DEV_MARK), "{}").unwrap();
    std::fs::write(dir.join("ready.json"), r#"{"databaseUrl": "postgres://u:p@127.0.0.1/dev"}"#).unwrap();
    std::fs::write(dir.join("url"), "postgres://u:p@db.internal/d\n").unwrap();
    let file = dir.join("url").display().to_string();
    let of = |variables: &[(&str, &str)], overrides: &[(&'static str, &str)]| {
        let mut sources = Sources::from_variables(variables);
        sources.data_dir = Some(dir.clone());
        sources.overrides = overrides.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
        Config::load(&sources).unwrap()
    };
    for another in
        [("TENANTRY_DATABASE_URL", "postgres://u:p@db.internal/d"), ("TENANTRY_DATABASE_URL_FILE", file.as_str())]
    {
        let production = of(&[another], &[]);
        assert_eq!(production.database_url().unwrap().expose_secret(), "postgres://u:p@db.internal/d");
        assert_eq!(production.signup().mode, SignUpMode::Closed, "{another:?}");
        assert!(production.signup().unlimited.is_empty() && production.outbound().allow.is_empty());
        assert!(production.mail().allowed_networks.is_empty());
        // `tenantry dev` itself runs on its own, whatever the environment says.
        let overrides = [("listen", "127.0.0.1:8100"), ("database_url", "postgres://u:p@127.0.0.1:5433/dev")];
        assert_eq!(of(&[another], &overrides).signup().mode, SignUpMode::Open);
    }
    let own = of(&[("TENANTRY_DATABASE_URL", "postgres://u:p@127.0.0.1/dev")], &[]);
    assert_eq!(own.signup().mode, SignUpMode::Open, "said, and the same");
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn every_setting_is_described_with_its_source() {
    let described = load(&[("TENANTRY_LOG__LEVEL", "debug")]).unwrap().describe();
    let of = |key: &str| described.iter().find(|s| s.key == key).unwrap().clone();
    assert_eq!((of("log.level").value.as_str(), of("log.level").source.as_str()), ("debug", "TENANTRY_LOG__LEVEL"));
    assert_eq!(of("router.idle_timeout").source, "default");
    assert_eq!(of("router.idle_timeout").variable, "TENANTRY_ROUTER__IDLE_TIMEOUT");
    assert_eq!(of("database_url").value, "(not set)");
}

#[test]
fn what_follows_from_other_settings_is_described_as_it_holds() {
    let dir = std::env::temp_dir().join(format!("tenantry-config-{}", uuid::Uuid::now_v7()));
    std::fs::create_dir(&dir).unwrap();
    let of = |variables: &[(&str, &str)], data_dir: Option<&PathBuf>, key: &str| {
        let mut sources = Sources::from_variables(variables);
        sources.data_dir = data_dir.cloned();
        let setting = Config::load(&sources).unwrap().describe().into_iter().find(|s| s.key == key).unwrap();
        (setting.value, setting.source)
    };
    let said = |value: &str, source: &str| (value.to_owned(), source.to_owned());
    let here = "from the data directory";
    let public = [("TENANTRY_PUBLIC_URL", "https://api.example.com/")];
    assert_eq!(of(&[], None, "public_url"), said("http://127.0.0.1:8080", "from listen"));
    assert_eq!(of(&public, None, "mail.app_url"), said("https://api.example.com", "from public_url"));
    let snapshot = dir.join("registry.redb").display().to_string();
    assert_eq!(of(&[], Some(&dir), "router.snapshot_path"), said(&snapshot, here));
    let storage = format!("file://{}/storage/", dir.display());
    assert_eq!(of(&[], Some(&dir), "storage_url"), said(&storage, here));
    for key in ["router.snapshot_path", "storage_url"] {
        assert_eq!(of(&[], None, key), said("(not set)", "default"), "{key}");
    }
    let bucket = [("TENANTRY_STORAGE_URL", "s3://key:hunter2@bucket")];
    assert_eq!(of(&bucket, Some(&dir), "storage_url"), said("********", "TENANTRY_STORAGE_URL"));
    std::fs::remove_dir_all(&dir).unwrap();
}
