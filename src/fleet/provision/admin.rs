//! The first administrator of a tenant that is made: the password is hashed while the database is made.

use diesel_async::AsyncConnection as _;
use secrecy::SecretString;

use super::{AdminPassword, FirstAdmin};
use crate::error::{ApiError, ApiResult};
use crate::fleet::scram;
use crate::rest::passwords::{Hashing, Passwords};
use crate::router::AdminConn;
use crate::tenant::{give_password, seed_admin};

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

    /// What the tenant's database is told at once.
    pub(super) fn person(&self) -> crate::tenant::FirstAdmin {
        crate::tenant::FirstAdmin {
            email: self.email.clone(),
            password_change_required: self.generated.is_some(),
            first_name: self.first_name.clone(),
            last_name: self.last_name.clone(),
        }
    }

    /// The hash of the password, when it is made.
    ///
    /// # Errors
    /// If it could not be made.
    pub(super) async fn hash(self) -> ApiResult<SecretString> {
        match self.hash {
            Hash::Begun(hashing) => Ok(hashing.finish().await?.into()),
            Hash::Known(hash) => Ok(hash),
        }
    }

    /// Makes the person in the tenant's database; gives the password, if it was made here.
    ///
    /// # Errors
    /// If the hash could not be made, or the database does not answer.
    pub(super) async fn make(self, own: &mut AdminConn) -> ApiResult<Option<SecretString>> {
        let (person, generated) = (self.person(), self.generated.clone());
        let hash = self.hash().await?;
        own.transaction(async |conn: &mut AdminConn| {
            let seeded = seed_admin(conn, &person).await?;
            give_password(conn, seeded.user.id, &hash).await
        })
        .await
        .map_err(ApiError::internal)?;
        Ok(generated)
    }
}
