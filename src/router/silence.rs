//! A server that takes a statement and then says nothing: its own bound on the statement stands still with it, and the
//! kernel goes on acknowledging what we send.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Sleep, sleep};

/// How long an answer may be on its way, besides the time that the server takes by its own bound.
const GRACE: Duration = Duration::from_secs(10);
/// Type of a message, and its length.
const HEAD: usize = 5;
/// What a client says that the server answers with one [`READY`]: its greeting, which has no type, a query in words, and
/// the end of one that was prepared.
const ASKED: &[u8] = b"\0QS";
/// The server's last word of an answer.
const READY: &[u8] = b"Z";

/// Counts messages of some types among those that go by, in whatever pieces they come.
#[derive(Debug, Default)]
struct Messages {
    head: [u8; HEAD],
    /// How much of the head is there.
    known: usize,
    /// How much of the message is to come.
    left: usize,
}

impl Messages {
    /// A client's first message has no type.
    fn of_client() -> Self {
        Self { known: 1, ..Self::default() }
    }

    fn count(&mut self, mut bytes: &[u8], types: &[u8]) -> usize {
        let mut count = 0;
        while !bytes.is_empty() {
            if self.known < HEAD {
                let (now, rest) = bytes.split_at(bytes.len().min(HEAD - self.known));
                self.head[self.known..self.known + now.len()].copy_from_slice(now);
                self.known += now.len();
                bytes = rest;
                if self.known == HEAD {
                    let [_, length @ ..] = self.head;
                    // The length counts itself.
                    self.left = (u32::from_be_bytes(length) as usize).saturating_sub(HEAD - 1);
                }
            } else {
                let now = bytes.len().min(self.left);
                self.left -= now;
                bytes = &bytes[now..];
            }
            if self.known == HEAD && self.left == 0 {
                count += usize::from(types.contains(&self.head[0]));
                self.known = 0;
            }
        }
        count
    }
}

/// How long a server is listened to that owes an answer and says nothing.
#[derive(Debug)]
pub(super) struct Patience {
    most: Duration,
    said: Messages,
    heard: Messages,
    /// Answers that are to come.
    owed: usize,
    /// Since the last word.
    waiting: Option<Pin<Box<Sleep>>>,
}

impl Patience {
    /// With a server that ends a statement by itself after so long.
    pub(super) fn with(statement_timeout: Duration) -> Self {
        Self::of(statement_timeout.saturating_add(GRACE))
    }

    fn of(most: Duration) -> Self {
        Self { most, said: Messages::of_client(), heard: Messages::default(), owed: 0, waiting: None }
    }

    /// We said something.
    pub(super) fn said(&mut self, bytes: &[u8], cx: &mut Context<'_>) {
        self.owed += self.said.count(bytes, ASKED);
        // From now on time wakes whoever listens.
        if self.poll(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
    }

    /// The server said something.
    pub(super) fn heard(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.owed = self.owed.saturating_sub(self.heard.count(bytes, READY));
            self.waiting = None;
        }
    }

    /// Ready once the server has been silent for too long.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        if self.owed == 0 {
            self.waiting = None;
            return Poll::Pending;
        }
        let most = self.most;
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(sleep(most)));
        ready!(waiting.as_mut().poll(cx));
        Poll::Ready(io::Error::new(io::ErrorKind::TimedOut, "the server does not answer, not even by its own bound"))
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    fn message(kind: &[u8], body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
        [kind, &length, body].concat()
    }

    #[test]
    fn messages_are_counted_in_any_pieces() {
        let greeting = message(b"", b"\0\x03\0\0user\0me\0\0");
        let all = [greeting, message(b"p", b"S"), message(b"Q", b"SQQ\0"), message(b"P", b"Z"), message(b"S", b"")];
        for piece in [1, 2, 3, 5, 7, 1000] {
            let mut messages = Messages::of_client();
            let count: usize = all.concat().chunks(piece).map(|bytes| messages.count(bytes, ASKED)).sum();
            assert_eq!(count, 3, "in pieces of {piece}");
        }
    }

    /// Whether patience comes to its end before `other` does.
    async fn ends(patience: &mut Patience, other: Duration) -> bool {
        tokio::select! {
            biased;
            _ = poll_fn(|cx| patience.poll(cx)) => true,
            () = sleep(other) => false,
        }
    }

    async fn say(patience: &mut Patience, bytes: &[u8]) {
        poll_fn(|cx| {
            patience.said(bytes, cx);
            Poll::Ready(())
        })
        .await;
    }

    #[tokio::test]
    async fn it_ends_while_an_answer_is_owed_and_never_otherwise() {
        const LONG: Duration = Duration::from_secs(60);
        let mut patience = Patience::of(Duration::from_millis(20));
        say(&mut patience, &message(b"", b"hello")).await;
        assert!(ends(&mut patience, LONG).await, "not even greeted");
        patience.heard(&message(b"Z", b"I"));
        assert!(!ends(&mut patience, Duration::from_millis(60)).await, "nothing was asked");
        say(&mut patience, &[message(b"C", b"s1\0"), message(b"S", b""), message(b"Q", b"SELECT 1\0")].concat()).await;
        patience.heard(&message(b"Z", b"I"));
        patience.heard(&message(b"D", b"half an answer"));
        assert!(ends(&mut patience, LONG).await, "silent in the middle");
        patience.heard(&message(b"Z", b"I"));
        assert!(!ends(&mut patience, Duration::from_millis(60)).await, "all was answered");
    }
}
