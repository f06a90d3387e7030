//! Peppers: secrets of the installation that go into each hash, so that whoever steals a tenant's database alone cannot
//! try passwords on it.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use crate::kernel::crypto::sha256;

const KEY_LEN: usize = 32;
const ID_LEN: usize = 6;

/// One of them.
#[derive(Clone)]
pub(super) struct Pepper {
    id: [u8; ID_LEN],
    key: Zeroizing<Vec<u8>>,
}

impl Pepper {
    /// What a hash calls it: the first bytes of its digest.
    pub(super) fn id(&self) -> &[u8] {
        &self.id
    }

    pub(super) fn key(&self) -> &[u8] {
        &self.key
    }
}

/// Those of an installation, newest first: the first is used, all are known. Without any, hashes are made without.
#[derive(Clone, Default)]
pub struct Peppers(Vec<Pepper>);

impl fmt::Debug for Peppers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Peppers({})", self.0.len())
    }
}

/// An entry of the list, counted from 1, is not the base64 of 32 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("pepper {0} is not the base64 of {KEY_LEN} bytes")]
pub struct BadPepper(pub usize);

impl Peppers {
    /// Reads a comma-separated list of base64 secrets of 32 bytes, newest first.
    ///
    /// # Errors
    /// [`BadPepper`].
    pub fn parse(list: &SecretString) -> Result<Self, BadPepper> {
        let texts = list.expose_secret().split(',').map(str::trim).filter(|text| !text.is_empty());
        let one = |(at, text): (usize, &str)| {
            let key = BASE64.decode(text).map(Zeroizing::new).map_err(|_| BadPepper(at + 1))?;
            let digest = sha256(&key);
            match digest.first_chunk() {
                Some(&id) if key.len() == KEY_LEN => Ok(Pepper { id, key }),
                _ => Err(BadPepper(at + 1)),
            }
        };
        texts.enumerate().map(one).collect::<Result<_, _>>().map(Self)
    }

    pub(super) fn newest(&self) -> Option<&Pepper> {
        self.0.first()
    }

    pub(super) fn find(&self, id: &[u8]) -> Option<&Pepper> {
        self.0.iter().find(|pepper| pepper.id == id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_is_no_secret() {
        let parse = |text: &str| Peppers::parse(&text.to_owned().into()).map(|peppers| peppers.0.len());
        let good = BASE64.encode([7; 32]);
        assert_eq!(parse(""), Ok(0));
        assert_eq!(parse(&format!("{good}, {good}")), Ok(2));
        assert_eq!(parse(&format!("{good},c2hvcnQ=")), Err(BadPepper(2)));
        assert_eq!(parse("no base64!"), Err(BadPepper(1)));
    }
}
