//! How apps prove who they are.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::json;
use tenantry::testing::TestApp;

use crate::support::db;
use crate::support::oauth::{App, refused, send};

const OWN: [(&str, &str); 1] = [("grant_type", "client_credentials")];

#[actix_web::test]
async fn a_client_proves_itself_in_one_way_with_its_own_secret() {
    let app = TestApp::shared().await;
    let (acme, globex) = (app.tenant("acme").await, app.tenant("globex").await);
    let (client, other) = (App::new(&acme, &[], json!({})).await, App::new(&globex, &[], json!({})).await);
    let secret = client.secret.clone().unwrap();
    client.ask("token", &OWN).await.expect(200);
    let nobody = acme.anonymous();
    let by_form = |id: &str, secret: &str| {
        let (id, secret, nobody, acme) = (id.to_owned(), secret.to_owned(), nobody.clone(), acme.clone());
        async move {
            let all = [OWN[0], ("client_id", &*id), ("client_secret", &*secret)];
            send(&nobody, &acme, "token", &all).await
        }
    };
    by_form(&client.id, &secret).await.expect(200);
    let basic = nobody.with("authorization", &format!("Basic {}", BASE64.encode(format!("{}:{secret}", client.id))));
    refused(&send(&basic, &acme, "token", &[OWN[0], ("client_secret", &secret)]).await, 400, "invalid_request");
    refused(&send(&basic, &acme, "token", &[OWN[0], ("client_id", &other.id)]).await, 400, "invalid_request");
    refused(&send(&nobody, &acme, "token", &OWN).await, 401, "invalid_client");
    let unproved = send(&nobody, &acme, "token", &[OWN[0], ("client_id", &client.id)]).await;
    refused(&unproved, 401, "invalid_client");
    assert!(unproved.header("www-authenticate").is_some_and(|value| value.starts_with("Basic ")), "{unproved:?}");
    // Another's secret, another tenant's, no secret at all: alike, and as an unknown client and an unknown tenant.
    let mut told = vec![unproved.body];
    for (id, secret) in [(&*client.id, &**other.secret.as_ref().unwrap()), (&*client.id, "x"), ("nobody", &*secret)] {
        let answer = by_form(id, secret).await;
        refused(&answer, 401, "invalid_client");
        told.push(answer.body);
    }
    let path = "/t/no-such-tenant/oauth/token";
    let body = Some(("application/x-www-form-urlencoded", "grant_type=client_credentials&client_id=x".to_owned()));
    told.push(nobody.send(reqwest::Method::POST, path, body).await.body);
    assert!(told.iter().all(|body| *body == told[0]), "{told:?}");
}

#[actix_web::test]
async fn wrong_secrets_count_and_lock_their_own_lane() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let (client, known) = (App::new(&acme, &[], json!({})).await, App::new(&acme, &[], json!({})).await);
    let wrong = App { secret: known.secret.clone(), ..client.clone() };
    for _ in 0..5 {
        refused(&wrong.ask("token", &OWN).await, 401, "invalid_client");
    }
    let locked = client.ask("token", &OWN).await;
    refused(&locked, 429, "invalid_client");
    let wait = locked.header("retry-after").expect("how long to wait");
    assert_eq!(locked.header("ratelimit-policy"), Some(r#""login";q=5;w=900"#), "{locked:?}");
    assert_eq!(locked.header("ratelimit"), Some(&*format!("\"login\";r=0;t={wait}")), "{locked:?}");
    // Others are not locked with it, and people neither.
    known.ask("token", &OWN).await.expect(200);
    acme.another_login().await;
}

/// However long ago it came for the first time: what makes it known is renewed, and not swept out as a stranger's guess is.
#[actix_web::test]
async fn an_app_at_work_is_locked_out_by_nobody_elsewhere() {
    let home = TestApp::shared().await;
    let app = TestApp::builder().beside(home).set("TENANTRY_HTTP__TRUSTED_PROXIES", "127.0.0.0/8").start().await;
    let acme = home.tenant("acme").await.at(app.url());
    let client = App::new(&acme, &[], json!({})).await;
    let stranger = acme.anonymous().with("x-forwarded-for", "198.51.100.7");
    let guess = [OWN[0], ("client_id", &*client.id), ("client_secret", "x")];
    client.ask("token", &OWN).await.expect(200);
    for days in [3, 3, 3, 3, 3, 3, 3, 3, 3, 4] {
        app.clock().advance(chrono::TimeDelta::days(days));
        for _ in 0..5 {
            refused(&send(&stranger, &acme, "token", &guess).await, 401, "invalid_client");
        }
        refused(&send(&stranger, &acme, "token", &guess).await, 429, "invalid_client");
        client.ask("token", &OWN).await.expect(200);
    }
    let noted = "SELECT count(*)::text AS word FROM login_attempts WHERE kind = 'app_secret' AND outcome = 'succeeded'";
    let noted: u32 = db::word(acme.database(), noted).await.parse().unwrap();
    assert!((2..=5).contains(&noted), "{noted}: not every use is noted");
}

/// An app that keeps no secret has none to guess: anybody who knows its name would keep everybody out of it.
#[actix_web::test]
async fn nobody_locks_an_app_that_keeps_no_secret() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let open = json!({"confidential": false, "grants": ["authorization_code", "refresh_token"]});
    let open = App::new(&acme, &[], open).await;
    let nobody = acme.anonymous();
    let refresh = [("grant_type", "refresh_token"), ("refresh_token", "x")];
    let guess = async |id: &str| {
        let all = [refresh[0], refresh[1], ("client_id", id), ("client_secret", "x")];
        send(&nobody, &acme, "token", &all).await
    };
    for _ in 0..7 {
        refused(&guess(&open.id).await, 401, "invalid_client");
    }
    refused(&open.ask("token", &refresh).await, 400, "invalid_grant");
    // The control: a name that nobody has is locked as one with a secret is.
    let unknown = uuid::Uuid::now_v7().to_string();
    for _ in 0..5 {
        refused(&guess(&unknown).await, 401, "invalid_client");
    }
    refused(&guess(&unknown).await, 429, "invalid_client");
}
