//! Lines on their way out, several in one write.

use std::io::{self, BufWriter, Write};
use std::thread;
use std::time::Duration;

/// What is written at once at most.
const BATCH: usize = 64 * 1024;
/// How long lines gather.
const PAUSE: Duration = Duration::from_millis(2);

/// A writer for the thread of the log. It rests after each batch: while it does, whoever logs has not to wake it, which
/// costs a request more than its line does.
pub(super) struct Gathered<W: Write>(BufWriter<W>);

impl<W: Write> Gathered<W> {
    pub(super) fn new(to: W) -> Self {
        Self(BufWriter::with_capacity(BATCH, to))
    }
}

impl<W: Write> Write for Gathered<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.write(line)
    }

    /// The thread asks for it when no line waits any more. Where nobody reads them, there is nobody to tell: an error would
    /// keep the thread from seeing that the program ends.
    fn flush(&mut self) -> io::Result<()> {
        let _ = self.0.flush();
        thread::sleep(PAUSE);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Writes(Vec<Vec<u8>>);

    impl Write for Writes {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.push(bytes.to_vec());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_waits_is_one_write() {
        let mut lines = Gathered::new(Writes::default());
        lines.write_all(b"one\n").unwrap();
        lines.write_all(b"two\n").unwrap();
        assert_eq!(lines.0.get_ref().0.len(), 0);
        lines.flush().unwrap();
        assert_eq!(lines.0.get_ref().0, [b"one\ntwo\n"]);
    }
}
