//! Sealing of what is too long to be held in memory: chunks of AES-256-GCM in the STREAM construction (Hoang, Reyhanitabar,
//! Rogaway, Vizár 2015). Each chunk's nonce counts, and says whether it is the last: none can be changed, left out,
//! doubled, put elsewhere or cut off.
//!
//! A sealed stream is `magic (8) ‖ salt (32) ‖ chunks`, every chunk but the last of the same length. The key is the
//! caller's, bound to the salt and to what the stream is: it opens as nothing else.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use zeroize::Zeroizing;

use super::crypto::{CryptoError, MacKey, random};

const MAGIC: &[u8; 8] = b"tenantry";
const SALT_LEN: usize = 32;
const HEADER_LEN: usize = MAGIC.len() + SALT_LEN;
const TAG_LEN: usize = 16;
/// Plain bytes in a chunk.
pub const CHUNK_LEN: usize = 64 * 1024;

/// A key that seals streams.
#[derive(Clone)]
pub struct StreamKey(Zeroizing<[u8; 32]>);

impl std::fmt::Debug for StreamKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("StreamKey(…)")
    }
}

impl StreamKey {
    /// A new key.
    #[must_use]
    pub fn generate() -> Self {
        Self(Zeroizing::new(random()))
    }

    /// A key from its bytes; `None` unless they are 32.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(|bytes| Self(Zeroizing::new(bytes)))
    }

    /// Its bytes, to be sealed.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    fn chunks(&self, salt: &[u8], what: &str) -> Chunks {
        let derived = Zeroizing::new(MacKey::new(&*self.0).digest("stream", &[salt, what.as_bytes()]));
        let key = UnboundKey::new(&AES_256_GCM, &*derived).expect("32 bytes are a key");
        Chunks { key: LessSafeKey::new(key), count: 0 }
    }
}

struct Chunks {
    key: LessSafeKey,
    count: u64,
}

impl Chunks {
    fn nonce(&mut self, last: bool) -> Nonce {
        let mut nonce = [0; NONCE_LEN];
        nonce[..8].copy_from_slice(&self.count.to_be_bytes());
        nonce[NONCE_LEN - 1] = u8::from(last);
        self.count += 1;
        Nonce::assume_unique_for_key(nonce)
    }
}

/// Seals a stream.
pub struct Sealer {
    chunks: Chunks,
    pending: Zeroizing<Vec<u8>>,
}

impl Sealer {
    /// Begins a stream that opens as `what` alone; its header goes to `out`.
    #[must_use]
    pub fn new(key: &StreamKey, what: &str, out: &mut Vec<u8>) -> Self {
        let salt: [u8; SALT_LEN] = random();
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&salt);
        Self { chunks: key.chunks(&salt, what), pending: Zeroizing::new(Vec::with_capacity(CHUNK_LEN)) }
    }

    /// Takes more of it in; chunks that are full go to `out`.
    pub fn push(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) {
        while !bytes.is_empty() {
            // A full chunk waits for the next byte: it may be the last.
            if self.pending.len() == CHUNK_LEN {
                self.seal(false, out);
            }
            let (now, later) = bytes.split_at(bytes.len().min(CHUNK_LEN - self.pending.len()));
            self.pending.extend_from_slice(now);
            bytes = later;
        }
    }

    /// Ends it: the last chunk goes to `out`.
    pub fn finish(mut self, out: &mut Vec<u8>) {
        self.seal(true, out);
    }

    fn seal(&mut self, last: bool, out: &mut Vec<u8>) {
        let nonce = self.chunks.nonce(last);
        let tag = self
            .chunks
            .key
            .seal_in_place_separate_tag(nonce, Aad::empty(), &mut self.pending)
            .expect("AES-GCM seals anything shorter than 64 GiB");
        out.extend_from_slice(&self.pending);
        out.extend_from_slice(tag.as_ref());
        self.pending.clear();
    }
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sealer(chunk {})", self.chunks.count)
    }
}

/// Opens a stream. What it gives out is authentic, but may be its beginning only, until [`Opener::finish`] says that it
/// was all.
pub struct Opener {
    key: StreamKey,
    what: String,
    chunks: Option<Chunks>,
    pending: Vec<u8>,
}

impl Opener {
    /// A stream that was sealed as `what`.
    #[must_use]
    pub fn new(key: &StreamKey, what: &str) -> Self {
        Self { key: key.clone(), what: what.to_owned(), chunks: None, pending: Vec::new() }
    }

    /// Takes more of it in; what was in whole chunks goes to `out`.
    ///
    /// # Errors
    /// If anything of it was changed, or sealed with another key or as something else.
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), CryptoError> {
        self.pending.extend_from_slice(bytes);
        if self.chunks.is_none() {
            if self.pending.len() < HEADER_LEN {
                return Ok(());
            }
            if &self.pending[..MAGIC.len()] != MAGIC {
                return Err(CryptoError::DoesNotOpen);
            }
            self.chunks = Some(self.key.chunks(&self.pending[MAGIC.len()..HEADER_LEN], &self.what));
            self.pending.drain(..HEADER_LEN);
        }
        // A whole chunk waits for the next byte: it may be the last.
        let mut from = 0;
        while self.pending.len() - from > CHUNK_LEN + TAG_LEN {
            let to = from + CHUNK_LEN + TAG_LEN;
            Self::open(self.chunks.as_mut(), &mut self.pending[from..to], false, out)?;
            from = to;
        }
        self.pending.drain(..from);
        Ok(())
    }

    /// Ends it: what was in the last chunk goes to `out`.
    ///
    /// # Errors
    /// As [`Self::push`]; also if something is missing at the end.
    pub fn finish(mut self, out: &mut Vec<u8>) -> Result<(), CryptoError> {
        Self::open(self.chunks.as_mut(), &mut self.pending, true, out)
    }

    fn open(chunks: Option<&mut Chunks>, sealed: &mut [u8], last: bool, out: &mut Vec<u8>) -> Result<(), CryptoError> {
        let chunks = chunks.ok_or(CryptoError::DoesNotOpen)?;
        let nonce = chunks.nonce(last);
        let plain = chunks.key.open_in_place(nonce, Aad::empty(), sealed).map_err(|_| CryptoError::DoesNotOpen)?;
        out.extend_from_slice(plain);
        Ok(())
    }
}

impl std::fmt::Debug for Opener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Opener({})", self.what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seal(key: &StreamKey, what: &str, plain: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut sealer = Sealer::new(key, what, &mut out);
        for part in plain.chunks(10_007) {
            sealer.push(part, &mut out);
        }
        sealer.finish(&mut out);
        out
    }

    fn open(key: &StreamKey, what: &str, sealed: &[u8]) -> Result<Vec<u8>, CryptoError> {
        let mut out = Vec::new();
        let mut opener = Opener::new(key, what);
        for part in sealed.chunks(9_001) {
            opener.push(part, &mut out)?;
        }
        opener.finish(&mut out)?;
        Ok(out)
    }

    #[test]
    fn whatever_its_length_it_comes_back() {
        let key = StreamKey::generate();
        for length in [0, 1, CHUNK_LEN - 1, CHUNK_LEN, CHUNK_LEN + 1, 3 * CHUNK_LEN, 3 * CHUNK_LEN + 77] {
            let plain: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
            assert_eq!(open(&key, "x", &seal(&key, "x", &plain)).unwrap(), plain, "{length}");
        }
    }

    #[test]
    fn nothing_of_it_can_be_changed() {
        let key = StreamKey::generate();
        let plain = vec![7; 3 * CHUNK_LEN];
        let sealed = seal(&key, "x", &plain);
        let chunk = CHUNK_LEN + TAG_LEN;
        for at in [0, 8, 39, 40, 40 + CHUNK_LEN, 40 + chunk, sealed.len() - 1] {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(open(&key, "x", &changed).is_err(), "bit of byte {at} flipped");
        }
        let (first, second) = (40..40 + chunk, 40 + chunk..40 + 2 * chunk);
        let swapped = [&sealed[..40], &sealed[second.clone()], &sealed[first], &sealed[second.end..]].concat();
        let cut = &sealed[..second.end];
        let longer = [&sealed[..], &[0]].concat();
        for wrong in [&swapped[..], cut, &longer, &sealed[..20], &[]] {
            assert!(open(&key, "x", wrong).is_err());
        }
        assert!(open(&key, "y", &sealed).is_err(), "sealed as something else");
        assert!(open(&StreamKey::generate(), "x", &sealed).is_err(), "another key");
    }
}
