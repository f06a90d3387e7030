//! (c) naive: the usual way. A map of pools by tenant, four connections each, and an HS256 check per request.

use std::collections::HashMap;
use std::sync::Arc;

use actix_web::error::{ErrorNotFound, ErrorServiceUnavailable, ErrorUnauthorized};
use actix_web::http::header;
use actix_web::{App, HttpRequest, HttpResponse, web};
use anyhow::Result;
use diesel_async::AsyncPgConnection;
use diesel_async::pooled_connection::bb8::Pool;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use serde::{Deserialize, Serialize};

use super::bare::pool;
use super::{Bound, Order, bind, contact};

/// The most connections of one tenant.
pub const CONNECTIONS_PER_TENANT: u32 = 4;
/// Signs nothing but the benchmark's own tokens.
pub const SECRET: &str = "the yardstick's secret, of thirty-two bytes and some";

#[derive(Debug, Deserialize, Serialize)]
struct Claims {
    tenant: String,
    exp: u64,
}

/// Who a request is from: the usual check.
pub struct Verifier {
    key: DecodingKey,
    validation: Validation,
}

struct State {
    pools: HashMap<String, Pool<AsyncPgConnection>>,
    verifier: Verifier,
}

/// Serves `GET /contacts` of whichever tenant the token names.
pub fn server(order: &Order) -> Result<Bound> {
    let pool = |url: &str| pool(url, CONNECTIONS_PER_TENANT, order.checkout_test);
    let pools = order.databases.iter().map(|(tenant, url)| (tenant.clone(), pool(url))).collect();
    let state = web::Data::from(Arc::new(State { pools, verifier: Verifier::new(&order.secret) }));
    Ok(bind!(move || App::new().app_data(state.clone()).route("/contacts", web::get().to(list))))
}

/// A header that is good for the whole run.
pub fn authorization(tenant: impl Into<String>) -> Result<String> {
    // The year 2100: the benchmark is not about expiry.
    let claims = Claims { tenant: tenant.into(), exp: 4_102_444_800 };
    let token = encode(&Header::new(Algorithm::HS256), &claims, &EncodingKey::from_secret(SECRET.as_bytes()))?;
    Ok(format!("Bearer {token}"))
}

impl Verifier {
    /// With this secret.
    pub fn new(secret: &str) -> Self {
        Self { key: DecodingKey::from_secret(secret.as_bytes()), validation: Validation::new(Algorithm::HS256) }
    }

    /// The tenant that a request is for.
    pub fn tenant(&self, request: &HttpRequest) -> actix_web::Result<String> {
        let token = request
            .headers()
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "))
            .ok_or_else(|| ErrorUnauthorized("no token"))?;
        Ok(decode::<Claims>(token, &self.key, &self.validation).map_err(ErrorUnauthorized)?.claims.tenant)
    }
}

async fn list(request: HttpRequest, state: web::Data<State>) -> actix_web::Result<HttpResponse> {
    let tenant = state.verifier.tenant(&request)?;
    let pool = state.pools.get(&tenant).ok_or_else(|| ErrorNotFound("no such tenant"))?;
    let mut conn = pool.get().await.map_err(ErrorServiceUnavailable)?;
    let rows = contact::load(&mut conn).await.map_err(ErrorServiceUnavailable)?;
    Ok(HttpResponse::Ok().json(rows))
}
