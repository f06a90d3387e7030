//! Where a customer's own database is, as a body says it: what the command line takes in files, here as text. No path of
//! this server's disk is taken.

use secrecy::SecretString;

use crate::error::{ApiError, ApiResult};
use crate::router::{Target, TlsMode};

/// The members of a body that say where a database is.
pub(super) struct Address {
    /// `databaseUrl`.
    pub(super) url: SecretString,
    /// `directUrl`.
    pub(super) direct_url: Option<SecretString>,
    /// The rest.
    pub(super) tls: Tls,
}

/// Those that go with a URL.
pub(super) struct Tls {
    /// `tlsMode`.
    pub(super) mode: Option<TlsMode>,
    /// `ca`.
    pub(super) ca: Option<String>,
    /// `clientCert`.
    pub(super) client_cert: Option<String>,
    /// `clientKey`.
    pub(super) client_key: Option<SecretString>,
}

impl Tls {
    /// Whether nothing is said.
    pub(super) fn is_unsaid(&self) -> bool {
        self.mode.is_none() && self.ca.is_none() && self.client_cert.is_none() && self.client_key.is_none()
    }
}

impl Address {
    /// The database as requests reach it, and as its own server does; the registry has one TLS mode for both.
    ///
    /// # Errors
    /// 422 that names the field, and repeats none of it.
    pub(super) fn read(self) -> ApiResult<(Target, Option<Target>)> {
        let Self { url, direct_url, tls } = self;
        let lacking = match (&tls.client_cert, &tls.client_key) {
            (Some(_), None) => Some("clientKey"),
            (None, Some(_)) => Some("clientCert"),
            _ => None,
        };
        if let Some(field) = lacking {
            return Err(ApiError::invalid_field(field, "required", "A client certificate and its key go together."));
        }
        let pooled = target("databaseUrl", &url, &tls)?;
        let direct = direct_url.map(|url| target("directUrl", &url, &tls)).transpose()?;
        if let Some(other) = direct.as_ref().map(|direct| direct.tls.mode).filter(|mode| *mode != pooled.tls.mode) {
            let said = format!(
                "The two URLs ask for different TLS modes, '{}' and '{other}'. Write the same sslmode into both, or into \
                 none of them.",
                pooled.tls.mode
            );
            return Err(ApiError::invalid_field("directUrl", "differs", said));
        }
        Ok((pooled, direct))
    }
}

fn target(field: &'static str, url: &SecretString, tls: &Tls) -> ApiResult<Target> {
    let mut target = Target::parse_named(url, tls.mode)
        .map_err(|fault| ApiError::invalid_field(field, "invalid", fault.to_string()))?;
    if target.host.starts_with('/') {
        let said =
            "The directory of a socket is a place on this server's disk. Name the database's server by its host.";
        return Err(ApiError::invalid_field(field, "invalid", said));
    }
    target.tls.ca.clone_from(&tls.ca);
    target.tls.client_cert.clone_from(&tls.client_cert);
    target.tls.client_key.clone_from(&tls.client_key);
    Ok(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unsaid() -> Tls {
        Tls { mode: None, ca: None, client_cert: None, client_key: None }
    }

    fn read(url: &str, direct: Option<&str>, tls: Tls) -> Result<(Target, Option<Target>), (String, String)> {
        let address = Address { url: url.to_owned().into(), direct_url: direct.map(|url| url.to_owned().into()), tls };
        address.read().map_err(|error| {
            let fault = &error.fields()[0];
            assert!(!fault.message.contains("hunter2"), "{}", fault.message);
            (fault.field.clone(), fault.code.to_string())
        })
    }

    fn at(field: &str, code: &str) -> Option<(String, String)> {
        Some((field.to_owned(), code.to_owned()))
    }

    #[test]
    fn an_address_has_the_tls_that_is_said_beside_it() {
        let tls = Tls {
            mode: Some(TlsMode::VerifyCa),
            ca: Some("a CA".into()),
            client_cert: Some("a certificate".into()),
            client_key: Some("its key".to_owned().into()),
        };
        assert!(unsaid().is_unsaid() && !tls.is_unsaid());
        let (pooled, direct) = read("postgres://u:p@pool/d", Some("postgres://u:p@db/d"), tls).expect("both");
        let direct = direct.expect("the server's own");
        assert_eq!((&*pooled.host, &*direct.host), ("pool", "db"));
        for target in [pooled, direct] {
            assert_eq!((target.tls.mode, target.tls.ca.as_deref()), (TlsMode::VerifyCa, Some("a CA")));
            assert!(target.tls.client_cert.is_some() && target.tls.client_key.is_some());
        }
        let (unsaid, direct) = read("postgres://u:p@db/d", None, unsaid()).expect("one");
        assert!(unsaid.tls.mode == TlsMode::VerifyFull && direct.is_none());
    }

    #[test]
    fn what_is_no_address_of_a_server_names_its_field() {
        let good = "postgres://u:hunter2@db/d";
        assert_eq!(read("mysql://u:hunter2@db/d", None, unsaid()).err(), at("databaseUrl", "invalid"));
        assert_eq!(read(good, Some("hunter2"), unsaid()).err(), at("directUrl", "invalid"));
        for socket in ["postgres://u:hunter2@%2Frun%2Fpostgresql/d", "postgres://u:hunter2@db/d?host=/run/postgresql"] {
            assert_eq!(read(socket, None, unsaid()).err(), at("databaseUrl", "invalid"));
            assert_eq!(read(good, Some(socket), unsaid()).err(), at("directUrl", "invalid"));
        }
        let other = format!("{good}?sslmode=require");
        assert_eq!(read(good, Some(&other), unsaid()).err(), at("directUrl", "differs"));
        let alone = Tls { client_cert: Some("a certificate".into()), ..unsaid() };
        assert_eq!(read(good, None, alone).err(), at("clientKey", "required"));
        let alone = Tls { client_key: Some("its key".to_owned().into()), ..unsaid() };
        assert_eq!(read(good, None, alone).err(), at("clientCert", "required"));
    }
}
