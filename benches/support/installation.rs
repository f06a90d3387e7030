//! A Tenantry of its own, started as a newcomer would: `tenantry dev`, in a folder that goes away afterwards.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Deserialize;
use serde_json::{Value, json};

const PROGRAM: &str = env!("CARGO_BIN_EXE_tenantry");
/// A first start makes a PostgreSQL cluster, a control plane and the demo tenants.
const START_DEADLINE: Duration = Duration::from_secs(180);
const STOP_DEADLINE: Duration = Duration::from_secs(30);

/// The running `tenantry dev`; stopped, and its folder removed, when dropped.
#[derive(Debug)]
pub struct Installation {
    child: Child,
    ready: Ready,
    // After the child, so that the folder goes when nobody is in it.
    folder: tempfile::TempDir,
}

/// What `tenantry dev` says about itself once it serves.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Ready {
    url: String,
    cluster_admin_url: String,
    tenants: Vec<Tenant>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Tenant {
    slug: String,
    admin_email: String,
    admin_password: String,
}

impl Installation {
    /// Starts one with these environment variables besides, and waits until it serves.
    pub async fn start(settings: &[(&str, &str)]) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("tenantry-bench-").tempdir()?;
        open_to_all(folder.path())?;
        let data = folder.path().join("data");
        let log = folder.path().join("log");
        let mut child = Command::new(PROGRAM)
            .args(["dev", "--port", "0", "--data-dir"])
            .arg(&data)
            .envs(settings.iter().copied())
            .stdin(Stdio::null())
            .stdout(File::create(&log)?)
            .stderr(File::options().append(true).open(&log)?)
            .spawn()
            .context("starting tenantry dev")?;

        let deadline = Instant::now() + START_DEADLINE;
        let ready = loop {
            // Half a file does not parse: the next look will find it whole.
            if let Some(ready) = fs::read(data.join("ready.json")).ok().and_then(|t| serde_json::from_slice(&t).ok()) {
                break ready;
            }
            let ended = child.try_wait()?;
            if ended.is_some() || Instant::now() > deadline {
                stop(&mut child);
                bail!("tenantry dev did not get ready ({ended:?}):\n{}", fs::read_to_string(&log).unwrap_or_default());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        Ok(Self { child, ready, folder })
    }

    /// The public listener, without a slash at the end.
    pub fn url(&self) -> &str {
        self.ready.url.trim_end_matches('/')
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What the tenant's first admin logs in with.
    pub fn login_body(&self, slug: &str) -> Result<Value> {
        let tenant = self.ready.tenants.iter().find(|tenant| tenant.slug == slug).context("no such demo tenant")?;
        Ok(json!({"tenant": slug, "email": tenant.admin_email, "password": tenant.admin_password}))
    }

    /// An access token of the tenant's first admin.
    pub async fn login(&self, slug: &str) -> Result<String> {
        self.token("/api/v1/auth/login", &self.login_body(slug)?).await
    }

    async fn token(&self, path: &str, body: &Value) -> Result<String> {
        let answer = reqwest::Client::new().post(format!("{}{path}", self.url())).json(body).send().await?;
        let status = answer.status();
        let body: Value = answer.json().await?;
        let token = body["data"]["accessToken"].as_str().map(str::to_owned);
        token.with_context(|| format!("{path} answered {status} without a token"))
    }

    /// The cluster's admin URL, on another database where one is named.
    pub fn cluster_url(&self, database: Option<&str>) -> Result<String> {
        let mut url = url::Url::parse(&self.ready.cluster_admin_url)?;
        if let Some(database) = database {
            url.set_path(&format!("/{database}"));
        }
        Ok(url.into())
    }

    /// The name of the tenant's database, as the command line tells it.
    pub async fn database_name(&self, slug: &str) -> Result<String> {
        let output = tokio::process::Command::new(PROGRAM)
            .args(["tenant", "show", slug, "--output", "json", "--data-dir"])
            .arg(self.folder.path().join("data"))
            .stdin(Stdio::null())
            .output()
            .await?;
        ensure!(output.status.success(), "tenant show: {}", String::from_utf8_lossy(&output.stderr));
        let tenant: Value = serde_json::from_slice(&output.stdout)?;
        Ok(tenant["databaseName"].as_str().context("tenant show names no databaseName")?.to_owned())
    }

    /// The tenant's database, through the cluster's admin.
    pub async fn tenant_database_url(&self, slug: &str) -> Result<String> {
        self.cluster_url(Some(&self.database_name(slug).await?))
    }
}

/// PostgreSQL may run as another user, who must be able to pass through.
pub fn open_to_all(folder: &Path) -> Result<()> {
    Ok(fs::set_permissions(folder, fs::Permissions::from_mode(0o711))?)
}

impl Drop for Installation {
    fn drop(&mut self) {
        stop(&mut self.child);
    }
}

/// As Ctrl-C does; harder if that does not help.
fn stop(child: &mut Child) {
    if let Ok(id) = i32::try_from(child.id()) {
        let _ = kill(Pid::from_raw(id), Signal::SIGINT);
    }
    let deadline = Instant::now() + STOP_DEADLINE;
    while matches!(child.try_wait(), Ok(None)) {
        if Instant::now() > deadline {
            eprintln!("tenantry dev had to be killed");
            let _ = child.kill();
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
