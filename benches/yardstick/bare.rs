//! (a) bare: one database, eight pooled connections, nobody asked who he is.

use actix_web::error::ErrorServiceUnavailable;
use actix_web::{App, HttpResponse, web};
use anyhow::Result;
use diesel_async::AsyncPgConnection;
use diesel_async::pooled_connection::AsyncDieselConnectionManager;
use diesel_async::pooled_connection::bb8::Pool;

use super::{Bound, bind, contact};

const CONNECTIONS: u32 = 8;

/// Serves `GET /contacts` of this database.
pub fn server(database_url: &str, checkout_test: bool) -> Result<Bound> {
    let pool = pool(database_url, CONNECTIONS, checkout_test);
    Ok(bind!(move || App::new().app_data(web::Data::new(pool.clone())).route("/contacts", web::get().to(list))))
}

/// A bb8 pool as its documentation makes it.
pub fn pool(database_url: &str, connections: u32, checkout_test: bool) -> Pool<AsyncPgConnection> {
    let manager = AsyncDieselConnectionManager::<AsyncPgConnection>::new(database_url);
    Pool::builder().max_size(connections).test_on_check_out(checkout_test).build_unchecked(manager)
}

async fn list(pool: web::Data<Pool<AsyncPgConnection>>) -> actix_web::Result<HttpResponse> {
    let mut conn = pool.get().await.map_err(ErrorServiceUnavailable)?;
    let rows = contact::load(&mut conn).await.map_err(ErrorServiceUnavailable)?;
    Ok(HttpResponse::Ok().json(rows))
}
