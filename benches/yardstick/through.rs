//! The naive pools as they have to be behind PgBouncer in transaction mode: a prepared statement would lie on a server
//! connection that somebody else gets, so every query goes whole, in one message and one round trip.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use actix_web::error::{ErrorNotFound, ErrorServiceUnavailable};
use actix_web::{App, HttpRequest, HttpResponse, web};
use anyhow::Result;
use bb8::{ManageConnection, Pool};
use tokio_postgres::Client;

use super::naive::{CONNECTIONS_PER_TENANT, Verifier};
use super::{Bound, Order, bind, contact};
use crate::support::postgres;

/// Opens connections of one tenant.
struct Manager {
    url: String,
}

struct State {
    pools: HashMap<String, Pool<Manager>>,
    verifier: Verifier,
}

impl ManageConnection for Manager {
    type Connection = Client;
    type Error = io::Error;

    async fn connect(&self) -> io::Result<Client> {
        postgres::connect(&self.url).await.map_err(io::Error::other)
    }

    async fn is_valid(&self, client: &mut Client) -> io::Result<()> {
        client.simple_query("SELECT 1").await.map(drop).map_err(io::Error::other)
    }

    fn has_broken(&self, client: &mut Client) -> bool {
        client.is_closed()
    }
}

/// Serves `GET /contacts` of whichever tenant the token names.
pub fn server(order: &Order) -> Result<Bound> {
    let pool = |url: &String| {
        let pool = Pool::builder().max_size(CONNECTIONS_PER_TENANT).test_on_check_out(order.checkout_test);
        pool.build_unchecked(Manager { url: url.clone() })
    };
    let pools = order.databases.iter().map(|(tenant, url)| (tenant.clone(), pool(url))).collect();
    let state = web::Data::from(Arc::new(State { pools, verifier: Verifier::new(&order.secret) }));
    Ok(bind!(move || App::new().app_data(state.clone()).route("/contacts", web::get().to(list))))
}

async fn list(request: HttpRequest, state: web::Data<State>) -> actix_web::Result<HttpResponse> {
    let tenant = state.verifier.tenant(&request)?;
    let pool = state.pools.get(&tenant).ok_or_else(|| ErrorNotFound("no such tenant"))?;
    let client = pool.get().await.map_err(ErrorServiceUnavailable)?;
    let rows = client.query_typed(contact::QUERY, &[]).await.map_err(ErrorServiceUnavailable)?;
    Ok(HttpResponse::Ok().json(contact::from_rows(&rows).map_err(ErrorServiceUnavailable)?))
}
