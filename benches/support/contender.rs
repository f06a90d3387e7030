//! Who takes part: anything that answers twenty contacts at a URL.

use anyhow::{Context as _, Result, ensure};

use super::installation::Installation;
use super::server::Server;

/// A server that is up and answers twenty contacts.
pub trait Contender {
    /// As the report calls it.
    fn name(&self) -> &str;
    /// Where twenty contacts are to be had.
    fn url(&self) -> String;

    /// The addresses that the load is spread over, evenly and all at once.
    fn urls(&self) -> Vec<String> {
        vec![self.url()]
    }

    /// The `Authorization` header, where one is asked for.
    fn authorization(&self) -> Option<String>;

    /// One such header per tenant, where there are many.
    fn authorizations(&self) -> Vec<String> {
        self.authorization().into_iter().collect()
    }

    /// The PostgreSQL roles that it connects as, as a pattern of `LIKE`.
    fn roles(&self) -> String {
        TENANT_ROLES.to_owned()
    }
}

/// Tenantry connects as its tenants.
pub const TENANT_ROLES: &str = "t\\_%";

/// Tenantry, as one user of one tenant.
#[derive(Debug)]
pub struct Tenantry {
    url: String,
    access_token: String,
}

impl Tenantry {
    /// Logs in at that tenant as its first admin.
    pub async fn warm(installation: &Installation, slug: &str) -> Result<Self> {
        Ok(Self {
            url: format!("{}/api/v1/contacts?pageSize=20", installation.url()),
            access_token: installation.login(slug).await?,
        })
    }
}

impl Contender for Tenantry {
    fn name(&self) -> &str {
        "Tenantry"
    }

    fn url(&self) -> String {
        self.url.clone()
    }

    fn authorization(&self) -> Option<String> {
        Some(format!("Bearer {}", self.access_token))
    }
}

/// Tenantry, as one user of each of many tenants.
#[derive(Clone, Debug)]
pub struct Tenants {
    url: String,
    authorizations: Vec<String>,
}

impl Tenants {
    /// At a server, with the `Authorization` header of each tenant.
    pub fn new(server: &Server, authorizations: &[String]) -> Self {
        Self { url: format!("{}/api/v1/contacts?pageSize=20", server.url()), authorizations: authorizations.to_owned() }
    }
}

impl Contender for Tenants {
    fn name(&self) -> &str {
        "Tenantry"
    }

    fn url(&self) -> String {
        self.url.clone()
    }

    fn authorization(&self) -> Option<String> {
        self.authorizations.first().cloned()
    }

    fn authorizations(&self) -> Vec<String> {
        self.authorizations.clone()
    }
}

/// Refuses to measure a contender that does not answer what it is measured for.
pub async fn check(contender: &dyn Contender, rows: usize) -> Result<()> {
    check_as(contender, contender.authorization(), rows).await
}

/// The same for each of its tenants.
pub async fn check_all(contender: &dyn Contender, rows: usize) -> Result<()> {
    for authorization in contender.authorizations() {
        check_as(contender, Some(authorization), rows).await?;
    }
    Ok(())
}

async fn check_as(contender: &dyn Contender, authorization: Option<String>, rows: usize) -> Result<()> {
    let mut request = reqwest::Client::new().get(contender.url());
    if let Some(authorization) = authorization {
        request = request.header("authorization", authorization);
    }
    let answer = request.send().await?;
    ensure!(answer.status() == 200, "{} answered {}", contender.name(), answer.status());
    let body: serde_json::Value = answer.json().await?;
    let list = body.get("data").unwrap_or(&body).as_array().context("not a list")?;
    ensure!(list.len() == rows, "{} answered {} rows", contender.name(), list.len());
    Ok(())
}
