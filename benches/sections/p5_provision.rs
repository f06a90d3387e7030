//! P5: from signing up to the first answered request of the new tenant, from the stock and without one, against one bare
//! `CREATE DATABASE … TEMPLATE` of the same template.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tenantry::rest::passwords::{Passwords, Peppers};
use tokio_postgres::Client;

use crate::Effort;
use crate::support::installation::Installation;
use crate::support::postgres;
use crate::support::spread::{Spread, ratios};

const PASSWORD: &str = "correct horse battery staple";
/// How long a stock may take to fill.
const FILL: Duration = Duration::from_secs(60);

/// An installation, and a stranger who signs up there.
struct Place {
    installation: Installation,
    client: reqwest::Client,
    server: Client,
    control: Client,
    stock: i64,
}

impl Place {
    async fn new(stock: i64) -> Result<Self> {
        let size = stock.to_string();
        let installation = Installation::start(&[("TENANTRY_FLEET__READY_TENANTS", &size)]).await?;
        let server = postgres::connect(&installation.cluster_url(None)?).await?;
        let control = postgres::connect(&installation.cluster_url(Some("tenantry_control"))?).await?;
        Ok(Self { installation, client: reqwest::Client::new(), server, control, stock })
    }

    /// Waits until the stock is full, and nobody works on it.
    async fn ready(&self) -> Result<()> {
        let begun = Instant::now();
        loop {
            let count = "SELECT count(*) FILTER (WHERE state = 'ready'), count(*) FROM ready_tenants";
            let row = self.control.query_one(count, &[]).await?;
            if (row.get::<_, i64>(0), row.get::<_, i64>(1)) == (self.stock, self.stock) {
                return Ok(());
            }
            ensure!(begun.elapsed() < FILL, "the stock is not full after {FILL:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Milliseconds from the request to sign up to the first answer that only the new tenant's database can give.
    async fn sign_up(&self, slug: &str) -> Result<f64> {
        let admin = json!({"email": format!("a@{slug}.test"), "password": PASSWORD, "firstName": "A", "lastName": "B"});
        let body = json!({"name": slug, "slug": slug, "admin": admin});
        let url = self.installation.url();
        let start = Instant::now();
        let answer = self.client.post(format!("{url}/api/v1/tenants")).json(&body).send().await?;
        let status = answer.status();
        let answer: Value = answer.json().await?;
        ensure!(status == 201, "signing up was answered {status}: {answer}");
        let token = answer["data"]["accessToken"].as_str().context("no token")?;
        let list = self.client.get(format!("{url}/api/v1/contacts?pageSize=20")).bearer_auth(token).send().await?;
        ensure!(list.status() == 200, "the first request was answered {}", list.status());
        list.bytes().await?;
        Ok(milliseconds(start))
    }

    /// Milliseconds of the bare statement, with the template that its tenants are cloned from.
    async fn bare(&self, n: usize) -> Result<f64> {
        let query = "SELECT datname FROM pg_database WHERE NOT datallowconn AND datname <> 'template0' LIMIT 1";
        let template = self.server.query_opt(query, &[]).await?.context("the cluster has no template of Tenantry's")?;
        let template: String = template.get(0);
        let start = Instant::now();
        self.server.batch_execute(&format!("CREATE DATABASE bench_bare_{n} TEMPLATE \"{template}\"")).await?;
        let took = milliseconds(start);
        self.server.batch_execute(&format!("DROP DATABASE bench_bare_{n}")).await?;
        Ok(took)
    }
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1000.0
}

pub async fn run(effort: Effort) -> Result<()> {
    let (stocked, empty) = (Place::new(2).await?, Place::new(0).await?);
    let passwords = Passwords::new(1, Peppers::default());
    let (mut bare, mut hash, mut from_stock, mut without) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for n in 0..effort.rounds * 3 {
        stocked.ready().await?;
        from_stock.push(stocked.sign_up(&format!("stock-{n:03}")).await?);
        stocked.ready().await?;
        let start = Instant::now();
        passwords.of_nobody().hash(PASSWORD.into()).await.map_err(|error| anyhow::anyhow!("{error}"))?;
        hash.push(milliseconds(start));
        bare.push(empty.bare(n).await?);
        without.push(empty.sign_up(&format!("empty-{n:03}")).await?);
    }

    let less_hash = |whole: &[f64]| whole.iter().zip(&hash).map(|(whole, hash)| whole - hash).collect::<Vec<_>>();
    let (stock_less, without_less) = (less_hash(&from_stock), less_hash(&without));
    println!("\n### P5: from signing up to the first answer, {} times\n", bare.len());
    println!("| | ms (min / median / max) | ratio to the bare statement |");
    println!("|---|---|---|");
    println!("| bare `CREATE DATABASE … TEMPLATE` | {:.1} | |", Spread::of(&bare));
    println!("| one password hash | {:.1} | |", Spread::of(&hash));
    for (name, row) in [
        ("from the stock", &from_stock),
        ("from the stock, less one hash", &stock_less),
        ("without stock", &without),
        ("without stock, less one hash", &without_less),
    ] {
        println!("| {name} | {:.1} | {:.2} |", Spread::of(row), Spread::of(&ratios(row, &bare)));
    }
    Ok(())
}
