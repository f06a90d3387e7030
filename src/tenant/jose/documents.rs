//! What issuers publish of themselves, remembered for a while.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use moka::future::Cache;
use moka::policy::EvictionPolicy;
use reqwest::header::ACCEPT;
use tokio::sync::{Mutex as Turn, MutexGuard as TurnGuard};
use tokio::time::timeout;
use url::Url;

use crate::kernel::{Clock, TenantId};
use crate::outbound::{Outbound, OutboundError, Request};

/// Addresses that are remembered.
const MOST: u64 = 10_000;
/// How long a document is used before it is asked for again.
const FRESH: TimeDelta = TimeDelta::minutes(10);
/// How long one is used while its address does not answer.
const STALE: TimeDelta = TimeDelta::hours(1);
/// An address is asked at most so often.
const PAUSE: TimeDelta = TimeDelta::seconds(10);
/// How long an address is waited for, and whoever asks it.
const PATIENCE: Duration = Duration::from_secs(10);

/// Something that is published as JSON.
pub(in crate::tenant) trait Document: Sized + Send + Sync + 'static {
    /// Reads it. `None` if it is none.
    fn read(bytes: &[u8]) -> Option<Self>;
}

/// What is known of an address.
struct State<T> {
    /// When it last answered or failed to. Not when it was asked: whoever waited for that would ask again.
    asked_at: Option<DateTime<Utc>>,
    known: Option<(DateTime<Utc>, Arc<T>)>,
}

impl<T> State<T> {
    /// The document, if it is younger than this.
    fn younger(&self, than: TimeDelta, now: DateTime<Utc>) -> Option<Arc<T>> {
        self.known.as_ref().filter(|(read_at, _)| now - *read_at < than).map(|(_, known)| known.clone())
    }
}

struct Slot<T> {
    state: Mutex<State<T>>,
    /// Held by the one that asks.
    asking: Turn<()>,
}

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Self { state: Mutex::new(State { asked_at: None, known: None }), asking: Turn::default() }
    }
}

impl<T> Slot<T> {
    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Documents by tenant and address: no tenant uses what was fetched for another.
pub(in crate::tenant) struct Documents<T> {
    outbound: Outbound,
    clock: Clock,
    patience: Duration,
    slots: Cache<(TenantId, Url), Arc<Slot<T>>>,
}

impl<T> std::fmt::Debug for Documents<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Documents").finish_non_exhaustive()
    }
}

impl<T: Document> Documents<T> {
    pub(in crate::tenant) fn new(outbound: Outbound, clock: Clock) -> Self {
        let slots = Cache::builder().max_capacity(MOST).eviction_policy(EvictionPolicy::lru()).build();
        Self { outbound, clock, patience: PATIENCE, slots }
    }

    async fn slot(&self, tenant: TenantId, address: &Url) -> Arc<Slot<T>> {
        self.slots.get_with((tenant, address.clone()), async { Arc::default() }).await
    }

    /// The document at an address, at most ten minutes old; up to an hour old while the address does not answer. While
    /// somebody asks it, nobody waits who can have an older one; the others wait no longer than the one that asks.
    ///
    /// # Errors
    /// If it cannot be had, or is none.
    pub(in crate::tenant) async fn get(&self, tenant: TenantId, address: &Url) -> Result<Arc<T>, OutboundError> {
        let slot = self.slot(tenant, address).await;
        let known = |than| slot.state().younger(than, self.clock.now());
        if let Some(known) = known(FRESH) {
            return Ok(known);
        }
        let _turn = match (slot.asking.try_lock(), known(STALE)) {
            (Ok(turn), _) => turn,
            (Err(_), Some(known)) => return Ok(known),
            (Err(_), None) => self.turn(&slot).await?,
        };
        if let Some(known) = known(FRESH) {
            return Ok(known);
        }
        let asked = self.ask(&slot, address).await;
        match (known(STALE), asked) {
            (Some(known), _) => Ok(known),
            (None, Err(error)) => Err(error),
            (None, Ok(())) => Err(OutboundError::Unreachable("no document")),
        }
    }

    /// A newer one than `than`, if the address may be asked again and has one.
    ///
    /// # Errors
    /// If it cannot be had.
    pub(in crate::tenant) async fn newer(
        &self,
        tenant: TenantId,
        address: &Url,
        than: &Arc<T>,
    ) -> Result<Option<Arc<T>>, OutboundError> {
        let slot = self.slot(tenant, address).await;
        let newer = || {
            let state = slot.state();
            state.known.as_ref().map(|(_, known)| known).filter(|known| !Arc::ptr_eq(known, than)).cloned()
        };
        if newer().is_none() && !self.is_pause(&slot) {
            let _turn = self.turn(&slot).await?;
            if newer().is_none() && !self.is_pause(&slot) {
                self.ask(&slot, address).await?;
            }
        }
        Ok(newer())
    }

    /// Waits for the one that asks.
    async fn turn<'a>(&self, slot: &'a Slot<T>) -> Result<TurnGuard<'a, ()>, OutboundError> {
        timeout(self.patience, slot.asking.lock()).await.map_err(|_| OutboundError::TooLate)
    }

    /// Whether the address was asked a moment ago.
    fn is_pause(&self, slot: &Slot<T>) -> bool {
        let asked_at = slot.state().asked_at;
        asked_at.is_some_and(|at| self.clock.now() - at < PAUSE)
    }

    async fn ask(&self, slot: &Slot<T>, address: &Url) -> Result<(), OutboundError> {
        if self.is_pause(slot) {
            return Err(OutboundError::Unreachable("asked a moment ago"));
        }
        let read_at = self.clock.now();
        let read = self.read(address).await;
        let mut state = slot.state();
        state.asked_at = Some(self.clock.now());
        state.known = Some((read_at, Arc::new(read?)));
        Ok(())
    }

    async fn read(&self, address: &Url) -> Result<T, OutboundError> {
        let request = Request::get(address.clone()).header(ACCEPT, "application/json").within(self.patience);
        let answer = self.outbound.send(request).await?;
        if answer.status != 200 {
            return Err(OutboundError::Unreachable("status"));
        }
        T::read(&answer.body).ok_or(OutboundError::Unreachable("no such document"))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::future::join_all;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio::sync::mpsc;
    use uuid::Uuid;

    use super::*;

    struct Text(String);

    impl Document for Text {
        fn read(bytes: &[u8]) -> Option<Self> {
            String::from_utf8(bytes.to_vec()).ok().map(Self)
        }
    }

    fn documents(clock: &Clock, patience: Duration) -> Arc<Documents<Text>> {
        let outbound = Outbound::new(vec!["127.0.0.0/8".parse().unwrap()]);
        Arc::new(Documents { patience, ..Documents::new(outbound, clock.clone()) })
    }

    /// A server that answers the first so many, and then none for ever; tells of each that comes.
    async fn server(answers: usize, clock: Clock) -> (Url, mpsc::UnboundedReceiver<()>, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = Url::parse(&format!("http://{}/keys", listener.local_addr().unwrap())).unwrap();
        let ((came, told), count) = (mpsc::unbounded_channel(), Arc::new(AtomicUsize::new(0)));
        let counted = count.clone();
        tokio::spawn(async move {
            let mut held = Vec::new();
            while let Ok((mut client, _)) = listener.accept().await {
                if counted.fetch_add(1, Ordering::SeqCst) < answers {
                    let mut asked = [0; 4096];
                    let _ = client.read(&mut asked).await;
                    let answer = "HTTP/1.1 200 OK\r\ncontent-length: 3\r\nconnection: close\r\n\r\none";
                    let _ = client.write_all(answer.as_bytes()).await;
                } else {
                    // As long as whoever waits would have to wait.
                    clock.advance(PAUSE + TimeDelta::seconds(1));
                    held.push(client);
                }
                let _ = came.send(());
            }
        });
        (address, told, count)
    }

    #[actix_web::test]
    async fn of_many_who_come_to_an_address_that_hangs_one_asks() {
        let clock = Clock::system();
        let (address, _told, count) = server(0, clock.clone()).await;
        let documents = documents(&clock, Duration::from_millis(300));
        let tenant = TenantId::from(Uuid::nil());
        let all = join_all((0..50).map(|_| documents.get(tenant, &address)));
        // Fifty one after another would take a quarter of a minute.
        let all = timeout(Duration::from_secs(5), all).await.expect("all within about one's patience");
        assert!(all.iter().all(Result::is_err));
        assert_eq!(count.load(Ordering::SeqCst), 1);
        assert!(documents.get(tenant, &address).await.is_err(), "nor does it get asked again at once");
        assert_eq!(count.load(Ordering::SeqCst), 1);
    }

    #[actix_web::test]
    async fn an_older_document_serves_while_its_address_hangs() {
        let clock = Clock::system();
        let (address, mut told, count) = server(1, clock.clone()).await;
        let documents = documents(&clock, Duration::from_secs(60));
        let tenant = TenantId::from(Uuid::nil());
        assert_eq!(documents.get(tenant, &address).await.unwrap().0, "one");
        told.recv().await.expect("it was asked");
        clock.advance(FRESH);
        let (asks, there) = (documents.clone(), address.clone());
        let asks = tokio::spawn(async move { asks.get(tenant, &there).await.map(|known| known.0.clone()) });
        told.recv().await.expect("it is asked again");
        for _ in 0..50 {
            let known = timeout(Duration::from_secs(5), documents.get(tenant, &address)).await.expect("at once");
            assert_eq!(known.unwrap().0, "one");
        }
        assert_eq!(count.load(Ordering::SeqCst), 2);
        asks.abort();
        clock.advance(STALE);
        let old = timeout(Duration::from_millis(300), documents.get(tenant, &address)).await;
        assert!(!matches!(old, Ok(Ok(_))), "what is too old is none");
    }
}
