//! Access tokens as an attacker makes them, with the tenant's own key in hand where that helps.

use std::fmt;

use aws_lc_rs::signature::Ed25519KeyPair;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use serde_json::{Value, json};

/// A tenant's signing key, and a token of a session that stands.
pub struct Forge {
    /// The token as the login gave it.
    pub token: String,
    /// The key's name in the token's header.
    pub kid: String,
    /// The raw public key.
    pub public: Vec<u8>,
    pair: Ed25519KeyPair,
    header: Value,
    claims: Value,
}

impl fmt::Debug for Forge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Forge({})", self.kid)
    }
}

/// The JSON of one part of a token; null if it is none.
#[must_use]
pub fn part(token: &str, at: usize) -> Value {
    let bytes = token.split('.').nth(at).and_then(|text| BASE64URL.decode(text).ok());
    bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

/// Base64url of a text.
#[must_use]
pub fn encode(text: &str) -> String {
    BASE64URL.encode(text)
}

impl Forge {
    /// From the key's PKCS #8 form, its public half and a token of the tenant's. `None` unless these are an Ed25519 key
    /// and a token as this release makes them, three parts with every claim.
    #[must_use]
    pub fn new(pkcs8: &[u8], public: Vec<u8>, token: String) -> Option<Self> {
        let pair = Ed25519KeyPair::from_pkcs8(pkcs8).ok()?;
        let (header, claims) = (part(&token, 0), part(&token, 1));
        let kid = header["kid"].as_str()?.to_owned();
        let whole = ["tid", "iss", "aud", "sub", "sid"].iter().all(|name| claims[*name].is_string())
            && ["iat", "exp"].iter().all(|name| claims[*name].is_i64())
            && token.split('.').count() == 3;
        whole.then_some(Self { token, kid, public, pair, header, claims })
    }

    /// The header of a good token.
    #[must_use]
    pub fn header(&self) -> Value {
        self.header.clone()
    }

    /// The claims of a good token.
    #[must_use]
    pub fn claims(&self) -> Value {
        self.claims.clone()
    }

    /// A good token's header with one member set, or taken out by `null`.
    #[must_use]
    pub fn header_with(&self, name: &str, value: Value) -> Value {
        with(self.header(), name, value)
    }

    /// A good token's claims with one member set, or taken out by `null`.
    #[must_use]
    pub fn claims_with(&self, name: &str, value: Value) -> Value {
        with(self.claims(), name, value)
    }

    /// Signs any two texts with the tenant's key.
    #[must_use]
    pub fn sign_text(&self, header: &str, claims: &str) -> String {
        let input = format!("{}.{}", encode(header), encode(claims));
        let signature = self.pair.sign(input.as_bytes());
        format!("{input}.{}", BASE64URL.encode(signature.as_ref()))
    }

    /// Signs with the tenant's key.
    #[must_use]
    pub fn sign(&self, header: &Value, claims: &Value) -> String {
        self.sign_text(&header.to_string(), &claims.to_string())
    }

    /// A good header, these claims.
    #[must_use]
    pub fn claiming(&self, claims: &Value) -> String {
        self.sign(&self.header, claims)
    }

    /// Good claims, this header.
    #[must_use]
    pub fn under(&self, header: &Value) -> String {
        self.sign(header, &self.claims)
    }

    /// A good token that ran out a minute ago.
    #[must_use]
    pub fn expired(&self) -> String {
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
