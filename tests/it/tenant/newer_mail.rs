//! A mail of a newer release, in a rolling upgrade: a node that does not know it leaves it to one that does.

use chrono::TimeDelta;
use serde_json::json;
use tenantry::kernel::crypto::{Place, Sealed};
use tenantry::testing::TestApp;

use crate::support::smtp::Smtp;
use crate::support::{db, eventually, seconds, unhex};

#[actix_web::test]
async fn a_notice_of_a_newer_release_waits_for_a_node_that_knows_it() {
    let mut smtp = Smtp::away();
    let app = smtp.of(TestApp::builder()).start().await;
    let acme = app.tenant("acme").await;
    acme.admin().post("/api/v1/api-keys", json!({"name": "newer", "scopes": []})).await.expect(201);
    let fault = async || db::word(acme.database(), "SELECT fault AS word FROM mail_outbox").await;
    // Until its next turn it is nobody's.
    eventually(seconds(30), "it was tried", async || !fault().await.is_empty()).await;
    let key = app.router().installation().mac.seal_key("tenant-mail");
    let say = async |from: &str, to: &str| {
        let row = "SELECT id || ' ' || encode(parcel_sealed, 'hex') AS word FROM mail_outbox";
        let row = db::word(acme.database(), row).await;
        let (id, hex) = row.split_once(' ').expect("a mail that waits");
        let place = Place::new("mail_outbox", "parcel_sealed", id.parse().expect("an id"));
        let plain = key.open(place, &Sealed::from(unhex(hex))).expect("our own key");
        let plain = String::from_utf8(plain.to_vec()).expect("JSON");
        assert!(plain.contains(from), "{plain}");
        let sealed = Vec::from(key.seal(place, plain.replace(from, to).as_bytes()));
        let hex = sealed.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        db::execute(acme.database(), &format!("UPDATE mail_outbox SET parcel_sealed = '\\x{hex}'")).await;
    };
    let (known, unknown) = ("\"api-key-made\"", "\"something-new\"");
    say(known, unknown).await;
    smtp.come_back().await;
    let seen = async || {
        app.clock().advance(TimeDelta::seconds(10));
        fault().await.contains("newer release")
    };
    eventually(seconds(30), "a node has seen it", seen).await;
    assert_eq!(db::word(acme.database(), "SELECT state AS word FROM mail_outbox").await, "queued");
    assert!(smtp.letters(acme.email()).is_empty());

    say(unknown, known).await;
    let sent = async || {
        app.clock().advance(TimeDelta::minutes(1));
        !smtp.letters(acme.email()).is_empty()
    };
    eventually(seconds(30), "it is sent", sent).await;
}
