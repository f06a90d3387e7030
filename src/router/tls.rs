//! TLS towards a PostgreSQL server: a policy of the registry, kept by our own connector.

use std::error::Error as StdError;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, LazyLock, OnceLock};
use std::time::Duration;

use moka::sync::Cache;
use openssl::error::ErrorStack;
use openssl::pkey::PKey;
use openssl::ssl::{SslConnector, SslMethod, SslVerifyMode};
use openssl::x509::X509;
use postgres_openssl::{MakeTlsConnector, TlsConnector};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use tokio_postgres::tls::MakeTlsConnect;
use zeroize::Zeroizing;

use super::socket::Socket;
use super::tenant::words;
use crate::kernel::crypto::sha256;

/// Where systems keep the authorities that they trust; the OpenSSL inside of us knows of none of them.
const BUNDLES: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// The file with the authorities that this machine trusts, if there is one.
pub(crate) fn system_authorities() -> Option<&'static Path> {
    BUNDLES.iter().map(Path::new).find(|path| path.exists())
}

/// Why a policy cannot be kept.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error(transparent)]
    OpenSsl(#[from] ErrorStack),
    #[error("the authorities that this machine trusts cannot be read from {}", path.display())]
    Authorities { path: &'static Path, source: Box<dyn StdError + Send + Sync> },
}

/// Those in it, read once; none where there is no such file: then nobody proves anything.
fn trusted() -> Result<&'static [X509], Fault> {
    static TRUSTED: OnceLock<Vec<X509>> = OnceLock::new();
    if let Some(known) = TRUSTED.get() {
        return Ok(known);
    }
    let Some(path) = system_authorities() else { return Ok(&[]) };
    let fault = |source| Fault::Authorities { path, source };
    let pem = std::fs::read(path).map_err(|error| fault(error.into()))?;
    let read = X509::stack_from_pem(&pem).map_err(|error| fault(error.into()))?;
    Ok(TRUSTED.get_or_init(|| read))
}

/// Policies whose connectors are kept, and for how long after a connection was last opened with one.
const CONNECTORS_KEPT: u64 = 1_000;
const CONNECTOR_KEPT_FOR: Duration = Duration::from_secs(600);

words! {
    /// How far a server has to prove who it is.
    TlsMode {
        /// Plain text. For loopback and private networks only.
        Disable = "disable",
        /// Encrypted, whoever answers.
        Require = "require",
        /// The certificate comes from the CA.
        VerifyCa = "verify-ca",
        /// … and names the host we asked for. The default for attached databases.
        VerifyFull = "verify-full",
    }
}

/// TLS towards one server. The registry keeps it; nothing is taken from the environment.
#[derive(Clone, Serialize, Deserialize)]
pub struct TlsPolicy {
    /// What the server has to prove.
    pub mode: TlsMode,
    /// PEM of the CAs to trust; the system's when absent.
    pub ca: Option<String>,
    /// PEM of our client certificate chain.
    pub client_cert: Option<String>,
    /// PEM of its private key.
    #[serde(skip)]
    pub client_key: Option<SecretString>,
}

impl TlsPolicy {
    /// A mode without certificates of its own.
    #[must_use]
    pub const fn mode(mode: TlsMode) -> Self {
        Self { mode, ca: None, client_cert: None, client_key: None }
    }

    fn connector(&self) -> Result<SslConnector, Fault> {
        let mut builder = SslConnector::builder(SslMethod::tls_client())?;
        let verify = match self.mode {
            TlsMode::Disable | TlsMode::Require => SslVerifyMode::NONE,
            TlsMode::VerifyCa | TlsMode::VerifyFull => SslVerifyMode::PEER,
        };
        if let Some(ca) = &self.ca {
            let mut store = openssl::x509::store::X509StoreBuilder::new()?;
            for certificate in X509::stack_from_pem(ca.as_bytes())? {
                store.add_cert(certificate)?;
            }
            builder.set_cert_store(store.build());
        } else if verify == SslVerifyMode::PEER {
            for certificate in trusted()? {
                builder.cert_store_mut().add_cert(certificate.clone())?;
            }
        }
        if let (Some(chain), Some(key)) = (&self.client_cert, &self.client_key) {
            let mut chain = X509::stack_from_pem(chain.as_bytes())?.into_iter();
            if let Some(leaf) = chain.next() {
                builder.set_certificate(&leaf)?;
            }
            for intermediate in chain {
                builder.add_extra_chain_cert(intermediate)?;
            }
            builder.set_private_key(&*PKey::private_key_from_pem(key.expose_secret().as_bytes())?)?;
            builder.check_private_key()?;
        }
        builder.set_verify(verify);
        Ok(builder.build())
    }

    /// The connector of this policy, made once for all connections that are opened with it: what it trusts is not read anew
    /// for each.
    fn shared_connector(&self) -> Result<SslConnector, Arc<Fault>> {
        static CONNECTORS: LazyLock<Cache<[u8; 32], SslConnector>> =
            LazyLock::new(|| Cache::builder().max_capacity(CONNECTORS_KEPT).time_to_idle(CONNECTOR_KEPT_FOR).build());
        CONNECTORS.try_get_with(self.fingerprint(), || self.connector())
    }

    /// The same for equal policies alone.
    fn fingerprint(&self) -> [u8; 32] {
        let key = self.client_key.as_ref().map(ExposeSecret::expose_secret);
        let mut bytes = Zeroizing::new(Vec::new());
        for part in [Some(self.mode.as_str()), self.ca.as_deref(), self.client_cert.as_deref(), key] {
            let length = part.map_or(u64::MAX, |part| part.len() as u64);
            bytes.extend_from_slice(&length.to_be_bytes());
            bytes.extend_from_slice(part.unwrap_or_default().as_bytes());
        }
        sha256(&bytes)
    }

    pub(super) fn make(&self, host: &str) -> Result<TlsConnector, Box<dyn StdError + Send + Sync>> {
        let mut make = MakeTlsConnector::new(self.shared_connector()?);
        let verify_host = self.mode == TlsMode::VerifyFull;
        make.set_callback(move |config, _| {
            config.set_verify_hostname(verify_host);
            Ok(())
        });
        Ok(<MakeTlsConnector as MakeTlsConnect<Socket>>::make_tls_connect(&mut make, host)?)
    }
}

impl fmt::Debug for TlsPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TlsPolicy({}, ca: {}, client: {})", self.mode, self.ca.is_some(), self.client_cert.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many authorities a connection with this policy believes.
    fn believes(policy: &TlsPolicy) -> usize {
        policy.connector().unwrap().context().cert_store().all_certificates().len()
    }

    #[test]
    fn without_authorities_of_its_own_a_policy_has_the_system_s() {
        for mode in [TlsMode::VerifyCa, TlsMode::VerifyFull] {
            assert!(believes(&TlsPolicy::mode(mode)) > 0 || trusted().unwrap().is_empty(), "{mode}");
        }
        assert_eq!(system_authorities().is_some(), !trusted().unwrap().is_empty(), "what is there can be read");
    }

    #[test]
    fn equal_policies_alone_share_a_connector() {
        let with = |mode, ca: Option<&str>, client_cert: Option<&str>, key: Option<&str>| TlsPolicy {
            mode,
            ca: ca.map(Into::into),
            client_cert: client_cert.map(Into::into),
            client_key: key.map(Into::into),
        };
        let policies = [
            with(TlsMode::VerifyCa, None, None, None),
            with(TlsMode::VerifyFull, None, None, None),
            with(TlsMode::VerifyFull, Some(""), None, None),
            with(TlsMode::VerifyFull, Some("ab"), Some("c"), None),
            with(TlsMode::VerifyFull, Some("a"), Some("bc"), None),
            with(TlsMode::VerifyFull, Some("a"), Some("bc"), Some("d")),
            with(TlsMode::VerifyFull, Some("a"), Some("bc"), Some("e")),
        ];
        for (at, one) in policies.iter().enumerate() {
            for (beside, other) in policies.iter().enumerate() {
                assert_eq!(one.fingerprint() == other.clone().fingerprint(), at == beside, "{at} and {beside}");
            }
        }
        let context = |policy: &TlsPolicy| std::ptr::from_ref(policy.shared_connector().unwrap().context());
        assert_eq!(context(&policies[1]), context(&policies[1].clone()));
        assert_ne!(context(&policies[0]), context(&policies[1]));
    }
}
