//! Who takes part: anything that answers twenty contacts at a URL.

use anyhow::{Context as _, Result, ensure};

use super::installation::Installation;

/// A server that is up and answers twenty contacts.
pub trait Contender {
    /// As the report calls it.
    fn name(&self) -> &str;
    /// Where twenty contacts are to be had.
    fn url(&self) -> String;
    /// The `Authorization` header, where one is asked for.
    fn authorization(&self) -> Option<String>;
}

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

/// Refuses to measure a contender that does not answer what it is measured for.
pub async fn check(contender: &dyn Contender, rows: usize) -> Result<()> {
    let mut request = reqwest::Client::new().get(contender.url());
    if let Some(authorization) = contender.authorization() {
        request = request.header("authorization", authorization);
    }
    let answer = request.send().await?;
    ensure!(answer.status() == 200, "{} answered {}", contender.name(), answer.status());
    let body: serde_json::Value = answer.json().await?;
    let list = body.get("data").unwrap_or(&body).as_array().context("not a list")?;
    ensure!(list.len() == rows, "{} answered {} rows", contender.name(), list.len());
    Ok(())
}
