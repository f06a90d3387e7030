//! Passwords: what one has to be like, and Argon2id in a bounded pool, so that a storm of logins cannot take every core
//! and all memory from the requests of other tenants.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use argon2::{Algorithm, Argon2, Params, Version};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::error::{ApiError, ApiResult, Code, FieldError};
use crate::kernel::crypto::random;

/// The shortest password, in characters.
pub const MIN_CHARS: usize = 10;
/// The longest password, in bytes.
pub const MAX_BYTES: usize = 256;

/// Memory of one hash in KiB (OWASP's first choice for Argon2id with two passes).
const MEMORY_KIB: u32 = 19_456;
/// How many hashes may wait for each one that runs.
const QUEUE_PER_WORKER: usize = 32;
/// How long a hash waits for its turn.
const QUEUE_DEADLINE: Duration = Duration::from_secs(5);

/// What is wrong with a password that someone chooses, for the field it came in. `None` if it will do.
#[must_use]
pub fn fault(field: &'static str, password: &SecretString, email: &str) -> Option<FieldError> {
    let text = password.expose_secret();
    if text.chars().count() < MIN_CHARS {
        return Some(FieldError::new(field, "too_short", format!("At least {MIN_CHARS} characters.")));
    }
    if text.len() > MAX_BYTES {
        return Some(FieldError::new(field, "too_long", format!("At most {MAX_BYTES} bytes.")));
    }
    let local_part = email.split('@').next().unwrap_or_default();
    if [email, local_part].iter().any(|known| text.trim().to_lowercase() == known.trim().to_lowercase()) {
        return Some(FieldError::new(field, "too_guessable", "Not the e-mail address."));
    }
    None
}

/// Hashes and verifies passwords, a few at a time. Cheap to clone; clones share the bound.
#[derive(Clone)]
pub struct Passwords {
    running: Arc<Semaphore>,
    admitted: Arc<Semaphore>,
    /// The hash of a random password: verified against where there is none, for the same work.
    nobody: Arc<str>,
}

impl fmt::Debug for Passwords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Passwords").field("free", &self.running.available_permits()).finish_non_exhaustive()
    }
}

impl Passwords {
    /// A pool of `parallel` (at least one) hashes at a time, each of 19 MiB and one core for tens of milliseconds.
    #[must_use]
    pub fn new(parallel: usize) -> Self {
        let parallel = parallel.max(1);
        let nobody = hash_now(&random::<32>()).expect("Argon2id takes any password and a salt of 16 bytes");
        Self {
            running: Arc::new(Semaphore::new(parallel)),
            admitted: Arc::new(Semaphore::new(parallel * (1 + QUEUE_PER_WORKER))),
            nobody: nobody.into(),
        }
    }

    /// The Argon2id hash of a password, in PHC form.
    ///
    /// # Errors
    /// `overloaded` if too many wait, or its turn does not come in time.
    pub async fn hash(&self, password: SecretString) -> ApiResult<String> {
        self.begin(password).await?.finish().await
    }

    /// As [`Self::hash`], but answers when its turn has come: the caller has other things to do meanwhile.
    ///
    /// # Errors
    /// As [`Self::hash`].
    pub async fn begin(&self, password: SecretString) -> ApiResult<Hashing> {
        self.start(move || hash_now(password.expose_secret().as_bytes())).await.map(Hashing)
    }

    /// Whether `password` is the one behind `hash`. With `None` the answer is no, after the same work.
    ///
    /// # Errors
    /// `overloaded` as [`Self::hash`]; an internal error if the stored hash is not PHC.
    pub async fn verify(&self, password: SecretString, hash: Option<String>) -> ApiResult<bool> {
        let known = hash.is_some();
        let hash = hash.unwrap_or_else(|| self.nobody.to_string());
        let verifying = self.start(move || verify_now(password.expose_secret().as_bytes(), &hash)).await?;
        let matches = verifying.await.map_err(ApiError::internal)?;
        Ok(matches.map_err(ApiError::internal)? && known)
    }

    async fn start<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> ApiResult<JoinHandle<T>> {
        let overloaded = || ApiError::new(Code::Overloaded).retry_after(Duration::from_secs(2));
        let place = Arc::clone(&self.admitted).try_acquire_owned().map_err(|_| overloaded())?;
        let turn = timeout(QUEUE_DEADLINE, Arc::clone(&self.running).acquire_owned())
            .await
            .map_err(|_| overloaded())?
            .map_err(ApiError::internal)?;
        // The turn goes with the work: a caller who leaves does not make room for one more.
        Ok(tokio::task::spawn_blocking(move || {
            let done = work();
            drop((turn, place));
            done
        }))
    }
}

/// A hash that is being made.
#[derive(Debug)]
pub struct Hashing(JoinHandle<Result<String, argon2::password_hash::Error>>);

impl Hashing {
    /// Waits for it.
    ///
    /// # Errors
    /// An internal error, if the runtime ends first.
    pub async fn finish(self) -> ApiResult<String> {
        self.0.await.map_err(ApiError::internal)?.map_err(ApiError::internal)
    }
}

fn argon2id() -> Result<Argon2<'static>, argon2::Error> {
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::new(MEMORY_KIB, 2, 1, None)?))
}

fn hash_now(password: &[u8]) -> Result<String, argon2::password_hash::Error> {
    let hash: PasswordHash = argon2id()
        .map_err(|_| argon2::password_hash::Error::ParamsInvalid)?
        .hash_password_with_salt(password, &random::<16>())?;
    Ok(hash.to_string())
}

fn verify_now(password: &[u8], hash: &str) -> Result<bool, argon2::password_hash::Error> {
    let parsed = PasswordHash::new(hash).map_err(|_| argon2::password_hash::Error::EncodingInvalid)?;
    match Argon2::default().verify_password(password, &parsed) {
        Ok(()) => Ok(true),
        Err(argon2::password_hash::Error::PasswordInvalid) => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> SecretString {
        text.to_owned().into()
    }

    #[test]
    fn judges_passwords() {
        let judge = |text: &str| fault("password", &secret(text), "Ada.Lovelace@acme.test").map(|f| f.code);
        assert_eq!(judge("correct horse"), None);
        assert_eq!(judge("ßßßßßßßßßß"), None);
        assert_eq!(judge("short"), Some("too_short".into()));
        assert_eq!(judge(&"x".repeat(257)), Some("too_long".into()));
        assert_eq!(judge("ada.lovelace@ACME.test"), Some("too_guessable".into()));
        assert_eq!(judge("Ada.Lovelace"), Some("too_guessable".into()));
    }

    #[actix_web::test]
    async fn hashes_and_verifies() {
        let passwords = Passwords::new(2);
        let hash = passwords.hash(secret("correct horse")).await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert!(passwords.verify(secret("correct horse"), Some(hash.clone())).await.unwrap());
        assert!(!passwords.verify(secret("incorrect horse"), Some(hash)).await.unwrap());
        assert!(!passwords.verify(secret("correct horse"), None).await.unwrap());
        assert!(passwords.verify(secret("x"), Some("no hash".into())).await.is_err());
    }

    #[actix_web::test]
    async fn refuses_when_the_queue_is_full() {
        let passwords = Passwords::new(1);
        let _all = passwords.admitted.acquire_many(1 + u32::try_from(QUEUE_PER_WORKER).unwrap()).await.unwrap();
        let refused = passwords.hash(secret("correct horse")).await.unwrap_err();
        assert_eq!(refused.code(), Code::Overloaded);
    }
}
