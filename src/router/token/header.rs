//! A token's header, read before anything of it is believed: its `typ`, its algorithm, and whose key its `kid` names.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use serde::Deserialize;
use uuid::Uuid;

use super::keys::KeyAlgorithm;
use crate::kernel::crypto::MacKey;
use crate::kernel::{SigningKeyId, TenantId};
use crate::router::error::{Error, Result};

const MAC_LEN: usize = 8;
/// The longest token that is looked at, in bytes.
pub const MAX_TOKEN_LEN: usize = 4096;

/// A `kid`: tenant, key, and a MAC under the installation's key, so that an invented one costs no look-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyId {
    /// The tenant whose key it is.
    pub tenant: TenantId,
    /// The key.
    pub key: SigningKeyId,
}

impl KeyId {
    fn tag(self, mac: &MacKey) -> [u8; 32] {
        mac.digest("kid", &[self.tenant.uuid().as_bytes(), self.key.uuid().as_bytes()])
    }

    /// The text that stands in the token's header and in the JWKS.
    #[must_use]
    pub fn encode(self, mac: &MacKey) -> String {
        let mut bytes = Vec::with_capacity(32 + MAC_LEN);
        bytes.extend_from_slice(self.tenant.uuid().as_bytes());
        bytes.extend_from_slice(self.key.uuid().as_bytes());
        bytes.extend_from_slice(&self.tag(mac)[..MAC_LEN]);
        BASE64URL.encode(bytes)
    }

    /// Reads a `kid` that this installation made. `None` for any other text.
    #[must_use]
    pub fn decode(mac: &MacKey, text: &str) -> Option<Self> {
        let bytes: [u8; 32 + MAC_LEN] = BASE64URL.decode(text).ok()?.try_into().ok()?;
        let id = Self {
            tenant: Uuid::from_slice(&bytes[..16]).ok()?.into(),
            key: Uuid::from_slice(&bytes[16..32]).ok()?.into(),
        };
        mac.verify("kid", &[id.tenant.uuid().as_bytes(), id.key.uuid().as_bytes()], &bytes[32..]).then_some(id)
    }
}

/// The only header members that a token may have: no `jwk`, `jku`, `x5u`, `crit`, `b64` or `zip` is ever followed.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StrictHeader {
    alg: String,
    typ: String,
    kid: String,
}

/// Reads a token's header before anything of it is believed, and gives its `kid`.
///
/// # Errors
/// [`Error::TokenInvalid`] unless it is short enough, three parts, EdDSA or ES256, of this `typ`, with no further members.
pub fn strict_kid(token: &str, typ: impl Into<Option<&'static str>>) -> Result<String> {
    if token.len() > MAX_TOKEN_LEN {
        return Err(Error::TokenInvalid("oversize"));
    }
    let mut parts = token.split('.');
    let (Some(header), Some(_), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return Err(Error::TokenInvalid("shape"));
    };
    let header = BASE64URL.decode(header).map_err(|_| Error::TokenInvalid("header encoding"))?;
    let header: StrictHeader = serde_json::from_slice(&header).map_err(|_| Error::TokenInvalid("header members"))?;
    if header.alg.parse::<KeyAlgorithm>().is_err() {
        return Err(Error::TokenInvalid("alg"));
    }
    if typ.into().is_some_and(|typ| header.typ != typ) {
        return Err(Error::TokenInvalid("typ"));
    }
    Ok(header.kid)
}
