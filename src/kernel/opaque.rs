//! Opaque bearer tokens: `<kind>_<routing part><secret><checksum>`, base64url.
//!
//! The routing part is the tenant's id with a MAC under the installation's key, so that a forged token is refused
//! before any database is touched. The checksum lets a secret scanner recognise one. Only the hash is ever stored.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use secrecy::{ExposeSecret, SecretString};
use uuid::Uuid;

use super::crypto::{MacKey, random, sha256};
use super::ids::TenantId;

const MAC_LEN: usize = 8;
const SECRET_LEN: usize = 32;
const CHECK_LEN: usize = 4;
const LEN: usize = 16 + MAC_LEN + SECRET_LEN + CHECK_LEN;

/// What a token is for. A token of one kind is never taken for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenKind {
    /// Exchanged for the next access token.
    Refresh,
    /// Lets an invited person choose a password.
    Invitation,
    /// The second half of a login.
    SecondFactor,
    /// A program's key.
    ApiKey,
    /// A device that is asked for no second factor.
    Device,
    /// Shows that somebody reads what is sent to their address.
    EmailVerification,
    /// Lets somebody who forgot their password choose another.
    PasswordReset,
    /// Agrees to another address.
    EmailChange,
    /// A sign-in that goes on at an identity provider.
    Federation,
    /// A directory's key (SCIM).
    Scim,
    /// An app's secret.
    OauthSecret,
    /// What an app asks a person for, until they answer.
    OauthRequest,
    /// Exchanged for an app's tokens.
    OauthCode,
    /// Exchanged for an app's next tokens.
    OauthRefresh,
}

impl TokenKind {
    const fn prefix(self) -> &'static str {
        match self {
            Self::Refresh => "trf",
            Self::Invitation => "tin",
            Self::SecondFactor => "tmf",
            Self::ApiKey => "tak",
            Self::Device => "tdv",
            Self::EmailVerification => "tev",
            Self::PasswordReset => "tpr",
            Self::EmailChange => "tec",
            Self::Federation => "tfs",
            Self::Scim => "tsc",
            Self::OauthSecret => "tos",
            Self::OauthRequest => "tor",
            Self::OauthCode => "toc",
            Self::OauthRefresh => "tof",
        }
    }
}

/// An opaque token whose routing part has been checked.
pub struct OpaqueToken {
    tenant: TenantId,
    secret: [u8; SECRET_LEN],
    text: SecretString,
}

impl fmt::Debug for OpaqueToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpaqueToken").field("tenant", &self.tenant).finish_non_exhaustive()
    }
}

impl OpaqueToken {
    /// A new token with a random secret of 256 bits.
    #[must_use]
    pub fn generate(key: &MacKey, kind: TokenKind, tenant: TenantId) -> Self {
        Self::build(key, kind, tenant, random())
    }

    /// The one successor of this token: whoever holds the key derives the same one again, so that a client whose
    /// answer was lost can ask twice without the successor being stored anywhere.
    #[must_use]
    pub fn successor(&self, key: &MacKey, kind: TokenKind) -> Self {
        let secret = key.digest("token-successor", &[kind.prefix().as_bytes(), &self.secret]);
        Self::build(key, kind, self.tenant, secret)
    }

    /// The one token of a thing that has an id nobody else has: made again whenever it is needed, and so kept nowhere.
    #[must_use]
    pub fn of(key: &MacKey, kind: TokenKind, tenant: TenantId, thing: Uuid) -> Self {
        let whose = tenant.uuid();
        let parts: [&[u8]; 3] = [kind.prefix().as_bytes(), whose.as_bytes(), thing.as_bytes()];
        Self::build(key, kind, tenant, key.digest("token-of", &parts))
    }

    fn build(key: &MacKey, kind: TokenKind, tenant: TenantId, secret: [u8; SECRET_LEN]) -> Self {
        let mut bytes = Vec::with_capacity(LEN);
        bytes.extend_from_slice(tenant.uuid().as_bytes());
        bytes.extend_from_slice(&mac(key, kind, tenant)[..MAC_LEN]);
        bytes.extend_from_slice(&secret);
        let check = sha256(&bytes);
        bytes.extend_from_slice(&check[..CHECK_LEN]);
        Self { tenant, secret, text: format!("{}_{}", kind.prefix(), BASE64URL.encode(bytes)).into() }
    }

    /// Reads a token of the given kind. `None` if it is of another kind, malformed, or its routing part is forged.
    #[must_use]
    pub fn parse(key: &MacKey, kind: TokenKind, text: &SecretString) -> Option<Self> {
        let body = text.expose_secret().strip_prefix(kind.prefix())?.strip_prefix('_')?;
        let bytes: [u8; LEN] = BASE64URL.decode(body).ok()?.try_into().ok()?;
        let (content, check) = bytes.split_at(LEN - CHECK_LEN);
        if sha256(content)[..CHECK_LEN] != *check {
            return None;
        }
        let tenant = TenantId::from(Uuid::from_slice(&content[..16]).ok()?);
        if !key.verify(
            "token-routing",
            &[kind.prefix().as_bytes(), tenant.uuid().as_bytes()],
            &content[16..16 + MAC_LEN],
        ) {
            return None;
        }
        let secret = content[16 + MAC_LEN..].try_into().ok()?;
        Some(Self { tenant, secret, text: text.clone() })
    }

    /// The tenant whose database knows this token.
    #[must_use]
    pub const fn tenant(&self) -> TenantId {
        self.tenant
    }

    /// What is stored: SHA-256 of the whole text. The secret has 256 bits, so a plain hash cannot be guessed back.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        sha256(self.text.expose_secret().as_bytes())
    }

    /// The text for the bearer.
    #[must_use]
    pub const fn text(&self) -> &SecretString {
        &self.text
    }
}

fn mac(key: &MacKey, kind: TokenKind, tenant: TenantId) -> [u8; 32] {
    key.digest("token-routing", &[kind.prefix().as_bytes(), tenant.uuid().as_bytes()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_and_forgeries() {
        let key = MacKey::new(&random::<32>());
        let tenant = TenantId::generate();
        let token = OpaqueToken::generate(&key, TokenKind::Refresh, tenant);
        let read = OpaqueToken::parse(&key, TokenKind::Refresh, token.text()).unwrap();
        assert_eq!((read.tenant(), read.hash()), (tenant, token.hash()));
        assert!(OpaqueToken::parse(&key, TokenKind::Invitation, token.text()).is_none());
        assert!(OpaqueToken::parse(&MacKey::new(&random::<32>()), TokenKind::Refresh, token.text()).is_none());

        let mut bytes = BASE64URL.decode(&token.text().expose_secret()[4..]).unwrap();
        bytes[0..16].copy_from_slice(TenantId::generate().uuid().as_bytes());
        let check = sha256(&bytes[..LEN - CHECK_LEN]);
        bytes[LEN - CHECK_LEN..].copy_from_slice(&check[..CHECK_LEN]);
        let forged = format!("trf_{}", BASE64URL.encode(bytes)).into();
        assert!(
            OpaqueToken::parse(&key, TokenKind::Refresh, &forged).is_none(),
            "another tenant's id, checksum mended"
        );
    }

    /// Each of 256 bits is set as often as not: half of a thousand, give or take twelve times what is usual.
    #[test]
    fn a_secret_has_256_random_bits() {
        let (key, tenant) = (MacKey::new(&random::<32>()), TenantId::generate());
        let mut set = [0_u32; SECRET_LEN * 8];
        let mut hashes = std::collections::HashSet::new();
        for _ in 0..1000 {
            let token = OpaqueToken::generate(&key, TokenKind::Refresh, tenant);
            set.iter_mut().enumerate().for_each(|(at, set)| *set += u32::from(token.secret[at / 8] >> (at % 8) & 1));
            hashes.insert(token.hash());
        }
        assert_eq!(hashes.len(), 1000);
        assert!(set.iter().all(|set| (310..=690).contains(set)), "{set:?}");
    }

    #[test]
    fn a_thing_s_token_is_its_own() {
        let (key, tenant, thing) = (MacKey::new(&random::<32>()), TenantId::generate(), Uuid::now_v7());
        let of = |kind, tenant, thing| OpaqueToken::of(&key, kind, tenant, thing).hash();
        let one = of(TokenKind::PasswordReset, tenant, thing);
        assert_eq!(one, of(TokenKind::PasswordReset, tenant, thing));
        assert_ne!(one, of(TokenKind::EmailVerification, tenant, thing));
        assert_ne!(one, of(TokenKind::PasswordReset, TenantId::generate(), thing));
        assert_ne!(one, of(TokenKind::PasswordReset, tenant, Uuid::now_v7()));
        assert_ne!(one, OpaqueToken::of(&MacKey::new(b"other"), TokenKind::PasswordReset, tenant, thing).hash());
    }

    #[test]
    fn successor_is_stable() {
        let key = MacKey::new(&random::<32>());
        let token = OpaqueToken::generate(&key, TokenKind::Refresh, TenantId::generate());
        assert_eq!(token.successor(&key, TokenKind::Refresh).hash(), token.successor(&key, TokenKind::Refresh).hash());
        assert_ne!(token.successor(&key, TokenKind::Refresh).hash(), token.hash());
    }
}
