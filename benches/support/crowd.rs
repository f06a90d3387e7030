//! Callers by the program itself: a crowd that presses one tenant, and a steady trickle whose latency is watched.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use futures_util::future::join_all;
use serde_json::Value;
use tokio::time::MissedTickBehavior;

use super::contender::Contender;
use super::draw::Traffic;
use super::failures::Failures;
use super::load::Sample;
use super::spread::percentile;

/// How long a caller waits for an answer before he counts as failed.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a refused caller waits who was not told how long.
const PAUSE: Duration = Duration::from_secs(1);

/// One answer, or none.
#[derive(Clone, Debug)]
pub struct Reply {
    /// When it was asked for, since the beginning.
    pub asked: Duration,
    /// How long it took.
    pub took: Duration,
    /// Its status; 0 for no answer.
    pub status: u16,
    /// What was the matter, if it was not good: `503 pool_timeout`, `timeout`.
    pub failure: Option<String>,
    /// Whether it said when to come again.
    pub retry_after: Option<Duration>,
}

async fn ask(client: &reqwest::Client, url: &str, authorization: &str, begun: Instant) -> Reply {
    let asked = begun.elapsed();
    let sent = async {
        let answer = client.get(url).header("authorization", authorization).send().await?;
        let status = answer.status().as_u16();
        let retry_after = answer.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
        let body = answer.bytes().await?;
        let failure = (!(200..300).contains(&status)).then(|| format!("{status} {}", code(&body)));
        Ok((status, failure, retry_after.map(Duration::from_secs)))
    };
    let (status, failure, retry_after) =
        sent.await.unwrap_or_else(|error| (0, Some(without_answer(&error).to_owned()), None));
    Reply { asked, took: begun.elapsed().saturating_sub(asked), status, failure, retry_after }
}

/// What went wrong, in the API's words.
fn code(body: &[u8]) -> String {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    body["error"]["code"].as_str().unwrap_or("without a code").to_owned()
}

fn without_answer(error: &reqwest::Error) -> &'static str {
    if error.is_timeout() {
        "timeout"
    } else if error.is_connect() {
        "not connected"
    } else {
        "connection broken"
    }
}

/// Those of them that were no good.
pub fn failures(replies: &[Reply]) -> Failures {
    replies.iter().filter_map(|reply| reply.failure.as_deref()).collect()
}

/// So many callers of one tenant, each asking again as soon as he has been answered; a refused one waits as long as he
/// was told to. In a thread of its own: whoever measures others is not kept waiting by its work.
#[derive(Debug)]
pub struct Crowd {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<Result<Vec<Reply>>>,
}

impl Crowd {
    /// Begins to ask for this URL.
    pub fn gather(callers: usize, url: &str, authorization: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let caller = Caller { url: url.to_owned(), authorization: authorization.to_owned(), stop: stop.clone() };
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async move {
                let client = reqwest::Client::builder().timeout(PATIENCE).build()?;
                let begun = Instant::now();
                let replies = join_all((0..callers).map(|_| caller.go_on(&client, begun))).await;
                Ok(replies.concat())
            })
        });
        Self { stop, thread }
    }

    /// Lets everybody finish; gives what they were answered.
    pub async fn disperse(self) -> Result<Vec<Reply>> {
        self.stop.store(true, Ordering::Relaxed);
        let joined = tokio::task::spawn_blocking(move || self.thread.join()).await?;
        joined.map_err(|_| anyhow!("a caller panicked"))?
    }
}

/// One of them.
#[derive(Debug)]
struct Caller {
    url: String,
    authorization: String,
    stop: Arc<AtomicBool>,
}

impl Caller {
    async fn go_on(&self, client: &reqwest::Client, begun: Instant) -> Vec<Reply> {
        let mut replies = Vec::new();
        while !self.stop.load(Ordering::Relaxed) {
            let reply = ask(client, &self.url, &self.authorization, begun).await;
            let pause = reply.failure.is_some().then(|| reply.retry_after.unwrap_or(PAUSE));
            replies.push(reply);
            if let Some(pause) = pause {
                tokio::time::sleep(pause).await;
            }
        }
        replies
    }
}

/// Asks so many times a second, whatever has been answered meanwhile, each time for a tenant of the contender's.
pub async fn trickle(contender: &dyn Contender, rate: u64, seed: u64, seconds: u64) -> Result<Sample> {
    let (url, authorizations) = (contender.url(), contender.authorizations());
    let client = reqwest::Client::builder().timeout(PATIENCE).build()?;
    let replies = Rc::new(RefCell::new(Vec::new()));
    let mut beat = tokio::time::interval(Duration::from_secs(1) / u32::try_from(rate)?);
    beat.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let begun = Instant::now();
    let mut callers = Vec::new();
    let draw = Traffic::Uniform.draw(authorizations.len(), seed);
    for tenant in draw.into_iter().cycle().take(usize::try_from(rate * seconds)?) {
        beat.tick().await;
        let (client, url, authorization) = (client.clone(), url.clone(), authorizations[tenant].clone());
        let replies = replies.clone();
        callers.push(tokio::task::spawn_local(async move {
            let reply = ask(&client, &url, &authorization, begun).await;
            replies.borrow_mut().push(reply);
        }));
    }
    for done in join_all(callers).await {
        done?;
    }
    let took: Vec<f64> = replies.borrow().iter().map(|reply| reply.took.as_secs_f64() * 1000.0).collect();
    let failed = failures(&replies.borrow());
    let good = took.len() as u64 - failed.count();
    Ok(Sample {
        rate: good as f64 / begun.elapsed().as_secs_f64(),
        p50_ms: percentile(&took, 0.5),
        p99_ms: percentile(&took, 0.99),
        failed,
    })
}
