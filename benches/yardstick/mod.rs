//! What Tenantry is compared with: three small servers of the same twenty contacts, each a process of its own.

mod bare;
pub mod contact;
mod floor;
mod naive;

use std::collections::BTreeMap;
use std::process::Stdio;

use actix_web::dev::Server;
use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::Effort;
use crate::support::contender::Contender;

/// HTTP workers of each yardstick.
const WORKERS: usize = 2;

/// What a yardstick is told, on its standard input: URLs carry passwords, and arguments are for everyone to read.
#[derive(Debug, Deserialize, Serialize)]
struct Order {
    databases: BTreeMap<String, String>,
    checkout_test: bool,
}

/// What it answers, once it listens.
#[derive(Debug, Deserialize, Serialize)]
struct Listening {
    url: String,
    authorization: Option<String>,
}

/// A yardstick that is up; it ends when this is dropped.
#[derive(Debug)]
pub struct Yardstick {
    name: String,
    listening: Listening,
    _child: Child,
}

impl Contender for Yardstick {
    fn name(&self) -> &str {
        &self.name
    }

    fn url(&self) -> String {
        self.listening.url.clone()
    }

    fn authorization(&self) -> Option<String> {
        self.listening.authorization.clone()
    }
}

/// Starts this program again as the yardstick `name`, on these databases by tenant.
pub async fn start(name: &str, databases: &BTreeMap<String, String>, effort: Effort) -> Result<Yardstick> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(["serve", name])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let order = Order { databases: databases.clone(), checkout_test: effort.checkout_test };
    let mut input = child.stdin.take().context("a pipe to the yardstick")?;
    input.write_all(&serde_json::to_vec(&order)?).await?;
    drop(input);
    let mut line = String::new();
    BufReader::new(child.stdout.take().context("a pipe from the yardstick")?).read_line(&mut line).await?;
    let listening = serde_json::from_str(&line).with_context(|| format!("the yardstick {name} did not start"))?;
    Ok(Yardstick { name: name.to_owned(), listening, _child: child })
}

/// The child's side of [`start`]: serves until it is killed.
pub async fn serve(name: &str) -> Result<()> {
    let order: Order = serde_json::from_reader(std::io::stdin())?;
    let (tenant, url) = order.databases.first_key_value().context("no database")?;
    let ((server, port), authorization) = match name {
        "bare" => (bare::server(url, order.checkout_test)?, None),
        "floor" => (floor::server(url)?, None),
        "naive" => (naive::server(&order.databases, order.checkout_test)?, Some(naive::authorization(tenant)?)),
        other => bail!("no yardstick {other}"),
    };
    let listening = Listening { url: format!("http://127.0.0.1:{port}/contacts"), authorization };
    println!("{}", serde_json::to_string(&listening)?);
    Ok(server.await?)
}

/// A server that is bound, with its port.
type Bound = (Server, u16);

/// Binds to any free port of the loopback and serves with [`WORKERS`] workers.
macro_rules! bind {
    ($app:expr) => {{
        let server = ::actix_web::HttpServer::new($app).workers($crate::yardstick::WORKERS).bind(("127.0.0.1", 0))?;
        let port = server.addrs().first().map_or(0, ::std::net::SocketAddr::port);
        (server.run(), port)
    }};
}
use bind;
