//! Hashes that people bring along from another system: bcrypt, scrypt and PBKDF2, each in the form that most programs
//! write. They are verified as they are, and replaced by one of ours at the first login.
//!
//! What a hash asks for is bounded: it comes from outside, and whoever logs in pays for it with our processor. One that
//! asks for too little is not taken in at all: whoever gets hold of it guesses the password before its person logs in.

use argon2::Params;
use argon2::password_hash::phc::PasswordHash;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use openssl::hash::MessageDigest;
use openssl::pkcs5;

/// bcrypt's cost: 2^14 rounds take about a second.
const MAX_BCRYPT_COST: u32 = 14;
const MAX_PBKDF2_ROUNDS: usize = 2_000_000;
/// Memory of scrypt and of foreign Argon2 hashes.
const MAX_MEMORY: u64 = 64 * 1024 * 1024;
/// What takes less does not come in: it costs too little to guess.
const MIN_BCRYPT_COST: u32 = 10;
const MIN_PBKDF2_ROUNDS: usize = 100_000;
/// Of scrypt, and of Argon2 times its passes.
const MIN_MEMORY: u64 = 16 * 1024 * 1024;
/// Of scrypt's and Argon2's other costs.
const MAX_FACTOR: u64 = 16;
/// Longest salt and digest in bytes.
const MAX_PART: usize = 128;

/// Why a hash is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It is of no kind that is known.
    #[error("It is no Argon2, bcrypt, scrypt or PBKDF2 hash in a known form.")]
    Unknown,
    /// It asks for more work than a login may take.
    #[error("Verifying it would take more time or memory than a login may take.")]
    TooCostly,
    /// It takes so little work that guessing is cheap.
    #[error(
        "Guessing it is too cheap: bcrypt takes a cost of 10 at least, PBKDF2 100000 rounds, scrypt 16 MiB (ln=14,r=8), \
         Argon2 16 MiB times its passes. Import the person without a hash; they choose a password by a reset."
    )]
    TooWeak,
}

/// A hash that is not ours.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Hash {
    Bcrypt(String),
    Scrypt { log_n: u32, r: u64, p: u64, salt: Vec<u8>, digest: Vec<u8> },
    Pbkdf2 { sha512: bool, rounds: usize, salt: Vec<u8>, digest: Vec<u8> },
}

/// Whether a hash from outside can be taken in.
///
/// # Errors
/// [`Refused`].
pub fn check(hash: &str) -> Result<(), Refused> {
    if !hash.starts_with("$argon2") {
        return if Hash::parse(hash)?.is_weak() { Err(Refused::TooWeak) } else { Ok(()) };
    }
    let parsed = PasswordHash::new(hash).map_err(|_| Refused::Unknown)?;
    let params = Params::try_from(&parsed).map_err(|_| Refused::Unknown)?;
    // A pepper of somebody else's is not here.
    if parsed.hash.is_none() || parsed.salt.is_none() || !params.keyid().is_empty() {
        return Err(Refused::Unknown);
    }
    let costs = [u64::from(params.t_cost()), u64::from(params.p_cost())];
    if u64::from(params.m_cost()) * 1024 > MAX_MEMORY || costs.iter().any(|&cost| cost > MAX_FACTOR) {
        return Err(Refused::TooCostly);
    }
    let work = u64::from(params.m_cost()) * 1024 * u64::from(params.t_cost());
    if work < MIN_MEMORY { Err(Refused::TooWeak) } else { Ok(()) }
}

impl Hash {
    /// Reads `$2b$…`, `$scrypt$ln=…,r=…,p=…$salt$digest`, `$pbkdf2-sha256$i=…$salt$digest` (PHC, or passlib's
    /// `$pbkdf2-sha256$rounds$salt$digest`) and Django's `pbkdf2_sha256$rounds$salt$digest`.
    pub(super) fn parse(text: &str) -> Result<Self, Refused> {
        let parts: Vec<&str> = text.split('$').collect();
        match parts.as_slice() {
            ["", "2a" | "2b" | "2x" | "2y", cost, rest] if rest.len() == 53 => {
                let cost: u32 = cost.parse().map_err(|_| Refused::Unknown)?;
                bounded(u64::from(cost), u64::from(MAX_BCRYPT_COST))?;
                let parsed = text.parse::<bcrypt::HashParts>().map_err(|_| Refused::Unknown)?;
                Ok(Self::Bcrypt(parsed.to_string()))
            }
            ["", "scrypt", costs, salt, digest] => {
                let [log_n, r, p] = numbers(costs, ["ln", "r", "p"])?;
                bounded(r, MAX_FACTOR)?;
                bounded(p, MAX_FACTOR)?;
                let log_n = u32::try_from(log_n).map_err(|_| Refused::TooCostly)?;
                let memory = 1_u64.checked_shl(log_n).and_then(|n| n.checked_mul(128 * r));
                bounded(memory.ok_or(Refused::TooCostly)?, MAX_MEMORY)?;
                Ok(Self::Scrypt { log_n, r, p, salt: base64(salt)?, digest: base64(digest)? })
            }
            ["", kind @ ("pbkdf2-sha256" | "pbkdf2-sha512"), costs, salt, digest] => {
                let rounds = match costs.parse() {
                    Ok(rounds) => rounds,
                    Err(_) => numbers(costs.split(",l=").next().unwrap_or_default(), ["i"])?[0],
                };
                Self::pbkdf2(kind.ends_with("512"), rounds, base64(salt)?, base64(digest)?)
            }
            [kind @ ("pbkdf2_sha256" | "pbkdf2_sha512"), rounds, salt, digest] => {
                let rounds = rounds.parse().map_err(|_| Refused::Unknown)?;
                Self::pbkdf2(kind.ends_with("512"), rounds, salt.as_bytes().to_vec(), base64(digest)?)
            }
            _ => Err(Refused::Unknown),
        }
    }

    fn pbkdf2(sha512: bool, rounds: u64, salt: Vec<u8>, digest: Vec<u8>) -> Result<Self, Refused> {
        bounded(rounds, MAX_PBKDF2_ROUNDS as u64)?;
        let rounds = usize::try_from(rounds).map_err(|_| Refused::TooCostly)?;
        Ok(Self::Pbkdf2 { sha512, rounds, salt, digest })
    }

    /// Whether it takes too little work to be taken in.
    fn is_weak(&self) -> bool {
        match self {
            Self::Bcrypt(hash) => {
                let cost = hash.split('$').nth(2).and_then(|cost| cost.parse::<u32>().ok());
                cost.is_none_or(|cost| cost < MIN_BCRYPT_COST)
            }
            Self::Scrypt { log_n, r, .. } => (128 * r) << log_n < MIN_MEMORY,
            Self::Pbkdf2 { rounds, .. } => *rounds < MIN_PBKDF2_ROUNDS,
        }
    }

    /// Whether a password is the one behind it.
    pub(super) fn verify(&self, password: &[u8]) -> Result<bool, Box<dyn std::error::Error + Send + Sync>> {
        match self {
            // It looks at the first 72 bytes, as whoever made the hash did.
            Self::Bcrypt(hash) => Ok(bcrypt::verify(password, hash)?),
            Self::Scrypt { log_n, r, p, salt, digest } => {
                same(digest, |out| pkcs5::scrypt(password, salt, 1 << log_n, *r, *p, 2 * MAX_MEMORY, out))
            }
            Self::Pbkdf2 { sha512, rounds, salt, digest } => same(digest, |out| {
                let hash = if *sha512 { MessageDigest::sha512() } else { MessageDigest::sha256() };
                pkcs5::pbkdf2_hmac(password, salt, *rounds, hash, out)
            }),
        }
    }
}

fn same<E: std::error::Error + Send + Sync + 'static>(
    digest: &[u8],
    derive: impl FnOnce(&mut [u8]) -> Result<(), E>,
) -> Result<bool, Box<dyn std::error::Error + Send + Sync>> {
    let mut out = vec![0; digest.len()];
    derive(&mut out)?;
    Ok(openssl::memcmp::eq(&out, digest))
}

fn bounded(asked: u64, at_most: u64) -> Result<(), Refused> {
    match asked {
        0 => Err(Refused::Unknown),
        asked if asked > at_most => Err(Refused::TooCostly),
        _ => Ok(()),
    }
}

/// The numbers of `ln=15,r=8,p=1`.
fn numbers<const N: usize>(text: &str, names: [&str; N]) -> Result<[u64; N], Refused> {
    let mut found = [0; N];
    let mut pairs = text.split(',');
    for (place, name) in found.iter_mut().zip(names) {
        let value = pairs.next().and_then(|pair| pair.strip_prefix(name)?.strip_prefix('='));
        *place = value.and_then(|value| value.parse().ok()).ok_or(Refused::Unknown)?;
    }
    if pairs.next().is_some() { Err(Refused::Unknown) } else { Ok(found) }
}

/// With padding or without; passlib writes `.` for `+`.
fn base64(text: &str) -> Result<Vec<u8>, Refused> {
    let text = text.replace('.', "+");
    let bytes = STANDARD.decode(&text).or_else(|_| STANDARD_NO_PAD.decode(&text)).map_err(|_| Refused::Unknown)?;
    if (1..=MAX_PART).contains(&bytes.len()) { Ok(bytes) } else { Err(Refused::Unknown) }
}
