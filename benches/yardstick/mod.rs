//! What Tenantry is compared with: small servers of the same twenty contacts, each a process of its own.

mod bare;
mod capped;
pub mod contact;
mod fastify;
mod floor;
mod naive;
mod pgbouncer;
mod through;

use std::collections::BTreeMap;
use std::process::Stdio;

use actix_web::dev::Server;
use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::Effort;
use crate::support::contender::Contender;
use crate::support::estate::yardstick_role;

pub use fastify::start as start_fastify;
pub use pgbouncer::start as start_pgbouncer;

/// HTTP workers of each yardstick.
const WORKERS: usize = 2;

/// What a yardstick is told, on its standard input: URLs carry passwords, and arguments are for everyone to read.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Order {
    /// URLs by tenant.
    databases: BTreeMap<String, String>,
    /// Whether bb8 tests a connection before it hands it out.
    checkout_test: bool,
    /// The most connections in all.
    cap: Option<usize>,
    /// The most connections that are opened at a time.
    openings: Option<usize>,
    /// What tokens are signed with.
    secret: String,
}

impl Order {
    fn new(databases: &BTreeMap<String, String>, effort: Effort) -> Self {
        Self {
            databases: databases.clone(),
            checkout_test: effort.checkout_test,
            cap: None,
            openings: None,
            secret: naive::SECRET.to_owned(),
        }
    }
}

/// What it answers, once it listens.
#[derive(Debug, Deserialize, Serialize)]
struct Listening {
    url: String,
}

/// A yardstick that is up; it ends when this is dropped.
#[derive(Debug)]
pub struct Yardstick {
    name: String,
    role: String,
    url: String,
    authorizations: Vec<String>,
    child: Child,
    _helper: Option<Child>,
}

impl Yardstick {
    /// The process.
    pub fn id(&self) -> Result<u32> {
        self.child.id().context("it has ended")
    }
}

impl Contender for Yardstick {
    fn name(&self) -> &str {
        &self.name
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

    fn roles(&self) -> String {
        self.role.replace('_', "\\_")
    }
}

/// Starts this program again as the yardstick `name`, on these databases by tenant.
pub async fn start(name: &str, databases: &BTreeMap<String, String>, effort: Effort) -> Result<Yardstick> {
    run(name, name, this_program(name)?, &Order::new(databases, effort)).await
}

/// The naive pools under a common cap, which steal idle connections from each other; with `openings`, no more than so
/// many connections are opened at a time.
pub async fn start_capped(
    databases: &BTreeMap<String, String>,
    cap: usize,
    openings: Option<usize>,
    effort: Effort,
) -> Result<Yardstick> {
    let (name, role) = match openings {
        Some(openings) => (format!("capped, {openings} openings at a time"), "capped_openings"),
        None => ("capped".to_owned(), "capped"),
    };
    let order = Order { cap: Some(cap), openings, ..Order::new(databases, effort) };
    run(&name, role, this_program("capped")?, &order).await
}

fn this_program(name: &str) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["serve", name]);
    Ok(command)
}

/// Starts a program that reads an [`Order`] and answers [`Listening`].
async fn run(name: &str, role: &str, mut command: Command, order: &Order) -> Result<Yardstick> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
    let mut input = child.stdin.take().context("a pipe to the yardstick")?;
    input.write_all(&serde_json::to_vec(order)?).await?;
    drop(input);
    let mut line = String::new();
    BufReader::new(child.stdout.take().context("a pipe from the yardstick")?).read_line(&mut line).await?;
    let listening: Listening =
        serde_json::from_str(&line).with_context(|| format!("the yardstick {name} did not start"))?;
    let authorizations = if NOT_ASKING.contains(&name) {
        Ok(Vec::new())
    } else {
        order.databases.keys().map(naive::authorization).collect()
    };
    Ok(Yardstick {
        name: name.to_owned(),
        role: yardstick_role(role),
        url: listening.url,
        authorizations: authorizations?,
        child,
        _helper: None,
    })
}

/// Yardsticks of one database, which take everybody for its owner.
const NOT_ASKING: [&str; 2] = ["bare", "floor"];

/// The child's side of [`start`]: serves until it is killed.
pub async fn serve(name: &str) -> Result<()> {
    let order: Order = serde_json::from_reader(std::io::stdin())?;
    let url = order.databases.values().next().context("no database")?;
    let (server, port) = match name {
        "bare" => bare::server(url, order.checkout_test)?,
        "floor" => floor::server(url)?,
        "naive" => naive::server(&order)?,
        "capped" => capped::server(&order)?,
        "pgbouncer" => through::server(&order)?,
        other => bail!("no yardstick {other}"),
    };
    let listening = Listening { url: format!("http://127.0.0.1:{port}/contacts") };
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
