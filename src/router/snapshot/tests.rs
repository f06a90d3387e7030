//! What is given out from the file, and what is not.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;
use uuid::Uuid;

use super::file::{Extent, Head};
use super::*;
use crate::router::connect::{Target, TlsMode, TlsPolicy};

/// A file in a directory of the test's own, and who looks into it.
struct Ground {
    dir: PathBuf,
    keys: Arc<MasterKeys>,
    mac: MacKey,
    installation: InstallationId,
}

impl Ground {
    fn new() -> Self {
        let dir = std::env::temp_dir().join(format!("tenantry-last-known-{}", Uuid::now_v7()));
        std::fs::create_dir(&dir).unwrap();
        let keys = Arc::new(MasterKeys::parse(&MasterKeys::generate()).unwrap());
        Self { dir, keys, mac: MacKey::new(&random::<32>()), installation: InstallationId::generate() }
    }

    fn path(&self) -> PathBuf {
        self.dir.join("registry.redb")
    }

    fn file(&self) -> SnapshotFile {
        SnapshotFile::open(&self.path(), self.keys.clone()).unwrap()
    }

    fn head(&self, contact: DateTime<Utc>) -> Head {
        Head::new(self.installation, vec![], 7, contact)
    }

    fn write(&self, file: &SnapshotFile, rows: &[TenantRow], extent: Extent) {
        file.write(&self.head(Clock::system().now()), &self.mac, rows, &extent).unwrap();
    }

    /// A node whose control plane does not answer.
    async fn node(&self) -> LastKnown {
        let node = self.node_by(Clock::system());
        node.installation(down()).await.unwrap();
        node
    }

    /// One that has not started yet, with a clock of its own.
    fn node_by(&self, clock: Clock) -> LastKnown {
        let target = Target {
            host: "127.0.0.1".into(),
            port: 1,
            database: "d".into(),
            user: "u".into(),
            password: String::new().into(),
            tls: TlsPolicy::mode(TlsMode::Disable),
        };
        let settings = SnapshotSettings { clock, ..SnapshotSettings::new(self.path()) };
        LastKnown::new(settings, MainDb::new(target, 1), self.keys.clone())
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        // What stays is among temporary files.
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn down() -> Error {
    Error::control_plane("down")
}

fn row(id: TenantId, slug: &str) -> TenantRow {
    serde_json::from_value(json!({
        "id": id, "slug": slug, "name": slug, "status": "active", "kind": "shared", "registration": "closed",
        "database_name": "d", "role_name": "r", "password_sealed": null, "url_sealed": null, "direct_url_sealed": null,
        "max_connections": null, "weight": 1, "schema_version": 1, "epoch": 1, "created_at": "2026-01-01T00:00:00Z",
        "generation": 1, "cluster_id": null, "cluster_name": null, "host": null, "port": null,
        "connection_budget": null, "tls_mode": null, "tls_ca": null, "tls_client_cert": null,
        "tls_client_key_sealed": null, "key_ids": [], "key_publics": ["AAAA"], "key_privates": [], "key_in_use": [],
    }))
    .unwrap()
}

fn slug(text: &str) -> Slug {
    text.parse().unwrap()
}

#[tokio::test]
async fn what_was_announced_and_not_read_fails_closed_and_what_was_given_out_is_read_anew() {
    let ground = Ground::new();
    let (acme, globex) = (TenantId::generate(), TenantId::generate());
    ground.write(&ground.file(), &[row(acme, "acme"), row(globex, "globex")], Extent::Named(vec![acme, globex]));
    let node = ground.node().await;
    assert_eq!(node.generation(down()).await.unwrap().generation, 7);
    assert_eq!(node.id_by_slug(ground.mac.clone(), &slug("acme"), down()).await.unwrap(), acme);
    assert!(node.id_by_slug(ground.mac.clone(), &slug("hooli"), down()).await.is_err());
    assert_eq!(node.tenant(acme, down()).await.unwrap().slug, "acme");
    assert!(node.tenant(TenantId::generate(), down()).await.is_err());

    let announced = Changes { generation: 8, tenants: vec![(globex, slug("globex"))], reset: false, rollout: None };
    let followed = node.followed(Ok(announced)).unwrap();
    assert_eq!(followed.tenants, [(globex, slug("globex")), (acme, slug("acme"))], "and the one given out");
    assert!(node.followed(Ok(Changes::default())).unwrap().tenants.is_empty(), "once");
    assert!(node.tenant(globex, down()).await.is_err(), "it may have been suspended");
    assert!(node.tenant(acme, down()).await.is_ok());
}

#[test]
fn slugs_pass_on_and_who_is_gone_is_gone() {
    let ground = Ground::new();
    let file = ground.file();
    let mut ids: Vec<TenantId> = (0..4).map(|_| TenantId::generate()).collect();
    ids.sort();
    let [a, b, c, d] = ids[..] else { unreachable!() };
    let nil: TenantId = Uuid::nil().into();
    ground.write(&file, &[row(b, "one"), row(c, "two"), row(d, "three")], Extent::Between(nil, None));
    // The new owner of a slug is read before the old one has another.
    ground.write(&file, &[row(a, "one"), row(b, "four")], Extent::Named(vec![a, b]));
    let of = |text: &str| file.id_by_slug(&ground.mac, &slug(text)).unwrap();
    assert_eq!((of("one"), of("four"), of("two")), (Some(a), Some(b), Some(c)));
    ground.write(&file, &[row(a, "one"), row(b, "four")], Extent::Between(nil, Some(c)));
    assert_eq!((of("two"), of("three")), (None, Some(d)));
    assert!(file.tenant(c).unwrap().is_none() && file.tenant(d).unwrap().is_some());
    ground.write(&file, &[], Extent::Named(vec![d]));
    assert!(file.tenant(d).unwrap().is_none() && of("three").is_none());
    file.clear().unwrap();
    assert!(file.head().unwrap().is_none() && file.tenant(a).unwrap().is_none() && of("one").is_none());
}

#[tokio::test]
async fn the_newest_file_of_the_directory_is_started_from() {
    let ground = Ground::new();
    let (old, new) = (TenantId::generate(), TenantId::generate());
    let now = Clock::system().now();
    let (first, second) = (ground.file(), ground.file());
    let named = |id| Extent::Named(vec![id]);
    first.write(&ground.head(now - TimeDelta::days(3)), &ground.mac, &[row(old, "old")], &named(old)).unwrap();
    second.write(&ground.head(now), &ground.mac, &[row(new, "new")], &named(new)).unwrap();
    drop(first);
    // The second is still in use.
    let node = ground.node().await;
    assert!(node.tenant(new, down()).await.is_ok());
    assert!(node.tenant(old, down()).await.is_err());
}

#[tokio::test]
async fn a_neighbour_s_file_of_another_installation_is_not_started_from() {
    let ground = Ground::new();
    let (own, stranger) = (TenantId::generate(), TenantId::generate());
    let now = Clock::system().now();
    let (first, second) = (ground.file(), ground.file());
    let named = |id| Extent::Named(vec![id]);
    first.write(&ground.head(now - TimeDelta::hours(1)), &ground.mac, &[row(own, "own")], &named(own)).unwrap();
    let newer = Head::new(InstallationId::generate(), vec![], 7, now);
    second.write(&newer, &ground.mac, &[row(stranger, "stranger")], &named(stranger)).unwrap();
    drop(first);
    let node = ground.node_by(Clock::system());
    assert_eq!(node.installation(down()).await.unwrap().id, ground.installation);
    assert!(node.tenant(own, down()).await.is_ok());
    assert!(node.tenant(stranger, down()).await.is_err());
}

#[tokio::test]
async fn a_neighbour_s_file_that_lies_ahead_of_the_clock_is_not_started_from() {
    let ground = Ground::new();
    let (right, ahead) = (TenantId::generate(), TenantId::generate());
    let now = Clock::system().now();
    let (first, second) = (ground.file(), ground.file());
    let named = |id| Extent::Named(vec![id]);
    first.write(&ground.head(now - TimeDelta::hours(1)), &ground.mac, &[row(right, "right")], &named(right)).unwrap();
    second.write(&ground.head(now + TimeDelta::days(300)), &ground.mac, &[row(ahead, "ahead")], &named(ahead)).unwrap();
    drop(first);
    let node = ground.node().await;
    assert!(node.tenant(right, down()).await.is_ok());
    assert!(node.tenant(ahead, down()).await.is_err());
}

#[tokio::test]
async fn a_file_that_lies_ahead_of_the_clock_waits_for_it_and_is_not_replaced_by_an_older_one() {
    let ground = Ground::new();
    let (good, older) = (TenantId::generate(), TenantId::generate());
    let now = Clock::system().now();
    let (first, second) = (ground.file(), ground.file());
    let named = |id| Extent::Named(vec![id]);
    first.write(&ground.head(now), &ground.mac, &[row(good, "good")], &named(good)).unwrap();
    second.write(&ground.head(now - TimeDelta::hours(3)), &ground.mac, &[row(older, "older")], &named(older)).unwrap();
    drop(first);
    // Of a machine that has just started, and has not heard the time yet.
    let clock = Clock::default();
    clock.advance(TimeDelta::hours(-1));
    let node = ground.node_by(clock.clone());
    let refused = node.installation(down()).await.map(drop).unwrap_err();
    assert!(reason(&refused).contains("ahead of this machine's clock"), "{refused:?}");
    assert!(node.tenant(good, down()).await.is_err() && node.tenant(older, down()).await.is_err());
    clock.advance(TimeDelta::hours(1));
    node.installation(down()).await.unwrap();
    assert!(node.tenant(good, down()).await.is_ok(), "nothing of it is lost");
}

#[tokio::test]
async fn a_clock_that_was_ahead_once_does_not_take_the_age_s_bound_away() {
    let ground = Ground::new();
    let acme = TenantId::generate();
    ground.write(&ground.file(), &[row(acme, "acme")], Extent::Named(vec![acme]));
    let clock = Clock::default();
    let node = ground.node_by(clock.clone());
    node.installation(down()).await.unwrap();
    clock.advance(TimeDelta::days(400));
    node.followed(Ok(Changes::default())).unwrap();
    clock.advance(TimeDelta::days(-400));
    assert!(node.tenant(acme, down()).await.is_ok());
    node.followed(Ok(Changes::default())).unwrap();
    clock.advance(TimeDelta::days(8));
    assert!(node.tenant(acme, down()).await.is_err(), "older than the bound, by a clock that is right again");
}
