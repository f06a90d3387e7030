//! Access tokens as an attacker makes them, with the tenant's own key in hand where that helps.

use aws_lc_rs::signature::Ed25519KeyPair;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use serde_json::{Value, json};
use tenantry::kernel::crypto::{Place, Sealed};
use tenantry::testing::{Tenant, TestApp};

use super::{db, unhex};

/// A tenant's signing key, and a token of a session that stands.
pub(crate) struct Forge {
    /// The token as the login gave it.
    pub(crate) token: String,
    pub(crate) kid: String,
    /// The raw public key.
    pub(crate) public: Vec<u8>,
    pair: Ed25519KeyPair,
    header: Value,
    claims: Value,
}

/// The JSON of one part of a token.
pub(crate) fn part(token: &str, at: usize) -> Value {
    let text = token.split('.').nth(at).expect("three parts");
    serde_json::from_slice(&BASE64URL.decode(text).expect("base64url")).expect("JSON")
}

/// Base64url of a text.
pub(crate) fn encode(text: &str) -> String {
    BASE64URL.encode(text)
}

impl Forge {
    /// Takes the tenant's key out of the control plane (with the master key), and a token of its administrator.
    pub(crate) async fn of(app: &TestApp, tenant: &Tenant) -> Self {
        let row = db::word(
            app.control_database(),
            &format!(
                "SELECT id || ' ' || encode(private_sealed, 'hex') || ' ' || encode(public, 'hex') AS word \
                 FROM signing_keys WHERE tenant_id = '{}'",
                tenant.id
            ),
        )
        .await;
        let mut columns = row.split(' ');
        let id = columns.next().and_then(|id| id.parse().ok()).expect("a key's id");
        let sealed = Sealed::from(unhex(columns.next().expect("a sealed key")));
        let public = unhex(columns.next().expect("a public key"));
        let place = Place::new("signing_keys", "private_sealed", id);
        let private = app.control().keys.open(place, &sealed).expect("our own master key opens it");
        let pair = Ed25519KeyPair::from_pkcs8(&private).expect("an Ed25519 key");
        let token = tenant.admin().token().await;
        let header = part(&token, 0);
        let kid = header["kid"].as_str().expect("a kid").to_owned();
        Self { kid, public, pair, claims: part(&token, 1), header, token }
    }

    /// The header of a good token.
    pub(crate) fn header(&self) -> Value {
        self.header.clone()
    }

    /// The claims of a good token.
    pub(crate) fn claims(&self) -> Value {
        self.claims.clone()
    }

    /// A good token's header with one member set, or taken out by `null`.
    pub(crate) fn header_with(&self, name: &str, value: Value) -> Value {
        with(self.header(), name, value)
    }

    /// A good token's claims with one member set, or taken out by `null`.
    pub(crate) fn claims_with(&self, name: &str, value: Value) -> Value {
        with(self.claims(), name, value)
    }

    /// Signs any two texts with the tenant's key.
    pub(crate) fn sign_text(&self, header: &str, claims: &str) -> String {
        let input = format!("{}.{}", encode(header), encode(claims));
        let signature = self.pair.sign(input.as_bytes());
        format!("{input}.{}", BASE64URL.encode(signature.as_ref()))
    }

    /// Signs with the tenant's key.
    pub(crate) fn sign(&self, header: &Value, claims: &Value) -> String {
        self.sign_text(&header.to_string(), &claims.to_string())
    }

    /// A good header, these claims.
    pub(crate) fn claiming(&self, claims: &Value) -> String {
        self.sign(&self.header, claims)
    }

    /// Good claims, this header.
    pub(crate) fn under(&self, header: &Value) -> String {
        self.sign(header, &self.claims)
    }

    /// A good token that ran out a minute ago.
    pub(crate) fn expired(&self) -> String {
        let iat = self.claims["iat"].as_i64().expect("iat");
        let mut claims = self.claims_with("exp", json!(iat - 60));
        claims["iat"] = json!(iat - 120);
        self.claiming(&claims)
    }
}

fn with(mut object: Value, name: &str, value: Value) -> Value {
    let members = object.as_object_mut().expect("an object");
    if value.is_null() {
        members.remove(name);
    } else {
        members.insert(name.to_owned(), value);
    }
    object
}
