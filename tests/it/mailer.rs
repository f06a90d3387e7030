//! A mail server proves who it is before it is told anything, and who we are after that.

use std::fs;
use std::process::{Child, Stdio};
use std::sync::Arc;

use serde_json::{Value, json};
use tenantry::mailer::{Letter, Mailer, MailerSettings, SmtpServer, sender};

use crate::support::certificates::{Authority, Issued};
use crate::support::dir::Dir;
use crate::support::{identity, peers, seconds, unique};

const USER: &str = "tenantry";
const PASSWORD: &str = "hun/ter+2";

/// Servers with TLS, without, and under another name.
struct Servers {
    dir: Dir,
    child: Child,
    ports: Value,
}

impl Drop for Servers {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Servers {
    fn start(ours: &Issued, renamed: &Issued) -> Self {
        let dir = Dir::new();
        let path = |name: &str| dir.path().join(name).to_str().expect("UTF-8").to_owned();
        let kept = |name: &str, issued: &Issued| {
            let (certificate, key) = (path(&format!("{name}.pem")), path(&format!("{name}.key")));
            fs::write(&certificate, &issued.certificate).expect("a file");
            fs::write(&key, &issued.key).expect("a file");
            json!({"certificate": certificate, "key": key})
        };
        let given = json!({
            "user": USER, "password": PASSWORD, "mailbox": path("mail"), "tried": path("tried"),
            "ours": kept("ours", ours), "renamed": kept("renamed", renamed),
        });
        let mut program = peers::python_script("smtp.py", include_str!("../peers/smtp.py"));
        // It complains of those who do not trust it.
        program.arg(given.to_string()).stderr(Stdio::null());
        let (child, ports) = identity::listening(program, "smtp.py");
        Self { dir, child, ports }
    }

    /// `ca=` with the certificate of an authority.
    fn ca(&self, authority: &Authority) -> String {
        let path = self.dir.path().join(unique("ca"));
        fs::write(&path, authority.pem()).expect("a file");
        format!("ca={}", path.display())
    }

    /// Sends a letter to the server on one of the ports.
    async fn send(&self, scheme: &str, password: &str, port: &str, query: &str) -> Result<(), String> {
        let url = format!("{scheme}://{USER}:{password}@127.0.0.1:{}?{query}", self.ports[port]);
        let mailer = Mailer::new(MailerSettings {
            server: SmtpServer::parse(&url).expect("a server"),
            from: sender("Tenantry <no-reply@example.com>").expect("an address"),
            timeout: seconds(20),
            local: Arc::new(|_| true),
        });
        let (id, to) = (unique("l"), "grace@example.org".to_owned());
        let letter = Letter { id, to, subject: "s".to_owned(), text: "t".to_owned(), html: "<p>t</p>".to_owned() };
        mailer.send(&letter).await.map_err(|error| error.to_string())
    }

    /// Who has tried to prove who they are, so far.
    fn tried(&self) -> Vec<String> {
        let text = fs::read_to_string(self.dir.path().join("tried")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    fn letters(&self) -> usize {
        fs::read_dir(self.dir.path().join("mail/new")).map_or(0, Iterator::count)
    }
}

#[actix_web::test]
async fn a_mail_server_proves_who_it_is_and_is_told_the_password_then() {
    let (ours, others) = (Authority::new("our authority"), Authority::new("somebody else's"));
    let servers = Servers::start(&ours.server(&["127.0.0.1"]), &ours.server(&["mail.example.com"]));
    let (ours, others) = (servers.ca(&ours), servers.ca(&others));
    let right = PASSWORD.replace('/', "%2F");
    servers.send("smtps", &right, "tls", &ours).await.expect("sent");
    servers.send("smtp", &right, "starttls", &format!("tls=required&{ours}")).await.expect("sent");
    let known = format!("{USER} {PASSWORD}");
    assert_eq!((servers.tried(), servers.letters()), (vec![known.clone(), known], 2));

    for (scheme, port, query, said) in [
        // Signed by nobody whom the system trusts, or we.
        ("smtps", "tls", String::new(), "no TLS with the mail server"),
        ("smtps", "tls", others.clone(), "no TLS with the mail server"),
        ("smtp", "starttls", "tls=required".to_owned(), "no TLS with the mail server"),
        ("smtp", "starttls", format!("tls=required&{others}"), "no TLS with the mail server"),
        // Another's certificate.
        ("smtps", "renamed", ours.clone(), "no TLS with the mail server"),
        // It has none, or somebody in between says so.
        ("smtp", "plain", format!("tls=required&{ours}"), "the mail server lacks what is asked of it"),
    ] {
        let refused = servers.send(scheme, &right, port, &query).await.expect_err(port);
        assert!(refused.starts_with(said), "{port} {query}: {refused}");
    }
    assert_eq!((servers.tried().len(), servers.letters()), (2, 2), "nothing was told them");

    let refused = servers.send("smtps", "wrong", "tls", &ours).await.expect_err("the wrong password");
    assert_eq!((&*refused, servers.tried().len(), servers.letters()), ("the mail server answered 535", 3, 2));
}
