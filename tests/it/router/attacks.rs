//! Forged tokens are refused before any tenant's database is touched.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use tenantry::testing::TestApp;

use crate::support::jwt::forge_of;
use crate::support::say;
use tenantry::fleet::proof::attacks::rows;

#[actix_web::test]
async fn every_forged_token_is_refused_and_opens_nothing() {
    let home = TestApp::shared().await;
    let (acme, globex) = (home.tenant("acme").await, home.tenant("globex").await);
    let (mine, other) = (forge_of(home, &acme).await, forge_of(home, &globex).await);
    // A node that has never seen either tenant.
    let app = TestApp::builder().beside(home).start().await;
    let pools = app.router().pools();
    let nobody = app.anonymous();
    let rows = rows(&mine, &other);
    let opened = pools.opened();
    let mut breaches = Vec::new();
    for (name, token) in &rows {
        let answer = nobody.bearing(token).get("/api/v1/users/me").await;
        let challenge = answer.header("www-authenticate").is_some_and(|value| value.starts_with("Bearer"));
        if answer.status != 401 || !challenge {
            breaches.push(format!("{name}: {} {} (challenge: {challenge})", answer.status, answer.code()));
        }
        if pools.opened() != opened || pools.snapshot(acme.id).is_some() || pools.snapshot(globex.id).is_some() {
            breaches.push(format!("{name}: a database was opened"));
        }
    }
    assert!(breaches.is_empty(), "{} of {}:\n{}", breaches.len(), rows.len(), breaches.join("\n"));
    say(&format!("attack table: {} forged tokens, all refused, no pool opened", rows.len()));
    // What all of them are one step away from.
    nobody.bearing(&mine.claiming(&mine.claims())).get("/api/v1/users/me").await.expect(200);
    assert!(pools.opened() > opened && pools.snapshot(acme.id).is_some());
}

#[actix_web::test]
async fn a_token_counts_only_in_the_authorization_header_and_once() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let token = acme.admin().token().await;
    let nobody = acme.anonymous();
    let in_the_query = nobody.get(&format!("/api/v1/users/me?access_token={token}")).await;
    assert!([400, 401].contains(&in_the_query.status), "{in_the_query:?}");
    nobody.with("cookie", &format!("token={token}; access_token={token}")).get("/api/v1/users/me").await.expect(401);
    nobody
        .with("authorization", &format!("Basic {token}"))
        .get("/api/v1/users/me")
        .await
        .refused(401, "unauthenticated");
    nobody.with("authorization", &token).get("/api/v1/users/me").await.expect(401);
    let twice = nobody.with("authorization", &format!("Bearer {token}")).with("authorization", "Bearer x");
    twice.get("/api/v1/users/me").await.refused(401, "token_invalid");
    nobody.with("authorization", &format!("bearer {token}")).get("/api/v1/users/me").await.expect(200);
}

/// What no client library sends.
#[actix_web::test]
async fn raw_bytes_in_the_header_are_refused() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let token = acme.admin().token().await;
    let address = app.url().trim_start_matches("http://").to_owned();
    for bytes in [&b"\0"[..], b"\x7f", b"\xff", b"\r\nX-Injected: 1", b"\n"] {
        let mut request =
            b"GET /api/v1/users/me HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer ".to_vec();
        let (before, after) = token.split_at(40);
        request.extend_from_slice(before.as_bytes());
        request.extend_from_slice(bytes);
        request.extend_from_slice(after.as_bytes());
        request.extend_from_slice(b"\r\n\r\n");
        let address = address.clone();
        let answer = tokio::task::spawn_blocking(move || {
            let mut stream = TcpStream::connect(address).expect("the application listens");
            stream.write_all(&request).expect("sent");
            let mut answer = Vec::new();
            // A server may close on such bytes without another word.
            let _ = stream.read_to_end(&mut answer);
            String::from_utf8_lossy(&answer).into_owned()
        });
        let answer = answer.await.expect("no panic");
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 40"), "{bytes:?}: {answer}");
    }
}
