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
    Arc::new(Target {
        host: "127.0.0.1".into(),
        port,
        database: "acme".into(),
        user: "acme".into(),
        password: "secret".to_owned().into(),
        tls: TlsPolicy::mode(TlsMode::Disable),
    })
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
