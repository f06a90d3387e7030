//! What PostgreSQL says of a connection when a statement fails on it, by signs that are the same in every language.
//!
//! diesel passes on the text of an error alone, and PostgreSQL translates its texts (`lc_messages`). So the answers are
//! overheard on their way: an error's severity, its SQLSTATE and the routine that raised it are never translated.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};

use super::passing::Passing;
use super::silence::Patience;
use super::socket::Socket;

/// What was prepared is dead, since a table or a type is not what it was.
const STALE: u8 = 1;
/// The server ends the connection.
const ENDED: u8 = 2;
/// An error is listened to as far as this; what matters stands at its beginning.
const LONGEST: usize = 64 * 1024;
/// Texts that are remembered. A server has one or two for each state.
const TEXTS: usize = 8;
/// Type of a message, and its length.
const HEAD: usize = 5;

/// What was overheard on one connection.
#[derive(Debug, Default)]
pub(super) struct Signs {
    connection: AtomicU8,
    passed: Mutex<Passed>,
    /// The server's own bound on a statement, if nobody is to wait for longer.
    bound: Option<Duration>,
}

/// Errors that pass by themselves.
#[derive(Debug, Default)]
struct Passed {
    /// In which words each was said. Of whom it was said, who shares the connection finds out by them.
    texts: VecDeque<(Vec<u8>, Passing)>,
    last: Option<Passing>,
}

impl Signs {
    /// Of a connection that ends when the server is silent beyond its own bound on a statement.
    pub(super) fn bounded(statement_timeout: Option<Duration>) -> Self {
        Self { bound: statement_timeout, ..Self::default() }
    }

    /// Whether what the connection had prepared turned out to be dead. `forget` where one request alone is on it.
    pub(super) fn stale(&self, forget: bool) -> bool {
        let heard = &self.connection;
        let heard = if forget { heard.fetch_and(!STALE, Ordering::AcqRel) } else { heard.load(Ordering::Acquire) };
        heard & STALE != 0
    }

    /// Whether the server said that it ends the connection.
    pub(super) fn ended(&self) -> bool {
        self.connection.load(Ordering::Acquire) & ENDED != 0
    }

    /// Whether the server meant by an error of this text that it passes by itself.
    pub(super) fn meant(&self, text: &str) -> Option<Passing> {
        self.passed().texts.iter().find(|(said, _)| said == text.as_bytes()).map(|(_, passing)| *passing)
    }

    /// The last error that passes by itself, where one request alone is on the connection. It is heard of once.
    pub(super) fn take_last(&self) -> Option<Passing> {
        self.passed().last.take()
    }

    fn passed(&self) -> MutexGuard<'_, Passed> {
        self.passed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, text: &[u8], passing: Passing) {
        let mut passed = self.passed();
        passed.last = Some(passing);
        if passed.texts.iter().any(|(said, meant)| said == text && *meant == passing) {
            return;
        }
        if passed.texts.len() == TEXTS {
            passed.texts.pop_front();
        }
        passed.texts.push_back((text.to_vec(), passing));
    }

    fn hear(&self, error: &[u8]) {
        let (mut severity, mut code, mut message, mut routine) = (&b""[..], &b""[..], &b""[..], &b""[..]);
        for field in error.split(|byte| *byte == 0) {
            match field.split_first() {
                Some((b'V', value)) => severity = value,
                Some((b'C', value)) => code = value,
                Some((b'M', value)) => message = value,
                Some((b'R', value)) => routine = value,
                _ => {}
            }
        }
        let stale = match code {
            b"0A000" => routine == b"RevalidateCachedQuery",
            // diesel remembers the numbers of custom types.
            b"42704" => [&b"typenameType"[..], b"parseTypeString", b"lookup_type_cache"].contains(&routine),
            // An internal error, whose text is not translated.
            b"XX000" => message.starts_with(b"cache lookup failed for"),
            _ => false,
        };
        let ended = severity == b"FATAL" || severity == b"PANIC";
        let heard = if stale { STALE } else { 0 } | if ended { ENDED } else { 0 };
        self.connection.fetch_or(heard, Ordering::AcqRel);
        if let Some(passing) = Passing::by_state(code) {
            self.keep(message, passing);
        }
    }
}

/// Follows the server's messages from one to the next, in whatever pieces they come.
#[derive(Debug, Default)]
struct Follower {
    head: [u8; HEAD],
    /// How much of the head is there.
    known: usize,
    /// How much of the message is to come.
    left: usize,
    error: Option<Vec<u8>>,
}

impl Follower {
    fn follow(&mut self, mut bytes: &[u8], signs: &Signs) {
        while !bytes.is_empty() {
            if self.known < HEAD {
                let (now, rest) = bytes.split_at(bytes.len().min(HEAD - self.known));
                self.head[self.known..self.known + now.len()].copy_from_slice(now);
                self.known += now.len();
                bytes = rest;
                if self.known == HEAD {
                    let [kind, length @ ..] = self.head;
                    // The length counts itself.
                    self.left = (u32::from_be_bytes(length) as usize).saturating_sub(HEAD - 1);
                    self.error = (kind == b'E').then(Vec::new);
                }
            } else {
                let (now, rest) = bytes.split_at(bytes.len().min(self.left));
                if let Some(error) = self.error.as_mut().filter(|error| error.len() < LONGEST) {
                    error.extend_from_slice(now);
                }
                self.left -= now.len();
                bytes = rest;
            }
            if self.known == HEAD && self.left == 0 {
                if let Some(error) = self.error.take() {
                    signs.hear(&error);
                }
                self.known = 0;
            }
        }
    }
}

/// A stream of the server's messages that is overheard.
#[derive(Debug)]
pub(super) struct Overheard<S> {
    stream: S,
    follower: Follower,
    patience: Option<Patience>,
    signs: Arc<Signs>,
}

impl<S> Overheard<S> {
    pub(super) fn new(stream: S, signs: Arc<Signs>) -> Self {
        Self { stream, follower: Follower::default(), patience: signs.bound.map(Patience::with), signs }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Overheard<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let Self { stream, follower, patience, signs } = &mut *self;
        match (Pin::new(stream).poll_read(cx, buf), patience) {
            (Poll::Pending, Some(patience)) => return patience.poll(cx).map(Err),
            (read, patience) => {
                ready!(read)?;
                let heard = &buf.filled()[before..];
                follower.follow(heard, signs);
                if let Some(patience) = patience {
                    patience.heard(heard);
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Overheard<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let Self { stream, patience, .. } = &mut *self;
        let written = ready!(Pin::new(stream).poll_write(cx, buf))?;
        if let Some(patience) = patience {
            patience.said(&buf[..written], cx);
        }
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl<S: TlsStream + Unpin> TlsStream for Overheard<S> {
    fn channel_binding(&self) -> ChannelBinding {
        self.stream.channel_binding()
    }
}

/// Makes a TLS session that is overheard inside.
pub(super) struct Overhearing<T> {
    pub(super) tls: T,
    pub(super) signs: Arc<Signs>,
}

impl<T> TlsConnect<Socket> for Overhearing<T>
where
    T: TlsConnect<Socket, Future: Send> + Send + 'static,
{
    type Stream = Overheard<T::Stream>;
    type Error = T::Error;
    type Future = BoxFuture<'static, Result<Self::Stream, T::Error>>;

    fn connect(self, socket: Socket) -> Self::Future {
        let Self { tls, signs } = self;
        let connecting = tls.connect(socket);
        async move { Ok(Overheard::new(connecting.await?, signs)) }.boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
        [&[kind][..], &length, body].concat()
    }

    fn error(fields: &[&str]) -> Vec<u8> {
        let body: Vec<u8> = fields.iter().flat_map(|field| [field.as_bytes(), b"\0"].concat()).chain([0]).collect();
        message(b'E', &body)
    }

    /// As a server that speaks German says it, in the middle of rows.
    fn heard(fields: &[&str], piece: usize) -> (bool, bool) {
        let row = message(b'D', b"\0\x01\0\0\0\x02EV");
        let all = [message(b'1', b""), row.clone(), error(fields), row, message(b'Z', b"I")].concat();
        let (signs, mut follower) = (Signs::default(), Follower::default());
        for piece in all.chunks(piece) {
            follower.follow(piece, &signs);
        }
        (signs.stale(false), signs.ended())
    }

    const PLAN: [&str; 5] =
        ["SFEHLER", "VERROR", "C0A000", "Mgecachter Plan darf den Ergebnistyp nicht ändern", "RRevalidateCachedQuery"];

    #[test]
    fn signs_are_understood_in_any_language_and_in_any_pieces() {
        for piece in [1, 2, 3, 5, 7, 1000] {
            assert_eq!(heard(&PLAN, piece), (true, false));
            let gone = ["SFEHLER", "VERROR", "C42704", "MTyp »mood« existiert nicht", "RtypenameType"];
            assert_eq!(heard(&gone, piece), (true, false));
            let number = ["SFEHLER", "VERROR", "CXX000", "Mcache lookup failed for type 16385", "RgetTypeOutputInfo"];
            assert_eq!(heard(&number, piece), (true, false));
            let ended = ["SFATAL", "VFATAL", "C57P01", "Mbreche Verbindung ab", "RProcessInterrupts"];
            assert_eq!(heard(&ended, piece), (false, true));
        }
    }

    #[test]
    fn other_errors_are_none() {
        let unsupported = ["SERROR", "VERROR", "C0A000", "Mcached plan must not change", "RtransformLockingClause"];
        assert_eq!(heard(&unsupported, 1000), (false, false));
        let setting = ["SERROR", "VERROR", "C42704", "Mtype of thing does not exist", "Rfind_option"];
        assert_eq!(heard(&setting, 1000), (false, false));
        assert_eq!(heard(&["SERROR", "VERROR", "C23505", "MFATAL", "R_bt_check_unique"], 1000), (false, false));
    }

    #[test]
    fn what_passes_is_known_by_its_text_in_any_language() {
        let (signs, mut follower) = (Signs::default(), Follower::default());
        let (late, stuck) =
            ("breche Anfrage wegen Zeitüberschreitung der Anfrage ab", "Verklemmung (Deadlock) entdeckt");
        assert_eq!((signs.meant(late), signs.take_last()), (None, None));
        for (state, text) in
            [("C57014", late), ("C40P01", stuck), ("C57014", late), ("C23505", "doppelter Schlüsselwert")]
        {
            let message = format!("M{text}");
            follower.follow(&error(&["SFEHLER", "VERROR", state, &message, "RProcessInterrupts"]), &signs);
        }
        assert_eq!(signs.meant(late), Some(Passing::Away));
        assert_eq!(signs.meant(stuck), Some(Passing::Deadlock));
        assert_eq!(signs.meant("doppelter Schlüsselwert"), None);
        assert_eq!(signs.passed().texts.len(), 2, "each text once");
        assert_eq!((signs.take_last(), signs.take_last()), (Some(Passing::Away), None));
        assert_eq!((signs.stale(false), signs.ended()), (false, false));
    }

    #[test]
    fn of_the_texts_the_last_are_remembered() {
        let (signs, mut follower) = (Signs::default(), Follower::default());
        for n in 0..=TEXTS {
            let message = format!("M{n}");
            follower.follow(&error(&["VERROR", "C57014", &message]), &signs);
        }
        assert_eq!((signs.meant("0"), signs.meant("1")), (None, Some(Passing::Away)));
        assert_eq!(signs.passed().texts.len(), TEXTS);
    }

    #[test]
    fn whoever_is_alone_hears_it_once() {
        let (signs, mut follower) = (Signs::default(), Follower::default());
        follower.follow(&error(&PLAN), &signs);
        assert!(signs.stale(false) && signs.stale(true) && !signs.stale(true));
    }
}
