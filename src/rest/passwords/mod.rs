//! Passwords: what one has to be like ([`Rules`]), and their hashes, made and compared by a bounded number of threads in
//! which tenants take turns, so that a storm of logins cannot take every core and all memory from the requests of others.

mod arrivals;
mod foreign;
mod hashes;
mod leaked;
mod pepper;
mod strength;
mod threads;
mod turns;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use secrecy::SecretString;
use tokio::task::JoinHandle;
use uuid::Uuid;

use self::arrivals::Arrivals;
use self::hashes::Verdict;
use self::threads::Threads;
use self::turns::Turns;
use crate::error::{ApiError, ApiResult, Code, FieldError};
use crate::kernel::TenantId;
use crate::kernel::crypto::random;

pub use arrivals::Arrived;
pub use foreign::{Refused, check as check_foreign};
pub use leaked::Leaked;
pub use pepper::{BadPepper, Peppers};
pub use strength::{MAX_BYTES, MIN_CHARS, MIN_CHARS_WITH_FACTOR, Rules};

/// How many hashes may wait for each one that runs: with the deadline of a turn, as many as are made in it.
const QUEUE_PER_WORKER: usize = 256;

/// How long one waits in either line.
const PATIENCE: Duration = Duration::from_secs(5);

/// The hashing of an installation. Cheap to clone; clones share the bound.
#[derive(Clone)]
pub struct Passwords {
    arrivals: Arrivals,
    turns: Turns,
    threads: Arc<Threads>,
    peppers: Arc<Peppers>,
    /// A hash that no password is behind: compared with where there is none, for the same work.
    nobody: Arc<str>,
    leaked: Option<Leaked>,
    /// Whether the operators were told that a pepper is missing.
    told: Arc<AtomicBool>,
}

impl fmt::Debug for Passwords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Passwords").field("free", &self.turns.free()).finish_non_exhaustive()
    }
}

impl Passwords {
    /// `parallel` (at least one) hashes at a time, each of 19 MiB and one core for tens of milliseconds.
    #[must_use]
    pub fn new(parallel: usize, peppers: Peppers) -> Self {
        Self::with(parallel, peppers, PATIENCE, true)
    }

    /// For tests: hundreds of them share a few cores, where a thread that gives way to all others would hardly come to its
    /// turn, and a login not be answered in time.
    #[cfg(feature = "testing")]
    #[must_use]
    pub fn of_tests(parallel: usize, peppers: Peppers) -> Self {
        Self::with(parallel, peppers, 6 * PATIENCE, false)
    }

    fn with(parallel: usize, peppers: Peppers, patience: Duration, give_way: bool) -> Self {
        let (parallel, room) = (parallel.max(1), parallel.max(1) * QUEUE_PER_WORKER);
        let nobody = hashes::of_nobody(&peppers).expect("a salt and an output of the usual lengths");
        Self {
            arrivals: Arrivals::new(parallel, room, patience),
            turns: Turns::new(parallel, room, patience),
            threads: Arc::new(Threads::new(parallel, give_way)),
            peppers: Arc::new(peppers),
            nobody: nobody.into(),
            leaked: None,
            told: Arc::default(),
        }
    }

    /// The same, where nobody chooses a password that has leaked.
    #[must_use]
    pub fn without(self, leaked: Leaked) -> Self {
        Self { leaked: Some(leaked), ..self }
    }

    /// For the people of a tenant.
    #[must_use]
    pub fn of(&self, tenant: TenantId) -> Hasher {
        Hasher { passwords: self.clone(), whose: tenant.uuid() }
    }

    /// For whoever belongs to no tenant: operators, and strangers.
    #[must_use]
    pub fn of_nobody(&self) -> Hasher {
        Hasher { passwords: self.clone(), whose: Uuid::nil() }
    }
}

/// Whether a password is the right one.
#[derive(Debug)]
pub enum Checked {
    /// It is not.
    Wrong,
    /// It is.
    Right,
    /// It is, and this is the hash to keep from here on.
    Renewed(String),
}

impl Checked {
    /// Whether it is the right one.
    #[must_use]
    pub fn matches(&self) -> bool {
        !matches!(self, Self::Wrong)
    }

    /// The hash to keep from here on, if it is another one.
    #[must_use]
    pub fn renewed(&self) -> Option<&str> {
        match self {
            Self::Renewed(hash) => Some(hash),
            Self::Wrong | Self::Right => None,
        }
    }
}

/// Hashes and compares the passwords of one tenant.
#[derive(Debug, Clone)]
pub struct Hasher {
    passwords: Passwords,
    whose: Uuid,
}

impl Hasher {
    /// What is wrong with a password that somebody chooses, for the field it came in. `None` if it will do.
    ///
    /// # Errors
    /// `overloaded` as [`Self::hash`]; an internal error if the leaked ones cannot be read.
    pub async fn judge(
        &self,
        field: &'static str,
        password: &SecretString,
        rules: Rules,
    ) -> ApiResult<Option<FieldError>> {
        let too_short_or_long = rules.length_fault(field, password);
        if too_short_or_long.is_some() {
            return Ok(too_short_or_long);
        }
        let (password, leaked) = (password.clone(), self.passwords.leaked.clone());
        let judging = self.start(move || match (rules.fault(field, &password), leaked) {
            (None, Some(leaked)) => leaked.fault(field, &password),
            (fault, _) => Ok(fault),
        });
        judging.await?.await.map_err(ApiError::internal)?.map_err(ApiError::internal)
    }

    /// The hash of a password, in PHC form.
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
        let peppers = Arc::clone(&self.passwords.peppers);
        self.start(move || hashes::make(&password, &peppers)).await.map(Hashing)
    }

    /// Whether `password` is the one behind `hash`. With `None` the answer is no, after the same work; so it is for a hash
    /// whose pepper is not configured any more, of which the log tells once.
    ///
    /// # Errors
    /// `overloaded` as [`Self::hash`]; an internal error if the stored hash is of no known kind.
    pub async fn verify(&self, password: SecretString, hash: Option<String>) -> ApiResult<bool> {
        Ok(self.compare(password, hash, false).await?.matches())
    }

    /// As [`Self::verify`], and hashes it anew if the hash is not as it would be made today.
    ///
    /// # Errors
    /// As [`Self::verify`].
    pub async fn check(&self, password: SecretString, hash: Option<String>) -> ApiResult<Checked> {
        self.compare(password, hash, true).await
    }

    async fn compare(&self, password: SecretString, hash: Option<String>, renew: bool) -> ApiResult<Checked> {
        let known = hash.is_some();
        let hash = hash.unwrap_or_else(|| self.passwords.nobody.to_string());
        let Passwords { peppers, nobody, told, .. } = self.passwords.clone();
        let comparing = self.start(move || match hashes::verify(&password, &hash, &peppers)? {
            Verdict::Wrong => Ok(Checked::Wrong),
            Verdict::Stale if renew => hashes::make(&password, &peppers).map(Checked::Renewed),
            Verdict::Right | Verdict::Stale => Ok(Checked::Right),
            Verdict::Lost => {
                if !told.swap(true, Ordering::Relaxed) {
                    tracing::error!(
                        target: "tenantry::security",
                        event = "pepper.missing",
                        "a password was hashed with a pepper that is not configured any more: nobody whose hash needs it \
                         can log in before it is back in TENANTRY_PASSWORD_PEPPER, or they reset the password"
                    );
                }
                hashes::verify(&password, &nobody, &peppers).map(|_| Checked::Wrong)
            }
        });
        let checked = comparing.await?.await.map_err(ApiError::internal)?;
        let checked: Checked = checked.map_err(|error: argon2::password_hash::Error| ApiError::internal(error))?;
        Ok(if known { checked } else { Checked::Wrong })
    }

    /// Admits to the tenant's database, and to the hashing after that, whoever needs a hash compared that is there: for as
    /// long as they hold what is given. Not who would be sent away afterwards.
    ///
    /// # Errors
    /// `overloaded` as [`Self::hash`], or if too many others ask.
    pub async fn admit(&self) -> ApiResult<Arrived> {
        let Passwords { arrivals, turns, .. } = &self.passwords;
        let is_full = || turns.is_full(self.whose);
        let arrived = if is_full() { None } else { arrivals.take(self.whose).await };
        // Whoever was before may have filled the line.
        arrived.filter(|_| !is_full()).ok_or_else(overloaded)
    }

    async fn start<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> ApiResult<JoinHandle<T>> {
        let turn = self.passwords.turns.take(self.whose).await;
        let turn = turn.ok_or_else(overloaded)?;
        // The turn goes with the work: a caller who leaves does not make room for one more.
        Ok(self.passwords.threads.run(move || {
            let done = work();
            drop(turn);
            done
        }))
    }
}

/// Those who find no room come again after about as long as a full line takes, and not all of them in the same second.
fn overloaded() -> ApiError {
    let spread = u64::from(random::<1>()[0] % 5);
    ApiError::new(Code::Overloaded).retry_after(Duration::from_secs(2 + spread))
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

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn secret(text: &str) -> SecretString {
        text.to_owned().into()
    }

    #[actix_web::test]
    async fn hashes_and_compares() {
        let passwords = Passwords::new(2, Peppers::default()).of_nobody();
        let hash = passwords.hash(secret("correct horse")).await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert!(passwords.verify(secret("correct horse"), Some(hash.clone())).await.unwrap());
        assert!(!passwords.verify(secret("incorrect horse"), Some(hash.clone())).await.unwrap());
        assert!(!passwords.verify(secret("correct horse"), None).await.unwrap());
        assert!(passwords.verify(secret("x"), Some("no hash".into())).await.is_err());
        assert!(matches!(passwords.check(secret("correct horse"), Some(hash)).await.unwrap(), Checked::Right));
    }

    /// A dropped pepper is no fault of the server's to whoever asks: the password counts as wrong.
    #[actix_web::test]
    async fn a_hash_whose_pepper_is_gone_matches_nothing() {
        let pepper = Peppers::parse(&secret("b2xkb2xkb2xkb2xkb2xkb2xkb2xkb2xkb2xkb2xkb2w=")).unwrap();
        let hash = Passwords::new(1, pepper).of_nobody().hash(secret("correct horse")).await.unwrap();
        let without = Passwords::new(1, Peppers::default());
        for _ in 0..2 {
            let checked = without.of_nobody().check(secret("correct horse"), Some(hash.clone())).await.unwrap();
            assert!(matches!(checked, Checked::Wrong));
        }
        assert!(without.told.load(Ordering::Relaxed), "the operators are told");
    }

    // Made with Python's hashlib (`pbkdf2_hmac`, `scrypt`), `bcrypt` and `argon2-cffi`.
    #[rstest]
    #[case::bcrypt("$2b$04$vmvwA8yJazhsPiut.0dtXOGUKimH/N5oO58brhYttQ8eL4wawgR0y")]
    #[case::scrypt("$scrypt$ln=10,r=8,p=1$c2FsdHNhbHRzYWx0c2FsdA$fXnS5Awj6eMC+z1SbPBpyxEKbW7GHGyuCeVjw7IJSMI")]
    #[case::pbkdf2("$pbkdf2-sha256$i=1000,l=32$c2FsdHNhbHRzYWx0c2FsdA$Cf9xjlisAEzRbMZsosxST/5+wkpfUV6uoqiZkYtP6iQ")]
    #[case::pbkdf2_sha512(
        "$pbkdf2-sha512$i=1000$c2FsdHNhbHRzYWx0c2FsdA\
         $lYhPheApeiwq3tKG8A+KHC4iQ8mmHXFAKab1ywrJ5QhG73jAKAyVeLsbqTYH/KNRnW0OYbntj3FPNcXf3GKcRg"
    )]
    #[case::passlib("$pbkdf2-sha256$1000$..........8$GeqOmNButaX3N05M6/5YLBcxyKIT30KTmyen1oOdDVY")]
    #[case::django("pbkdf2_sha256$1000$saltsalt$2vLrmxK8YFROnGTL6oinO4bfT02gvTppeFbz7HWz5X0=")]
    #[case::argon2i("$argon2i$v=19$m=64,t=2,p=2$LXEqVw5d0e2KfGmbQ+JUTg$EpAp+80r5jS3MNRJUsFdIQ4r+5oEtIrrTZuMx7inMRs")]
    #[actix_web::test]
    async fn hashes_of_others_open_and_are_renewed(#[case] hash: &str) {
        let passwords = Passwords::new(1, Peppers::default()).of_nobody();
        let password = || secret("correct horse battery");
        assert!(!passwords.verify(secret("incorrect horse"), Some(hash.into())).await.unwrap());
        let Checked::Renewed(ours) = passwords.check(password(), Some(hash.into())).await.unwrap() else {
            panic!("it is not renewed");
        };
        assert!(matches!(passwords.check(password(), Some(ours)).await.unwrap(), Checked::Right));
    }

    #[rstest]
    #[case::plain("correct horse battery", Refused::Unknown)]
    #[case::empty("", Refused::Unknown)]
    #[case::md5("$1$salt$hash", Refused::Unknown)]
    #[case::no_digest("$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0", Refused::Unknown)]
    #[case::peppered("$argon2id$v=19$m=8,t=1,p=1,keyid=AAAA$c2FsdHNhbHRzYWx0$aGFzaGhhc2hoYXNoaGFzaA", Refused::Unknown)]
    #[case::memory("$argon2id$v=19$m=4000000,t=2,p=1$c2FsdHNhbHRzYWx0$aGFzaGhhc2hoYXNoaGFzaA", Refused::TooCostly)]
    #[case::passes("$argon2id$v=19$m=8,t=1000000,p=1$c2FsdHNhbHRzYWx0$aGFzaGhhc2hoYXNoaGFzaA", Refused::TooCostly)]
    #[case::bcrypt("$2b$31$vmvwA8yJazhsPiut.0dtXOGUKimH/N5oO58brhYttQ8eL4wawgR0y", Refused::TooCostly)]
    #[case::scrypt("$scrypt$ln=30,r=8,p=1$c2FsdA$aGFzaA", Refused::TooCostly)]
    #[case::scrypt_shift("$scrypt$ln=64,r=8,p=1$c2FsdA$aGFzaA", Refused::TooCostly)]
    #[case::pbkdf2("$pbkdf2-sha256$i=99999999$c2FsdA$aGFzaA", Refused::TooCostly)]
    #[case::no_rounds("$pbkdf2-sha256$i=0$c2FsdA$aGFzaA", Refused::Unknown)]
    #[case::weak_bcrypt("$2b$09$vmvwA8yJazhsPiut.0dtXOGUKimH/N5oO58brhYttQ8eL4wawgR0y", Refused::TooWeak)]
    #[case::weak_scrypt("$scrypt$ln=13,r=8,p=1$c2FsdA$aGFzaA", Refused::TooWeak)]
    #[case::weak_pbkdf2("$pbkdf2-sha256$i=99999$c2FsdA$aGFzaA", Refused::TooWeak)]
    #[case::weak_django("pbkdf2_sha512$99999$saltsalt$aGFzaA==", Refused::TooWeak)]
    #[case::weak_argon2("$argon2id$v=19$m=4096,t=3,p=1$c2FsdHNhbHRzYWx0$aGFzaGhhc2hoYXNoaGFzaA", Refused::TooWeak)]
    fn what_asks_for_too_much_or_too_little_is_refused(#[case] hash: &str, #[case] refused: Refused) {
        assert_eq!(check_foreign(hash), Err(refused));
    }

    #[rstest]
    #[case::bcrypt("$2b$10$vmvwA8yJazhsPiut.0dtXOGUKimH/N5oO58brhYttQ8eL4wawgR0y")]
    #[case::scrypt("$scrypt$ln=14,r=8,p=1$c2FsdA$aGFzaA")]
    #[case::pbkdf2("$pbkdf2-sha256$i=100000,l=32$c2FsdA$aGFzaA")]
    #[case::argon2("$argon2id$v=19$m=8192,t=2,p=1$c2FsdHNhbHRzYWx0$aGFzaGhhc2hoYXNoaGFzaA")]
    fn what_costs_enough_is_taken(#[case] hash: &str) {
        assert_eq!(check_foreign(hash), Ok(()));
    }
}
