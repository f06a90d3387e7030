//! A provider of CAPTCHAs as Turnstile and hCaptcha answer.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// A server that takes `response=solved` for solved, with the right secret.
pub(crate) struct SiteVerify {
    port: u16,
    seen: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl SiteVerify {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let seen: Arc<Mutex<Vec<String>>> = Arc::default();
        let keep = seen.clone();
        let task = tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let mut asked = Vec::new();
                let form = loop {
                    let mut chunk = [0; 4096];
                    let read = client.read(&mut chunk).await.unwrap_or_default();
                    asked.extend_from_slice(&chunk[..read]);
                    let text = String::from_utf8_lossy(&asked).to_lowercase();
                    let whole = text.split_once("\r\n\r\n").filter(|(head, body)| {
                        let length = head.split("content-length: ").nth(1).and_then(|l| l.split("\r\n").next());
                        length.and_then(|l| l.parse::<usize>().ok()) == Some(body.len())
                    });
                    if let Some((_, body)) = whole {
                        break body.to_owned();
                    }
                    assert!(read > 0, "the question broke off: {text}");
                };
                let body = match &*form {
                    form if !form.contains("secret=s3cret%26%3d") => r#"{"success":false,"error-codes":["x"]}"#,
                    form if form.contains("response=solved") => r#"{"success":true,"hostname":"h","challenge_ts":"t"}"#,
                    _ => r#"{"success":false,"error-codes":["invalid-input-response"]}"#,
                };
                keep.lock().expect("not poisoned").push(form.replace("%3d", "%3D"));
                let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close";
                let answer = format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
                let _ = client.write_all(answer.as_bytes()).await;
            }
        });
        Self { port, seen, task }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}/siteverify", self.port)
    }

    /// The forms that came.
    pub(crate) fn seen(&self) -> Vec<String> {
        self.seen.lock().expect("not poisoned").clone()
    }

    /// Answers nobody any more.
    pub(crate) fn stop(&self) {
        self.task.abort();
    }
}
