//! The way to a mail server: one letter at a time, each within a deadline. Knows nothing of tenants. Where things are tried
//! out, letters may go to the log instead.

mod server;

use std::error::Error;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, io, iter};

use lettre::message::header::{HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart};
use lettre::transport::smtp::client::{CertificateStore, Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport as _, Message, Tokio1Executor};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use server::Security;
pub use server::{BadServer, SmtpServer};

/// Letters that one node hands over at the same time; each has a connection of its own.
const AT_ONCE: usize = 8;
/// Answers of a mail server that say of one address that nothing will ever arrive there (RFC 5321). What it says of the
/// sender, or of a login, is no fault of the letter.
const NEVER: [u16; 4] = [550, 551, 553, 556];

/// Under what the log has letters, where they go there.
const LOG: &str = "tenantry::mail";

/// Says whether a server may be at an address that is this machine's own.
pub type Allowed = Arc<dyn Fn(IpAddr) -> bool + Send + Sync>;

/// How letters are sent.
#[derive(Clone)]
pub struct MailerSettings {
    /// The server.
    pub server: SmtpServer,
    /// Who they are from: `Tenantry <no-reply@example.com>`.
    pub from: Mailbox,
    /// How long handing over one may take, connection included.
    pub timeout: Duration,
    /// Whether a server on this machine may be spoken to.
    pub local: Allowed,
}

/// One letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    /// The same each time that it is sent: those who get it twice see it once.
    pub id: String,
    /// Address.
    pub to: String,
    /// Subject.
    pub subject: String,
    /// Plain text.
    pub text: String,
    /// The same as HTML.
    pub html: String,
}

/// Why a letter was not handed over.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// It never will be: nothing arrives at this address.
    #[error("the mail server refuses the address ({0})")]
    Refused(u16),
    /// The address is none that mail can be sent to.
    #[error("the address cannot be written to")]
    Address,
    /// It may be another time.
    #[error("{0}")]
    Trouble(String),
}

impl fmt::Debug for MailerSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MailerSettings").field("server", &self.server).field("from", &self.from).finish_non_exhaustive()
    }
}

/// Sends letters. Clones share the bound on how many at a time.
#[derive(Debug, Clone)]
pub struct Mailer(Way);

#[derive(Clone)]
enum Way {
    Server { settings: Arc<MailerSettings>, turns: Arc<Semaphore> },
    Log,
}

impl fmt::Debug for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server { settings, .. } => settings.server.fmt(f),
            Self::Log => f.write_str("Log"),
        }
    }
}

/// Reads who letters are from.
///
/// # Errors
/// If it is no address.
pub fn sender(text: &str) -> Result<Mailbox, BadServer> {
    text.parse().map_err(|_| BadServer("is no address"))
}

impl Mailer {
    /// A mailer. Opens nothing yet.
    #[must_use]
    pub fn new(settings: MailerSettings) -> Self {
        Self(Way::Server { settings: Arc::new(settings), turns: Arc::new(Semaphore::new(AT_ONCE)) })
    }

    /// One that writes letters to the log, links and all: whoever reads it gets in by them. Only for trying things out.
    /// None where the log does not take them: what nobody sees is not sent.
    #[must_use]
    pub fn to_the_log() -> Option<Self> {
        tracing::enabled!(target: LOG, tracing::Level::INFO).then_some(Self(Way::Log))
    }

    /// Hands a letter over to the server.
    ///
    /// # Errors
    /// [`SendError`]. After [`SendError::Trouble`] the server may have it all the same.
    pub async fn send(&self, letter: &Letter) -> Result<(), SendError> {
        let Way::Server { settings, turns } = &self.0 else {
            tracing::info!(target: LOG, to = %letter.to, subject = %letter.subject, "{}", letter.text);
            return Ok(());
        };
        let message = settings.message(letter)?;
        let _turn = turns.acquire().await.map_err(|_| trouble("closing"))?;
        let sent = timeout(settings.timeout, async {
            let transport = settings.transport().await?;
            transport.send(message).await.map_err(|error| fault(&error))
        });
        sent.await.map_err(|_| trouble("no answer from the mail server in time"))?.map(drop)
    }
}

impl MailerSettings {
    fn message(&self, letter: &Letter) -> Result<Message, SendError> {
        let to = letter.to.parse().map_err(|_| SendError::Address)?;
        let domain = self.from.email.domain();
        let automatic = HeaderName::new_from_ascii_str("Auto-Submitted");
        Message::builder()
            .from(self.from.clone())
            .to(Mailbox::new(None, to))
            .subject(&letter.subject)
            .message_id(Some(format!("<{}@{domain}>", letter.id)))
            .raw_header(HeaderValue::new(automatic, "auto-generated".to_owned()))
            .multipart(MultiPart::alternative_plain_html(letter.text.clone(), letter.html.clone()))
            .map_err(|_| SendError::Address)
    }

    /// To an address that was looked at: the name is resolved once, and its certificate is checked by name.
    async fn transport(&self) -> Result<AsyncSmtpTransport<Tokio1Executor>, SendError> {
        let Self { server, local, timeout, .. } = self;
        let found = tokio::net::lookup_host((server.host.as_str(), server.port)).await;
        let found: Vec<SocketAddr> = found.map_err(|_| trouble("the mail server's name is not known"))?.collect();
        let reachable = found.iter().find(|address| !is_local(address.ip()) || local(address.ip()));
        let Some(address) = reachable else {
            return Err(trouble("the mail server is on this machine, which mail.allowed_networks does not allow"));
        };
        let parameters = || {
            let parameters = TlsParameters::builder(server.host.clone());
            let parameters = match &server.authorities {
                Some(named) => parameters.certificate_store(CertificateStore::None).add_root_certificate(named.clone()),
                None => parameters,
            };
            parameters.build().map_err(|error| fault(&error))
        };
        let tls = match server.security {
            Security::Tls => Tls::Wrapper(parameters()?),
            Security::StartTls => Tls::Required(parameters()?),
            // Between two processes of one machine nobody listens; elsewhere it has to be asked for.
            Security::LocalOnly if address.ip().is_loopback() => Tls::None,
            Security::LocalOnly => Tls::Required(parameters()?),
            Security::None => Tls::None,
        };
        let builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(address.ip().to_string())
            .port(address.port())
            .tls(tls)
            .timeout(Some(*timeout));
        Ok(match server.credentials() {
            Some(credentials) => builder.credentials(credentials).build(),
            None => builder.build(),
        })
    }
}

fn is_local(ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    let link_local = match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    ip.is_loopback() || ip.is_unspecified() || link_local
}

fn trouble(said: impl Into<String>) -> SendError {
    SendError::Trouble(said.into())
}

/// In words of our own: what a server says may repeat what it was told.
fn fault(error: &lettre::transport::smtp::Error) -> SendError {
    match error.status().map(u16::from) {
        Some(code)
            if NEVER.contains(&code)
                && is_of_the_recipient(&error.source().map(ToString::to_string).unwrap_or_default()) =>
        {
            SendError::Refused(code)
        }
        Some(code) => trouble(format!("the mail server answered {code}")),
        None if error.is_timeout() => trouble("no answer from the mail server in time"),
        None if is_tls(error) => trouble("no TLS with the mail server"),
        None if error.is_client() => {
            trouble("the mail server lacks what is asked of it: STARTTLS, or a way to sign in")
        }
        None => trouble("the mail server does not answer"),
    }
}

/// Whether what a server said is about the address that a letter is for, by its enhanced status code (RFC 3463): the sender's
/// address and system are 5.1.7 and 5.1.8, policies 5.7. Without one it is taken for that.
fn is_of_the_recipient(said: &str) -> bool {
    let mut code = said.split_whitespace().next().unwrap_or_default().split('.');
    let mut number = || code.next().and_then(|part| part.parse::<u16>().ok());
    match (number(), number(), number()) {
        (Some(5), Some(1), Some(7 | 8)) => false,
        (Some(5), Some(subject), Some(_)) => matches!(subject, 1 | 2),
        _ => true,
    }
}

/// Whether it failed at TLS, which the library tells by the trouble with its bytes alone.
fn is_tls(error: &lettre::transport::smtp::Error) -> bool {
    let is_garbled = |cause: &(dyn Error + 'static)| {
        cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::InvalidData)
    };
    error.is_tls() || iter::successors(error.source(), |cause| (*cause).source()).any(is_garbled)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(allowed: bool) -> MailerSettings {
        MailerSettings {
            server: SmtpServer::parse("smtp://127.0.0.1:1").unwrap(),
            from: sender("Tenantry <no-reply@example.com>").unwrap(),
            timeout: Duration::from_secs(5),
            local: Arc::new(move |_| allowed),
        }
    }

    #[test]
    fn a_server_that_refuses_the_sender_says_nothing_of_the_recipient() {
        for said in
            ["5.1.1 no such user", "5.1.10 null MX", "5.2.1 closed", "No such user", "", "5 users", "1.2.3.4 unknown"]
        {
            assert!(is_of_the_recipient(said), "{said}");
        }
        for said in
            ["5.7.1 Sender address rejected: not owned by user", "5.1.8 unknown domain", "5.7.60 no", "5.1.7 bad"]
        {
            assert!(!is_of_the_recipient(said), "{said}");
        }
    }

    fn mailer(allowed: bool) -> Mailer {
        Mailer::new(settings(allowed))
    }

    fn letter(to: &str) -> Letter {
        let (subject, text, html) = ("Grüße".into(), "Text".into(), "<p>Text</p>".into());
        Letter { id: "01890000".into(), to: to.into(), subject, text, html }
    }

    #[test]
    fn a_letter_has_both_forms_and_an_identity_of_its_own() {
        let message = settings(true).message(&letter("grace@example.org")).unwrap();
        let text = String::from_utf8(message.formatted()).unwrap();
        for part in [
            "Message-ID: <01890000@example.com>",
            "Auto-Submitted: auto-generated",
            "To: grace@example.org",
            "multipart/alternative",
            "text/plain",
            "text/html",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(matches!(settings(true).message(&letter("grace@ex ample")), Err(SendError::Address)));
        let cunning = letter("grace@example.org\r\nBcc: eve@example.org");
        assert!(matches!(settings(true).message(&cunning), Err(SendError::Address)));
        let subject = Letter { subject: "a\r\nBcc: eve@example.org".into(), ..letter("grace@example.org") };
        let text = String::from_utf8(settings(true).message(&subject).unwrap().formatted()).unwrap();
        assert!(!text.contains("\r\nBcc:"), "{text}");
    }

    #[tokio::test]
    async fn this_machine_has_to_be_allowed() {
        let refused = mailer(false).send(&letter("grace@example.org")).await.unwrap_err();
        assert!(refused.to_string().contains("mail.allowed_networks"), "{refused}");
        let refused = mailer(true).send(&letter("grace@example.org")).await.unwrap_err();
        assert!(!refused.to_string().contains("mail.allowed_networks"), "{refused}");
        for ip in ["127.0.0.1", "::1", "0.0.0.0", "::ffff:127.0.0.1", "169.254.169.254", "fe80::1"] {
            assert!(is_local(ip.parse().unwrap()), "{ip}");
        }
        assert!(!is_local("10.0.0.5".parse().unwrap()) && !is_local("2001:db8::1".parse().unwrap()));
    }
}
