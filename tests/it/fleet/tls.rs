//! TLS against a PostgreSQL with real certificates: every policy keeps what it promises.

use secrecy::SecretString;
use tenantry::router::{AdminConn, ConnectFailure, ConnectOptions, Target, TlsMode, TlsPolicy};

use crate::support::certificates::{Authority, Issued};
use crate::support::db;
use crate::support::servers::Server;

/// A server that speaks TLS alone, as `localhost`, and demands a client certificate of role `customer`.
pub(super) struct TlsServer {
    pub(super) server: Server,
    pub(super) authority: Authority,
    pub(super) client: Issued,
}

impl TlsServer {
    pub(super) async fn start() -> Self {
        let authority = Authority::new("Test authority");
        let issued = authority.server(&["localhost"]);
        let server = Server::start_with(|mut options| {
            options.settings = [
                ("ssl", "on"),
                ("ssl_cert_file", "server.crt"),
                ("ssl_key_file", "server.key"),
                ("ssl_ca_file", "ca.crt"),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
            options.files = vec![
                ("server.crt".into(), SecretString::from(issued.certificate)),
                ("server.key".into(), issued.key.into()),
                ("ca.crt".into(), authority.pem().into()),
            ];
            options.hba = vec![
                "hostssl all customer 127.0.0.1/32 scram-sha-256 clientcert=verify-full".into(),
                "hostnossl all customer 127.0.0.1/32 reject".into(),
            ];
            options
        })
        .await;
        db::execute(&server.target(), "CREATE ROLE customer LOGIN PASSWORD 'a customer''s password'").await;
        let client = authority.client("customer");
        Self { server, authority, client }
    }

    /// A database of the customer's own.
    pub(super) async fn database(&self, name: &str) {
        let admin = self.server.target();
        db::execute(&admin, &format!("CREATE DATABASE {name} OWNER customer TEMPLATE template0")).await;
    }

    /// The customer at a database of theirs, by host name, proving everything.
    pub(super) fn customer(&self, database: &str) -> Target {
        let tls = TlsPolicy {
            mode: TlsMode::VerifyFull,
            ca: Some(self.authority.pem()),
            client_cert: Some(self.client.certificate.clone()),
            client_key: Some(self.client.key.clone().into()),
        };
        let admin = self.server.target();
        Target {
            host: "localhost".into(),
            port: admin.port,
            database: database.into(),
            user: "customer".into(),
            password: "a customer's password".into(),
            tls,
        }
    }
}

async fn open(target: &Target) -> Result<AdminConn, ConnectFailure> {
    AdminConn::open(target, &ConnectOptions::default()).await.map_err(|error| error.kind)
}

#[actix_web::test]
async fn verify_full_accepts_the_right_server_alone() {
    let tls = TlsServer::start().await;
    let right = tls.customer("postgres");
    let mut conn = open(&right).await.expect("the right one");
    let encrypted = "SELECT ssl::text AS word FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    assert_eq!(db::words_on(&mut conn, encrypted).await, ["true"]);

    let with = |change: &dyn Fn(&mut Target)| {
        let mut target = right.clone();
        change(&mut target);
        target
    };
    let other = Authority::new("Another authority");
    let forged = other.client("customer");
    let somebody = tls.authority.client("somebody");
    // The certificate names `localhost`: the same server under another name is somebody else.
    let wrong_name = with(&|target| target.host = "127.0.0.1".into());
    assert_eq!(open(&wrong_name).await.err(), Some(ConnectFailure::Tls), "another host name");
    let wrong_ca = with(&|target| target.tls.ca = Some(other.pem()));
    assert_eq!(open(&wrong_ca).await.err(), Some(ConnectFailure::Tls), "another authority");
    let system_ca = with(&|target| target.tls.ca = None);
    assert_eq!(open(&system_ca).await.err(), Some(ConnectFailure::Tls), "the system's authorities");
    let refused = [
        ("no client certificate", with(&|t| (t.tls.client_cert, t.tls.client_key) = (None, None))),
        (
            "somebody else's client certificate",
            with(&|t| {
                t.tls.client_cert = Some(somebody.certificate.clone());
                t.tls.client_key = Some(somebody.key.clone().into());
            }),
        ),
        (
            "a client certificate of another authority",
            with(&|t| {
                t.tls.client_cert = Some(forged.certificate.clone());
                t.tls.client_key = Some(forged.key.clone().into());
            }),
        ),
        ("a wrong password", with(&|t| t.password = "wrong".into())),
        ("no TLS", with(&|t| t.tls = TlsPolicy::mode(TlsMode::Disable))),
    ];
    for (what, target) in refused {
        assert!(open(&target).await.is_err(), "{what}");
    }
    // Each weaker mode gives up what its name says, and no more.
    let mode = |mode: TlsMode, ca: Option<String>, host: &str| {
        with(&|t| {
            t.tls.mode = mode;
            t.tls.ca = ca.clone();
            t.host = host.into();
        })
    };
    open(&mode(TlsMode::VerifyCa, Some(tls.authority.pem()), "127.0.0.1"))
        .await
        .expect("verify-ca does not look at the name");
    assert!(
        open(&mode(TlsMode::VerifyCa, Some(other.pem()), "localhost")).await.is_err(),
        "verify-ca looks at the authority"
    );
    open(&mode(TlsMode::Require, None, "127.0.0.1")).await.expect("require only encrypts");
}

/// A server without TLS is not taken for one with it.
#[actix_web::test]
async fn tls_is_never_given_up_quietly() {
    let plain = tenantry::testing::TestCluster::get().await.admin();
    for mode in [TlsMode::Require, TlsMode::VerifyCa, TlsMode::VerifyFull] {
        let target = Target { tls: TlsPolicy::mode(mode), ..plain.clone() };
        assert_eq!(open(&target).await.err(), Some(ConnectFailure::Tls), "{mode}");
    }
}
