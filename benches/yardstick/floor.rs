//! (b) floor: two connections, one per worker, requests pipelined over them. What the driver itself can do.

use actix_web::error::ErrorServiceUnavailable;
use actix_web::{App, HttpResponse, web};
use anyhow::Result;
use tokio::sync::OnceCell;
use tokio_postgres::{Client, Statement};

use super::{Bound, bind, contact};
use crate::support::postgres;

/// A worker's connection, opened by its first request.
struct Worker {
    database_url: String,
    connection: OnceCell<(Client, Statement)>,
}

/// Serves `GET /contacts` of this database.
pub fn server(database_url: &str) -> Result<Bound> {
    let database_url = database_url.to_owned();
    Ok(bind!(move || {
        let worker = Worker { database_url: database_url.clone(), connection: OnceCell::new() };
        App::new().app_data(web::Data::new(worker)).route("/contacts", web::get().to(list))
    }))
}

impl Worker {
    async fn connection(&self) -> Result<&(Client, Statement)> {
        self.connection
            .get_or_try_init(async || {
                let client = postgres::connect(&self.database_url).await?;
                let statement = client.prepare(contact::QUERY).await?;
                Ok((client, statement))
            })
            .await
    }
}

async fn list(worker: web::Data<Worker>) -> actix_web::Result<HttpResponse> {
    let (client, statement) = worker.connection().await.map_err(ErrorServiceUnavailable)?;
    let rows = client.query(statement, &[]).await.map_err(ErrorServiceUnavailable)?;
    Ok(HttpResponse::Ok().json(contact::from_rows(&rows).map_err(ErrorServiceUnavailable)?))
}
