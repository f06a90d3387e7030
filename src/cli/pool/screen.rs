//! Where looks are shown: drawn over each other on a terminal, one after the other elsewhere.

use std::io::{self, IsTerminal as _, Write as _};

const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l";
const LEAVE: &str = "\x1b[?7h\x1b[?25h\x1b[?1049l";
const HOME: &str = "\x1b[H\x1b[J";

/// Leaves the terminal as it was when it is dropped.
pub(super) struct Screen {
    drawing: bool,
}

impl Screen {
    /// Draws if `live` and stdout is a terminal.
    pub(super) fn open(live: bool) -> io::Result<Self> {
        let drawing = live && io::stdout().is_terminal();
        if drawing {
            put(ENTER)?;
        }
        Ok(Self { drawing })
    }

    /// Shows a look. False if the reader has seen enough, as `head` does.
    pub(super) fn show(&self, text: &str) -> io::Result<bool> {
        let shown = if self.drawing { put(&format!("{HOME}{text}\n")) } else { put(&format!("{text}\n")) };
        match shown {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
            done => done.map(|()| true),
        }
    }
}

fn put(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

impl Drop for Screen {
    fn drop(&mut self) {
        if self.drawing {
            // The terminal is gone: nothing is left to put right.
            let _ = put(LEAVE);
        }
    }
}
