//! A mail server that takes every letter and keeps the last invitation.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// What the token of an invitation begins with.
const INVITATION: &str = "tin_";
const PATIENCE: Duration = Duration::from_secs(60);

/// It listens as long as the program runs, in a thread of its own: whoever measures is not kept waiting by it.
#[derive(Debug)]
pub struct Postbox {
    url: String,
    token: Arc<Mutex<Option<String>>>,
}

impl Postbox {
    /// Opens it.
    pub fn open() -> Result<Self> {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0))?;
        listener.set_nonblocking(true)?;
        let url = format!("smtp://{}", listener.local_addr()?);
        let token = Arc::new(Mutex::new(None));
        let kept = token.clone();
        std::thread::spawn(move || -> std::io::Result<()> {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(listen(listener, kept))
        });
        Ok(Self { url, token })
    }

    /// As `TENANTRY_SMTP_URL` has it.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The token of the invitation that came last; waits until there is one.
    pub async fn invitation(&self) -> Result<String> {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            if let Some(token) = self.token.lock().unwrap_or_else(PoisonError::into_inner).clone() {
                return Ok(token);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        bail!("no invitation came by mail")
    }
}

async fn listen(listener: std::net::TcpListener, token: Arc<Mutex<Option<String>>>) -> std::io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(serve(stream, token.clone()));
    }
}

async fn serve(stream: TcpStream, token: Arc<Mutex<Option<String>>>) -> std::io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut lines = BufReader::new(reader).lines();
    writer.write_all(b"220 bench\r\n").await?;
    while let Some(line) = lines.next_line().await? {
        let word = line.split([' ', ':']).next().unwrap_or_default().to_uppercase();
        if word == "DATA" {
            writer.write_all(b"354 go on\r\n").await?;
            let mut letter = String::new();
            while let Some(line) = lines.next_line().await?.filter(|line| line != ".") {
                // Long lines may have been broken in two.
                letter.push_str(line.strip_suffix('=').unwrap_or(&line));
                if !line.ends_with('=') {
                    letter.push('\n');
                }
            }
            if let Some((_, rest)) = letter.split_once(INVITATION) {
                let is_part = |c: &char| c.is_ascii_alphanumeric() || "-_".contains(*c);
                let rest: String = rest.chars().take_while(is_part).collect();
                *token.lock().unwrap_or_else(PoisonError::into_inner) = Some(format!("{INVITATION}{rest}"));
            }
        }
        let answer: &[u8] = if word == "QUIT" { b"221 bye\r\n" } else { b"250 fine\r\n" };
        writer.write_all(answer).await?;
        if word == "QUIT" {
            break;
        }
    }
    Ok(())
}
