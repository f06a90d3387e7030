use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;

fn loopback() -> Outbound {
    Outbound::new(vec!["127.0.0.0/8".parse().unwrap(), "::1".parse().unwrap()])
}

/// A server that gives each client the same answer, and counts nothing else.
async fn server(answer: String) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let answer = answer.clone();
            tokio::spawn(async move {
                let mut asked = [0; 4096];
                let _ = client.read(&mut asked).await;
                let _ = client.write_all(answer.as_bytes()).await;
            });
        }
    });
    address
}

fn with_body(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n{headers}\r\n{body}", body.len())
}

async fn ask(client: &Outbound, url: &str) -> Result<Response> {
    client.send(Request::get(Url::parse(url).unwrap())).await
}

fn is_refused(answer: &Result<Response>) -> bool {
    matches!(answer, Err(OutboundError::Refused(_)))
}

#[actix_web::test]
async fn what_is_inside_is_not_reached_by_name_or_number() {
    let there = server(with_body("200 OK", "", "secret")).await;
    let port = there.port();
    let outside = Outbound::new(Vec::new());
    for host in
        ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "127.1", "2130706433", "0x7f000001", "0.0.0.0"]
    {
        let answer = ask(&outside, &format!("https://{host}:{port}/")).await;
        assert!(is_refused(&answer), "{host}: {answer:?}");
    }
    for host in ["169.254.169.254", "[fd00:ec2::254]", "10.0.0.1"] {
        assert!(is_refused(&ask(&loopback(), &format!("https://{host}/")).await), "{host}");
    }
    // The control: the same server answers where the list names it.
    let answer = ask(&loopback(), &format!("http://127.0.0.1:{port}/")).await.unwrap();
    assert_eq!((answer.status, &*answer.body), (200, &b"secret"[..]));
    assert_eq!(ask(&loopback(), &format!("http://localhost:{port}/")).await.unwrap().status, 200);
}

#[actix_web::test]
async fn plain_http_is_for_the_list_alone() {
    let there = server(with_body("200 OK", "", "x")).await;
    assert!(is_refused(&ask(&Outbound::new(Vec::new()), &format!("http://127.0.0.1:{}/", there.port())).await));
    assert!(is_refused(&ask(&loopback(), "http://1.1.1.1/").await));
    for text in ["ftp://example.com/", "file:///etc/passwd", "gopher://x/", "nonsense", "https://u:p@example.com/"] {
        assert!(loopback().read(text).is_err(), "{text}");
    }
    assert!(loopback().read("https://id.example.com/realm").is_ok());
}

#[actix_web::test]
async fn a_redirect_is_an_answer_and_nobody_goes_there() {
    let inner = server(with_body("200 OK", "", "secret")).await;
    let outer = server(with_body("302 Found", &format!("location: http://{inner}/\r\n"), "")).await;
    let answer = ask(&loopback(), &format!("http://{outer}/")).await.unwrap();
    assert_eq!((answer.status, answer.body.len()), (302, 0));
}

#[actix_web::test]
async fn size_and_time_are_bounded() {
    let there = server(with_body("200 OK", "", &"x".repeat(5000))).await;
    let url = Url::parse(&format!("http://{there}/")).unwrap();
    let answer = loopback().send(Request::get(url.clone()).at_most(4999)).await;
    assert_eq!(answer.unwrap_err(), OutboundError::TooLong);
    assert_eq!(loopback().send(Request::get(url).at_most(5000)).await.unwrap().body.len(), 5000);
    // It takes the connection and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = Url::parse(&format!("http://{}/", silent.local_addr().unwrap())).unwrap();
    let answer = loopback().send(Request::get(url).within(Duration::from_millis(50))).await;
    assert_eq!(answer.unwrap_err(), OutboundError::TooLate);
}
