//! (c') capped: the naive pools, but no more connections in all than a cap. A pool that needs one when all are taken
//! has an idle one of the tenant closed that was asked for the longest time ago.
//!
//! bb8 cannot be told to give one up: whoever steals takes it out as a user would, and marks it, so that the pool finds
//! it broken when it comes back.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use actix_web::error::{ErrorNotFound, ErrorServiceUnavailable};
use actix_web::{App, HttpRequest, HttpResponse, web};
use anyhow::{Context as _, Result};
use bb8::{ManageConnection, Pool};
use diesel_async::AsyncPgConnection;
use diesel_async::pooled_connection::{AsyncDieselConnectionManager, PoolError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::naive::{CONNECTIONS_PER_TENANT, Verifier};
use super::{Bound, Order, bind, contact};

/// How long somebody waits for a connection that is given back, before he looks for an idle one again.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// A connection with its place under the cap.
struct Capped {
    conn: AsyncPgConnection,
    stolen: bool,
    // After the connection: the place is free when it is gone.
    _place: OwnedSemaphorePermit,
}

/// Opens connections of one tenant.
struct Manager {
    inner: AsyncDieselConnectionManager<AsyncPgConnection>,
    common: Arc<Common>,
}

struct Tenant {
    pool: Pool<Manager>,
    last_asked: AtomicU64,
}

/// What all pools share.
struct Common {
    places: Arc<Semaphore>,
    openings: Semaphore,
    asked: AtomicU64,
    tenants: OnceLock<HashMap<String, Tenant>>,
    verifier: Verifier,
}

impl fmt::Debug for Capped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Capped")
    }
}

impl ManageConnection for Manager {
    type Connection = Capped;
    type Error = PoolError;

    async fn connect(&self) -> Result<Capped, PoolError> {
        let place = self.common.place().await;
        let _opening = self.common.openings.acquire().await;
        Ok(Capped { conn: self.inner.connect().await?, stolen: false, _place: place })
    }

    async fn is_valid(&self, capped: &mut Capped) -> Result<(), PoolError> {
        self.inner.is_valid(&mut capped.conn).await
    }

    fn has_broken(&self, capped: &mut Capped) -> bool {
        capped.stolen || self.inner.has_broken(&mut capped.conn)
    }
}

impl Common {
    /// A place under the cap, if need be somebody else's.
    async fn place(&self) -> OwnedSemaphorePermit {
        loop {
            if let Ok(place) = self.places.clone().try_acquire_owned() {
                return place;
            }
            if !self.steal().await
                && let Ok(Ok(place)) = timeout(LOOK_AGAIN, self.places.clone().acquire_owned()).await
            {
                return place;
            }
        }
    }

    /// Closes an idle connection of the tenant that was asked for the longest time ago; `false` if nobody has one.
    async fn steal(&self) -> bool {
        let tenants = self.tenants.get().into_iter().flat_map(HashMap::values);
        let idle = tenants.filter(|tenant| tenant.pool.state().idle_connections > 0);
        let Some(victim) = idle.min_by_key(|tenant| tenant.last_asked.load(Ordering::Relaxed)) else { return false };
        // Somebody may have been quicker; waiting for him to finish would keep two busy.
        match timeout(LOOK_AGAIN, victim.pool.get()).await {
            Ok(Ok(mut capped)) => {
                capped.stolen = true;
                true
            }
            _ => false,
        }
    }
}

/// Serves `GET /contacts` of whichever tenant the token names.
pub fn server(order: &Order) -> Result<Bound> {
    let common = Arc::new(Common {
        places: Arc::new(Semaphore::new(order.cap.context("no cap")?)),
        openings: Semaphore::new(order.openings.unwrap_or(Semaphore::MAX_PERMITS)),
        asked: AtomicU64::new(0),
        tenants: OnceLock::new(),
        verifier: Verifier::new(&order.secret),
    });
    let tenants = order.databases.iter().map(|(tenant, url)| {
        let manager = Manager { inner: AsyncDieselConnectionManager::new(url), common: common.clone() };
        let pool = Pool::builder()
            .max_size(CONNECTIONS_PER_TENANT)
            .test_on_check_out(order.checkout_test)
            .build_unchecked(manager);
        (tenant.clone(), Tenant { pool, last_asked: AtomicU64::new(0) })
    });
    common.tenants.set(tenants.collect()).ok().context("set twice")?;
    let state = web::Data::from(common);
    Ok(bind!(move || App::new().app_data(state.clone()).route("/contacts", web::get().to(list))))
}

async fn list(request: HttpRequest, state: web::Data<Common>) -> actix_web::Result<HttpResponse> {
    let name = state.verifier.tenant(&request)?;
    let tenant = state.tenants.get().and_then(|all| all.get(&name)).ok_or_else(|| ErrorNotFound("no such tenant"))?;
    tenant.last_asked.store(state.asked.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
    let mut capped = tenant.pool.get().await.map_err(ErrorServiceUnavailable)?;
    let rows = contact::load(&mut capped.conn).await.map_err(ErrorServiceUnavailable)?;
    Ok(HttpResponse::Ok().json(rows))
}
