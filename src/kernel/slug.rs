//! A tenant's public name: short, lower case, safe in a host name.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// 3–48 characters of `a-z0-9-`, beginning with a letter, not ending with a dash, no reserved word.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "server", schema(value_type = String, pattern = "^[a-z][a-z0-9-]{1,46}[a-z0-9]$", example = "acme"))]
pub struct Slug(String);

/// Names that would be mistaken for a part of the service itself, in a host name or a path.
const RESERVED: &[&str] = &[
    "admin",
    "administrator",
    "api",
    "app",
    "assets",
    "auth",
    "billing",
    "cdn",
    "console",
    "control",
    "dashboard",
    "docs",
    "health",
    "help",
    "internal",
    "livez",
    "login",
    "mail",
    "main",
    "management",
    "metrics",
    "null",
    "openapi",
    "operator",
    "postgres",
    "public",
    "readyz",
    "root",
    "signup",
    "static",
    "status",
    "support",
    "system",
    "template",
    "template0",
    "template1",
    "tenant",
    "tenantry",
    "tenants",
    "undefined",
    "www",
];

/// Why a text is not a slug.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SlugError {
    /// Wrong length or characters.
    #[error("a slug is 3 to 48 characters of a-z, 0-9 and '-', begins with a letter and does not end with '-'")]
    Shape,
    /// A reserved word.
    #[error("'{0}' is reserved; choose another slug")]
    Reserved(String),
}

impl Slug {
    /// The slug as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Slug {
    type Err = SlugError;

    fn from_str(text: &str) -> Result<Self, SlugError> {
        let bytes = text.as_bytes();
        let shaped = (3..=48).contains(&bytes.len())
            && bytes[0].is_ascii_lowercase()
            && bytes[bytes.len() - 1] != b'-'
            && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-');
        if !shaped {
            return Err(SlugError::Shape);
        }
        if RESERVED.contains(&text) {
            return Err(SlugError::Reserved(text.to_owned()));
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for Slug {
    type Error = SlugError;
    fn try_from(text: String) -> Result<Self, SlugError> {
        text.parse()
    }
}

impl From<Slug> for String {
    fn from(slug: Slug) -> Self {
        slug.0
    }
}

impl fmt::Display for Slug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Slug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_and_refuses() {
        for good in ["acme", "a-1", "globex-eu-2", &"a".repeat(48)] {
            assert!(good.parse::<Slug>().is_ok(), "{good}");
        }
        for bad in ["", "ab", "1abc", "-abc", "abc-", "Acme", "a_b", "a.b", "ac me", "ácme", &"a".repeat(49)] {
            assert_eq!(bad.parse::<Slug>(), Err(SlugError::Shape), "{bad}");
        }
        assert_eq!("admin".parse::<Slug>(), Err(SlugError::Reserved("admin".into())));
    }
}
