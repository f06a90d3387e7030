//! (c) naive: the usual way. A map of pools by tenant, four connections each, and an HS256 check per request.

use std::collections::{BTreeMap, HashMap};
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
use super::{Bound, bind, contact};

const CONNECTIONS_PER_TENANT: u32 = 4;
/// Signs nothing but the benchmark's own tokens.
const SECRET: &[u8] = b"the yardstick's secret, of thirty-two bytes and some";

#[derive(Debug, Deserialize, Serialize)]
struct Claims {
    tenant: String,
    exp: u64,
}

struct State {
    pools: HashMap<String, Pool<AsyncPgConnection>>,
    key: DecodingKey,
    validation: Validation,
}

/// Serves `GET /contacts` of whichever tenant the token names.
pub fn server(databases: &BTreeMap<String, String>, checkout_test: bool) -> Result<Bound> {
    let pools = databases
        .iter()
        .map(|(tenant, url)| (tenant.clone(), pool(url, CONNECTIONS_PER_TENANT, checkout_test)))
        .collect();
    let state = web::Data::from(Arc::new(State {
        pools,
        key: DecodingKey::from_secret(SECRET),
        validation: Validation::new(Algorithm::HS256),
    }));
    Ok(bind!(move || App::new().app_data(state.clone()).route("/contacts", web::get().to(list))))
}

/// A header that is good for the whole run.
pub fn authorization(tenant: &str) -> Result<String> {
    // The year 2100: the benchmark is not about expiry.
    let claims = Claims { tenant: tenant.to_owned(), exp: 4_102_444_800 };
    let token = encode(&Header::new(Algorithm::HS256), &claims, &EncodingKey::from_secret(SECRET))?;
    Ok(format!("Bearer {token}"))
}

async fn list(request: HttpRequest, state: web::Data<State>) -> actix_web::Result<HttpResponse> {
    let token = request
        .headers()
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "))
        .ok_or_else(|| ErrorUnauthorized("no token"))?;
    let claims = decode::<Claims>(token, &state.key, &state.validation).map_err(ErrorUnauthorized)?.claims;
    let pool = state.pools.get(&claims.tenant).ok_or_else(|| ErrorNotFound("no such tenant"))?;
    let mut conn = pool.get().await.map_err(ErrorServiceUnavailable)?;
    let rows = contact::load(&mut conn).await.map_err(ErrorServiceUnavailable)?;
    Ok(HttpResponse::Ok().json(rows))
}
