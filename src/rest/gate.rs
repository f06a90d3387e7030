//! Who is asking comes before what they ask.
//!
//! actix polls a handler's extractors side by side, so a malformed body could be answered before a bad token was. An
//! extractor that authenticates opens a [`Gate`] when it is done; those that read input wait for it, in whatever order
//! the handler names them.

use actix_web::{HttpMessage, HttpRequest};
use tokio::sync::watch;

#[derive(Clone)]
struct Closed(watch::Receiver<bool>);

/// Holds back the reading of input until the caller is admitted. Dropped unopened, the request has failed anyway.
#[derive(Debug)]
pub struct Gate(watch::Sender<bool>);

impl Gate {
    /// Closes the gate. To be called in `from_request` itself, not in its future.
    #[must_use]
    pub fn close(request: &HttpRequest) -> Self {
        let (sender, receiver) = watch::channel(false);
        request.extensions_mut().insert(Closed(receiver));
        Self(sender)
    }

    /// The caller is admitted.
    pub fn open(self) {
        self.0.send_replace(true);
    }

    /// Waits until the caller is admitted. Returns at once on routes without authentication.
    pub(super) async fn pass(request: &HttpRequest) {
        let closed = request.extensions().get::<Closed>().cloned();
        if let Some(Closed(mut receiver)) = closed {
            // An error means that it was dropped unopened; the request then has its answer already.
            let _ = receiver.wait_for(|open| *open).await;
        }
    }
}
