//! The first administrator of a tenant that is made: the password is hashed while the database is made.

use secrecy::SecretString;

use super::{AdminPassword, FirstAdmin};
use crate::error::ApiResult;
use crate::fleet::scram;
use crate::rest::passwords::{Hashing, Passwords};

/// A first administrator whose password is being hashed.
pub(super) struct AdminToBe {
    hash: Hash,
    email: String,
    first_name: String,
    last_name: String,
    generated: Option<SecretString>,
}

enum Hash {
    Begun(Hashing),
    Known(SecretString),
}

impl AdminToBe {
    /// Waits for a place among the hashes, and begins.
    ///
    /// # Errors
    /// `overloaded` if too many wait.
    pub(super) async fn begin(passwords: &Passwords, wanted: &FirstAdmin) -> ApiResult<Self> {
        let (hash, generated) = match &wanted.password {
            AdminPassword::Given(password) => (Hash::Begun(passwords.of_nobody().begin(password.clone()).await?), None),
            AdminPassword::Hashed(hash) => (Hash::Known(hash.clone()), None),
            AdminPassword::Generate => {
                let password = scram::generate_password();
                (Hash::Begun(passwords.of_nobody().begin(password.clone()).await?), Some(password))
            }
        };
        let FirstAdmin { email, first_name, last_name, .. } = wanted.clone();
        Ok(Self { hash, email, first_name, last_name, generated })
    }

    /// What the tenant's database is told; and the password, if it was made here.
    ///
    /// # Errors
    /// If the hash could not be made.
    pub(super) async fn finish(self) -> ApiResult<(crate::tenant::FirstAdmin, Option<SecretString>)> {
        let password_hash = match self.hash {
            Hash::Begun(hashing) => hashing.finish().await?.into(),
            Hash::Known(hash) => hash,
        };
        let row = crate::tenant::FirstAdmin {
            email: self.email,
            password_hash,
            password_change_required: self.generated.is_some(),
            first_name: self.first_name,
            last_name: self.last_name,
        };
        Ok((row, self.generated))
    }
}
