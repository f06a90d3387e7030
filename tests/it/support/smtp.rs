//! A real mail server (`aiosmtpd`), and what it was handed.

use std::fs;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use tenantry::testing::{TestApp, TestAppBuilder};
use tokio::sync::OnceCell;

use super::binary::free_port;
use super::dir::Dir;
use super::{eventually, peers, seconds};

/// A mail server with a mailbox of everything that it took.
pub(crate) struct Smtp {
    port: u16,
    dir: Dir,
    child: Option<Child>,
}

/// What somebody got.
#[derive(Debug, Clone)]
pub(crate) struct Letter {
    pub(crate) id: String,
    pub(crate) to: String,
    pub(crate) subject: String,
    pub(crate) text: String,
    pub(crate) html: String,
}

impl Letter {
    /// The token in its link.
    #[track_caller]
    pub(crate) fn token(&self) -> String {
        let (_, rest) = self.text.split_once("token=").unwrap_or_else(|| panic!("no link in {self:?}"));
        rest.split_whitespace().next().expect("a token").to_owned()
    }
}

impl Smtp {
    /// One that listens.
    pub(crate) async fn start() -> Self {
        let mut smtp = Self::away();
        smtp.come_back().await;
        smtp
    }

    /// One that does not listen yet.
    pub(crate) fn away() -> Self {
        Self { port: free_port(), dir: Dir::new(), child: None }
    }

    fn mailbox(&self) -> PathBuf {
        self.dir.path().join("mail")
    }

    /// Listens from here on.
    pub(crate) async fn come_back(&mut self) {
        let (listen, mailbox) = (format!("127.0.0.1:{}", self.port), self.mailbox());
        let mut server = peers::python("aiosmtpd");
        server.args(["-n", "-l", &listen, "-c", "aiosmtpd.handlers.Mailbox"]).arg(mailbox);
        // It ends with whoever holds the other end of its standard input: also with a test that was killed.
        let mut command = Command::new("sh");
        command.args(["-c", "\"$@\" </dev/null & cat >/dev/null; kill $!; wait", "sh"]);
        command.arg(server.get_program()).args(server.get_args());
        self.child =
            Some(command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("sh"));
        let port = self.port;
        eventually(seconds(30), "the mail server listens", async || TcpStream::connect(("127.0.0.1", port)).is_ok())
            .await;
    }

    /// Listens no more.
    pub(crate) fn go_away(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        drop(child.stdin.take());
        child.wait().expect("it ends");
    }

    /// The settings of a node that sends its mail here.
    pub(crate) fn environment(&self) -> Vec<(String, String)> {
        vec![
            ("TENANTRY_SMTP_URL".into(), format!("smtp://127.0.0.1:{}", self.port)),
            ("TENANTRY_MAIL__ALLOWED_NETWORKS".into(), "127.0.0.0/8".into()),
            ("TENANTRY_MAIL__APP_URL".into(), "https://app.example.com".into()),
        ]
    }

    /// The same for an application of a test.
    pub(crate) fn of(&self, app: TestAppBuilder) -> TestAppBuilder {
        self.environment().iter().fold(app, |app, (name, value)| app.set(name, value))
    }

    /// Everything that was handed over so far to one address.
    pub(crate) fn letters(&self, to: &str) -> Vec<Letter> {
        let Ok(entries) = fs::read_dir(self.mailbox().join("new")) else { return Vec::new() };
        let mut letters: Vec<Letter> = entries
            .filter_map(|entry| fs::read_to_string(entry.ok()?.path()).ok())
            .map(|text| parse(&text))
            .filter(|letter| letter.to == to)
            .collect();
        // Ids grow with time.
        letters.sort_by(|a, b| a.id.cmp(&b.id));
        letters
    }

    /// The latest letter to an address that says this; waits until there is one.
    pub(crate) async fn letter(&self, to: &str, says: &str) -> Letter {
        let mut found = None;
        let says_it = |letter: &Letter| letter.text.contains(says) || letter.subject.contains(says);
        eventually(seconds(60), &format!("{to} is told: {says}"), async || {
            found = self.letters(to).into_iter().rfind(says_it);
            found.is_some()
        })
        .await;
        found.expect("found above")
    }
}

impl Drop for Smtp {
    fn drop(&mut self) {
        self.go_away();
    }
}

/// An application with a mail server, for tests that change nothing for others.
pub(crate) async fn shared() -> &'static (TestApp, Smtp) {
    static SHARED: OnceCell<(TestApp, Smtp)> = OnceCell::const_new();
    SHARED
        .get_or_init(async || {
            let smtp = Smtp::start().await;
            (smtp.of(TestApp::builder()).start().await, smtp)
        })
        .await
}

fn header<'a>(head: &'a str, name: &str) -> &'a str {
    let line = head.lines().find(|line| line.to_lowercase().starts_with(&format!("{}:", name.to_lowercase())));
    line.and_then(|line| line.split_once(':')).map_or("", |(_, value)| value.trim())
}

fn parse(text: &str) -> Letter {
    let text = text.replace("\r\n", "\n");
    let (head, body) = text.split_once("\n\n").unwrap_or((&text, ""));
    let head = head.replace("\n ", " ");
    let boundary = head.split_once("boundary=\"").and_then(|(_, rest)| rest.split('"').next()).unwrap_or("nowhere");
    let part = |kind: &str| {
        let mark = format!("--{boundary}");
        let parts = body.split(&mark);
        let found = parts.filter_map(|part| part.trim_start().split_once("\n\n")).find(|(head, _)| head.contains(kind));
        found.map(|(head, body)| decoded(header(head, "Content-Transfer-Encoding"), body)).unwrap_or_default()
    };
    Letter {
        id: header(&head, "Message-ID").trim_matches(['<', '>']).to_owned(),
        to: header(&head, "To").to_owned(),
        subject: words(header(&head, "Subject")),
        text: part("text/plain"),
        html: part("text/html"),
    }
}

fn decoded(encoding: &str, body: &str) -> String {
    match encoding {
        "base64" => {
            let bytes: String = body.split_whitespace().collect();
            String::from_utf8(BASE64.decode(bytes).expect("base64")).expect("UTF-8")
        }
        "quoted-printable" => {
            let joined = body.replace("=\n", "");
            let mut bytes = Vec::new();
            let mut rest = joined.as_bytes();
            while let Some((first, after)) = rest.split_first() {
                match (first, after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok())) {
                    (b'=', Some(hex)) => {
                        bytes.push(u8::from_str_radix(hex, 16).expect("hex"));
                        rest = &after[2..];
                    }
                    _ => {
                        bytes.push(*first);
                        rest = after;
                    }
                }
            }
            String::from_utf8(bytes).expect("UTF-8")
        }
        _ => body.to_owned(),
    }
}

/// Words of a header that may be encoded (RFC 2047, base64).
fn words(value: &str) -> String {
    let value = value.replace("?= =?", "?==?");
    let mut out = String::new();
    let mut rest = value.as_str();
    while let Some((before, after)) = rest.split_once("=?utf-8?b?") {
        out.push_str(before);
        let (word, after) = after.split_once("?=").expect("an encoded word");
        out.push_str(&decoded("base64", word));
        rest = after;
    }
    out + rest
}
