use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;

const LET_IN: &[u8] = b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I";

/// A server that lets anybody in, says its last words, and goes.
async fn leaving(last_words: &'static [u8]) -> Arc<Target> {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = server.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut socket, _) = server.accept().await.unwrap();
        let _ = socket.read(&mut [0; 1024]).await;
        let _ = socket.write_all(LET_IN).await;
        let _ = socket.read(&mut [0; 1024]).await;
        let _ = socket.write_all(last_words).await;
    });
    Arc::new(at(port))
}

fn at(port: u16) -> Target {
    Target {
        host: "127.0.0.1".into(),
        port,
        database: "acme".into(),
        user: "acme".into(),
        password: "secret".to_owned().into(),
        tls: TlsPolicy::mode(TlsMode::Disable),
    }
}

/// What comes of a server that refuses everybody with this code, raised there.
async fn refused(code: &str, routine: &str) -> ConnectError {
    let fields = format!("SFATAL\0VFATAL\0C{code}\0Mnein\0R{routine}\0\0");
    let length = u32::try_from(fields.len() + 4).unwrap();
    let words = [b"E".as_slice(), &length.to_be_bytes(), fields.as_bytes()].concat();
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = Arc::new(at(server.local_addr().unwrap().port()));
    tokio::spawn(async move {
        let (mut socket, _) = server.accept().await.unwrap();
        let _ = socket.read(&mut [0; 1024]).await;
        let _ = socket.write_all(&words).await;
    });
    open(&target, &ConnectOptions::default(), None, None).await.err().expect("no connection")
}

/// Only a role that has said who it is, or was not asked, learns whether it may come in.
#[tokio::test]
async fn a_wrong_password_is_no_answer_to_whether_one_may() {
    let told = async |code: &str, routine: &str| {
        let error = refused(code, routine).await;
        assert_eq!(error.kind, ConnectFailure::Authentication, "{error:?}");
        (error.is_forbidden(), error.is_wrong_password())
    };
    assert_eq!(told("42501", "CheckMyDatabase").await, (true, false));
    assert_eq!(told("28000", "ClientAuthentication").await, (true, false));
    assert_eq!(told("28000", "InitializeSessionUserId").await, (false, false));
    assert_eq!(told("28P01", "auth_failed").await, (false, true));
    let full = refused("53300", "InitPostgres").await;
    assert!(!full.is_forbidden() && !full.is_wrong_password());
}

/// A backend that is ended while it starts says nothing about the next one.
#[tokio::test]
async fn a_backend_that_ends_while_it_starts_is_unreachable() {
    const ENDED: &[u8] = b"E\0\0\0\x20SFATAL\0VFATAL\0C57P01\0MEnde\0\0";
    for last_words in [b"".as_slice(), ENDED] {
        let target = leaving(last_words).await;
        let failed = open(&target, &ConnectOptions::default(), None, None).await.err().expect("no connection");
        assert_eq!(failed.kind, ConnectFailure::Unreachable, "{failed:?}");
        assert!(!failed.is_late());
    }
}

#[test]
fn an_administrator_s_session_says_where_names_lead_to() {
    let own = ConnectOptions { lock_timeout: Some(Duration::from_secs(1)), ..ConnectOptions::default() };
    assert!(!own.startup().contains("search_path"));
    let theirs = ConnectOptions { rights: Rights::Administrator, ..own }.startup();
    for said in [
        "-c search_path=pg_catalog,pg_temp ",
        "-c role=none ",
        "-c row_security=off ",
        "-c default_transaction_read_only=off ",
        // Else what is quoted for one form would be read in the other.
        "-c standard_conforming_strings=on ",
        "-c lock_timeout=1000",
    ] {
        assert!(theirs.contains(said), "{said}: {theirs}");
    }
}
