//! A foreign actix-web application that keeps its own features in its customers' databases.
//!
//! It shares an installation's control plane, verifies the same tokens and puts [`TenantDb`] into the signature of its
//! own handler. No server feature is needed:
//!
//! ```sh
//! export DATABASE_URL=…   # the control plane
//! export MASTER_KEY=…     # the installation's master key
//! export PUBLIC_URL=http://127.0.0.1:8080   # the issuer's base, as the server has it
//! cargo run --no-default-features --example embed
//! curl -H "Authorization: Bearer $TOKEN" http://127.0.0.1:8081/companies
//! ```

use std::error::Error;
use std::sync::Arc;

use actix_web::web::{Data, Json};
use actix_web::{App, HttpServer, Responder, get};
use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use secrecy::SecretString;
use tenantry::router::{self, ClaimsOnly, ControlPlaneRegistry, Router, RouterConfig, TenantDb};

diesel::table! {
    contacts (id) {
        id -> Uuid,
        company -> Nullable<Text>,
    }
}

/// The companies in the address book of whoever asks: `db` is their own database, and no other.
#[get("/companies")]
async fn companies(db: TenantDb) -> router::Result<impl Responder> {
    let names: Vec<Option<String>> = db
        .read(async |conn| {
            let query = contacts::table.select(contacts::company).distinct().order(contacts::company).limit(10);
            Ok::<_, router::Error>(query.load(conn).await?)
        })
        .await?;
    Ok(Json(names))
}

#[actix_web::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let registry = ControlPlaneRegistry::connect(
        &setting::<SecretString>("DATABASE_URL")?,
        &setting::<SecretString>("MASTER_KEY")?,
    )?;
    let config = RouterConfig::new(setting::<String>("PUBLIC_URL")?);
    let router = Router::start(Arc::new(registry), Arc::new(ClaimsOnly), config).await?;
    let data = Data::new(router.clone());
    let address = setting::<String>("LISTEN").unwrap_or_else(|_| "127.0.0.1:8081".to_owned());
    HttpServer::new(move || App::new().app_data(data.clone()).service(companies))
        // Whoever has gone away waits for no answer: their statement is cancelled.
        .h1_allow_half_closed(false)
        .bind(address)?
        .run()
        .await?;
    router.shutdown().await;
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "an embedding application reads its own configuration")]
fn setting<T: From<String>>(name: &str) -> Result<T, Box<dyn Error>> {
    std::env::var(name).map(T::from).map_err(|_| format!("set {name}; see the head of this file").into())
}
