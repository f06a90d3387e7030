//! Each fault, seen from a client of a server that sends everything back.

use std::time::Instant;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::*;
use crate::router::TlsPolicy;
use crate::router::connect::TlsMode;

const SOON: Duration = Duration::from_secs(5);
const NEVER: Duration = Duration::from_millis(100);

/// A server that sends everything back.
async fn echo() -> Target {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                tokio::io::copy(&mut from, &mut to).await
            });
        }
    });
    Target {
        host: "127.0.0.1".into(),
        port,
        database: String::new(),
        user: String::new(),
        password: String::new().into(),
        tls: TlsPolicy::mode(TlsMode::Disable),
    }
}

async fn connect(proxy: &FaultProxy) -> io::Result<TcpStream> {
    TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port())).await
}

async fn ask(stream: &mut TcpStream, word: &str) -> io::Result<String> {
    stream.write_all(word.as_bytes()).await?;
    let mut answer = vec![0; word.len()];
    stream.read_exact(&mut answer).await?;
    Ok(String::from_utf8(answer).unwrap())
}

#[tokio::test]
async fn passes_both_ways_and_counts() {
    let proxy = FaultProxy::start(&echo().await);
    let mut stream = connect(&proxy).await.unwrap();
    assert_eq!(ask(&mut stream, "hello").await.unwrap(), "hello");
    assert_eq!((proxy.accepted(), proxy.open()), (1, 1));
    assert_eq!((proxy.passed(Direction::ToServer), proxy.passed(Direction::ToClient)), (5, 5));
    stream.shutdown().await.unwrap();
    assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0, "the server's end follows ours");
    drop(stream);
    let begun = Instant::now();
    while proxy.open() > 0 {
        assert!(begun.elapsed() < SOON);
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn refuses_and_listens_again_on_the_same_port() {
    let proxy = FaultProxy::start(&echo().await);
    let mut old = connect(&proxy).await.unwrap();
    ask(&mut old, "a").await.unwrap();
    proxy.set(Fault::Refuse).await;
    assert_eq!(connect(&proxy).await.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    assert_eq!(ask(&mut old, "b").await.unwrap(), "b", "those that are there go on");
    proxy.reset_open().await;
    assert!(ask(&mut old, "c").await.is_err());
    proxy.set(Fault::Pass).await;
    assert_eq!(ask(&mut connect(&proxy).await.unwrap(), "d").await.unwrap(), "d");
}

#[tokio::test]
async fn resets_hangs_and_swallows() {
    let proxy = FaultProxy::start(&echo().await);
    let mut old = connect(&proxy).await.unwrap();
    ask(&mut old, "a").await.unwrap();

    proxy.set(Fault::Hang).await;
    let mut hanging = connect(&proxy).await.unwrap();
    assert!(timeout(NEVER, ask(&mut hanging, "b")).await.is_err());
    assert_eq!(ask(&mut old, "c").await.unwrap(), "c");

    proxy.set(Fault::BlackHole).await;
    old.write_all(b"d").await.unwrap();
    assert!(timeout(NEVER, old.read_u8()).await.is_err());
    proxy.set(Fault::Pass).await;
    assert_eq!(timeout(SOON, old.read_u8()).await.unwrap().unwrap(), b'd', "what was on its way arrives");
    assert_eq!(timeout(SOON, hanging.read_u8()).await.unwrap().unwrap(), b'b');

    proxy.set_one_way(Direction::ToClient, Fault::BlackHole).await;
    let before = proxy.passed(Direction::ToServer);
    assert!(timeout(NEVER, ask(&mut old, "e")).await.is_err());
    assert_eq!(proxy.passed(Direction::ToServer), before + 1);

    proxy.set(Fault::Reset).await;
    let broken = timeout(SOON, old.read_u8()).await.unwrap().unwrap_err();
    assert_eq!(broken.kind(), io::ErrorKind::ConnectionReset);
    assert_eq!(proxy.open(), 0);
    let refused = async { ask(&mut connect(&proxy).await?, "f").await };
    assert!(timeout(SOON, refused).await.unwrap().is_err());
}

#[tokio::test]
async fn slows_down_and_cuts_off() {
    let proxy = FaultProxy::start(&echo().await);
    let mut stream = connect(&proxy).await.unwrap();
    let delay = Duration::from_millis(10);
    proxy.set(Fault::Slow { delay, chunk: 2 }).await;
    let begun = Instant::now();
    ask(&mut stream, "12345678").await.unwrap();
    assert!(begun.elapsed() >= 5 * delay, "{:?}", begun.elapsed());

    proxy.set_one_way(Direction::ToServer, Fault::Pass).await;
    proxy.set_one_way(Direction::ToClient, Fault::CutAfter(3)).await;
    stream.write_all(b"abcdef").await.unwrap();
    let mut answer = Vec::new();
    assert!(timeout(SOON, stream.read_to_end(&mut answer)).await.unwrap().is_err());
    assert!(answer.len() <= 3, "{answer:?}");
}
