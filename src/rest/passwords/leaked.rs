//! Passwords that have leaked somewhere: a file of their SHA-1 digests, one a line and sorted, as the collection of Have I
//! Been Pwned is given out (`DIGEST:count`). It has tens of gigabytes, and is searched where it lies.

use std::cmp::Ordering;
use std::fmt::Write as _;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use secrecy::{ExposeSecret, SecretString};

use crate::error::FieldError;

/// Hexadecimal digits of a digest.
const DIGITS: usize = 40;
/// No line is longer, its end included.
const LINE: usize = 64;

/// A collection of leaked passwords. Clones share the file.
#[derive(Debug, Clone)]
pub struct Leaked {
    file: Arc<File>,
    length: u64,
}

/// A line, and where it is.
struct Line {
    start: u64,
    end: u64,
    digest: String,
}

fn wrong(said: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, said)
}

impl Leaked {
    /// Opens a file.
    ///
    /// # Errors
    /// If it cannot be read, or does not begin and end as such a file.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        let leaked = Self { file: Arc::new(file), length };
        let last = leaked.line(length.checked_sub(1).ok_or_else(|| wrong("it is empty"))?)?;
        if leaked.line(0)?.digest > last.digest {
            return Err(wrong("its lines are not sorted"));
        }
        Ok(leaked)
    }

    /// What is wrong with a password that somebody chooses. `None` if it is not among them.
    pub(super) fn fault(&self, field: &'static str, password: &SecretString) -> io::Result<Option<FieldError>> {
        let said = "It has leaked somewhere, and is in the lists that are tried.";
        Ok(self.has(password)?.then(|| FieldError::new(field, "too_guessable", said)))
    }

    fn has(&self, password: &SecretString) -> io::Result<bool> {
        let bytes = digest(&SHA1_FOR_LEGACY_USE_ONLY, password.expose_secret().as_bytes());
        let wanted = bytes.as_ref().iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02X}");
            text
        });
        // If it is there, its line begins between these.
        let (mut from, mut to) = (0, self.length);
        while from < to {
            let line = self.line(from + (to - from) / 2)?;
            match line.digest.cmp(&wanted) {
                Ordering::Less => from = line.end,
                Ordering::Equal => return Ok(true),
                Ordering::Greater => to = line.start,
            }
        }
        Ok(false)
    }

    /// The line that a byte of the file belongs to.
    fn line(&self, at: u64) -> io::Result<Line> {
        let begin = at.saturating_sub(LINE as u64);
        let mut around = [0; 2 * LINE];
        let read = self.read(&mut around, begin)?;
        let at = usize::try_from(at - begin).unwrap_or(LINE).min(read);
        let (before, after) = around[..read].split_at(at);
        let start = match before.iter().rposition(|byte| *byte == b'\n') {
            Some(end) => end + 1,
            None if begin == 0 => 0,
            None => return Err(wrong("it has a line that is too long")),
        };
        let end = after.iter().position(|byte| *byte == b'\n').map_or(read, |end| at + end + 1);
        let text = std::str::from_utf8(&around[start..end]).map_err(|_| wrong("it is no text"))?;
        let (digest, rest) = text.split_at_checked(DIGITS).ok_or_else(|| wrong("it has a line without a digest"))?;
        if !digest.bytes().all(|byte| byte.is_ascii_hexdigit())
            || !(rest.is_empty() || rest.starts_with([':', '\r', '\n']))
        {
            return Err(wrong("it has a line that does not begin with a SHA-1 digest"));
        }
        let (start, end) = (begin + start as u64, begin + end as u64);
        Ok(Line { start, end, digest: digest.to_ascii_uppercase() })
    }

    fn read(&self, into: &mut [u8], at: u64) -> io::Result<usize> {
        let mut read = 0;
        while read < into.len() {
            match self.file.read_at(&mut into[read..], at + read as u64) {
                Ok(0) => break,
                Ok(more) => read += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest_of(text: &str) -> String {
        let bytes = digest(&SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
        bytes.as_ref().iter().map(|byte| format!("{byte:02X}")).collect()
    }

    fn open(text: &str) -> io::Result<Leaked> {
        let path = std::env::temp_dir().join(format!("tenantry-leaked-{}", uuid::Uuid::now_v7()));
        std::fs::write(&path, text).unwrap();
        let leaked = Leaked::open(&path);
        // It is read as long as it is open.
        std::fs::remove_file(path).unwrap();
        leaked
    }

    /// Of every size, with every end of line that there is: all that are in it, and nothing else.
    #[test]
    fn finds_what_is_there_and_nothing_else() {
        assert_eq!(digest_of("password"), "5BAA61E4C9B93F3F0682250B6CF8331B7EE68FD8");
        for (count, end) in [(1, "\n"), (2, ""), (3, "\r\n"), (1000, ":9999999\r\n"), (999, ":1\n")] {
            let mut lines: Vec<String> = (0..count).map(|at| digest_of(&format!("leaked {at}")) + end).collect();
            lines.sort();
            let leaked = open(&if end.is_empty() { lines.join("\n") } else { lines.concat() }).unwrap();
            for at in 0..count {
                assert!(leaked.has(&format!("leaked {at}").into()).unwrap(), "{at} of {count}");
                assert!(!leaked.has(&format!("mine {at}").into()).unwrap(), "{at} of {count}");
            }
        }
    }

    #[test]
    fn what_is_no_such_file_is_not_taken() {
        let (a, b) = ("A".repeat(DIGITS), "B".repeat(DIGITS));
        assert!(open(&format!("{a}:1\n{b}:1\n")).is_ok());
        let long = "x".repeat(500);
        for text in ["", "password\n", &long, &format!("{a}{b}\n"), &format!("{b}\n{a}\n"), &format!("{a}:{long}")] {
            assert!(open(text).is_err(), "{text}");
        }
    }
}
