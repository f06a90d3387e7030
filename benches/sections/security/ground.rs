//! An installation with a thousand people of each kind, at which nothing slows a stranger down: an address of their own
//! for each request, and a lockout that forgets within a second. What is measured is the work.

use std::cell::RefCell;
use std::net::Ipv6Addr;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::{Value, json};

use super::postbox::Postbox;
use super::questions::{People, Question};
use crate::support::installation::Installation;
use crate::support::postgres;

/// Whose people are asked about.
pub const SLUG: &str = "acme";
/// People of each kind.
const PEOPLE: usize = 1_000;
/// The numbers of those with a second factor begin here.
const FACTORS: usize = 20_000;

pub struct Ground {
    installation: Installation,
    postbox: Postbox,
    client: reqwest::Client,
    database: tokio_postgres::Client,
    dice: RefCell<StdRng>,
    token: String,
}

impl Ground {
    /// Starts it, and brings its people along.
    pub async fn start() -> Result<Self> {
        let postbox = Postbox::open()?;
        let settings = [
            ("TENANTRY_HTTP__TRUSTED_PROXIES", "127.0.0.0/8"),
            ("TENANTRY_AUTH__LOCKOUT_WINDOW", "1s"),
            ("TENANTRY_LOG__LEVEL", "error"),
            ("TENANTRY_SMTP_URL", postbox.url()),
        ];
        let installation = Installation::start(&settings).await?;
        let database = postgres::connect(&installation.tenant_database_url(SLUG).await?).await?;
        let token = installation.login(SLUG).await?;
        let ground = Self {
            client: reqwest::Client::new(),
            dice: RefCell::new(StdRng::seed_from_u64(1)),
            installation,
            postbox,
            database,
            token,
        };
        for people in [People::Known, People::WithFactor] {
            bring(&ground.installation, &ground.token, SLUG, PEOPLE, |number| address(people, number)).await?;
        }
        ground
            .database
            .execute(
                "INSERT INTO second_factors (user_id, totp_sealed, confirmed_at, created_at) \
                 SELECT id, '\\x00', now(), now() FROM users WHERE email >= $1 AND email LIKE '%@people.example'",
                &[&address(People::WithFactor, 0)],
            )
            .await?;
        ground.database.batch_execute("ANALYZE").await?;
        let policy = json!({"mode": "open", "verifyEmail": true});
        ground.expect(reqwest::Method::PATCH, "/api/v1/sign-up-policy", &policy, 200).await?;
        Ok(ground)
    }

    async fn expect(&self, method: reqwest::Method, path: &str, body: &Value, status: u16) -> Result<()> {
        let request = self.client.request(method, format!("{}{path}", self.installation.url()));
        let answer = request.bearer_auth(&self.token).json(body).send().await?;
        let answered = answer.status();
        ensure!(answered == status, "{path} answered {answered}: {}", answer.text().await?);
        Ok(())
    }

    /// The token of an invitation for somebody else.
    pub async fn invitation(&self) -> Result<String> {
        let people = json!({"people": [{"email": "invited@people.example", "roles": ["user"]}]});
        self.expect(reqwest::Method::POST, "/api/v1/invitations", &people, 201).await?;
        self.postbox.invitation().await
    }

    /// Which kind of people the next sample is of.
    pub fn toss(&self) -> bool {
        self.dice.borrow_mut().random()
    }

    /// Empties the outbox, which takes only so many mails that strangers cause.
    pub async fn tidy(&self) -> Result<()> {
        Ok(self.database.batch_execute("TRUNCATE mail_outbox").await?)
    }

    /// Asks one question, and gives the milliseconds until its answer was there, and what that says.
    pub async fn time(&self, question: &Question, known: bool, turn: usize) -> Result<(f64, Value)> {
        let people = question.people[usize::from(!known)];
        let email = address(people, self.dice.borrow_mut().random_range(0..PEOPLE));
        // A network of its own.
        let from = Ipv6Addr::from_bits((0x2001_0db8_u128 << 96) | ((turn as u128) << 64) | 1);
        let request = self
            .client
            .post(format!("{}{}", self.installation.url(), question.path))
            .header("x-forwarded-for", from.to_string())
            .json(&(question.body)(&email))
            .build()?;
        let begun = Instant::now();
        let answer = self.client.execute(request).await?;
        let status = answer.status();
        let body = answer.bytes().await?;
        let took = begun.elapsed().as_secs_f64() * 1000.0;
        ensure!(
            status == question.status,
            "{} answered {status} for {email}: {}",
            question.name,
            String::from_utf8_lossy(&body)
        );
        let mut body: Value = serde_json::from_slice(&body).context("no JSON")?;
        for part in ["meta", "error"] {
            body[part]["requestId"] = Value::Null;
        }
        Ok((took, body))
    }
}

/// Alike but for their numbers, so that nothing but the account makes a difference.
fn address(people: People, number: usize) -> String {
    let number = match people {
        People::Known => 2 * number,
        People::Unknown => 2 * number + 1,
        People::WithFactor => FACTORS + 2 * number,
    };
    format!("u{number:05}@people.example")
}

/// What the people that are brought along have as their password.
pub const PASSWORD: &str = "correct horse battery staple";

/// Brings so many people along, with hashes as this version makes them.
pub async fn bring(
    installation: &Installation,
    token: &str,
    slug: &str,
    people: usize,
    address: impl Fn(usize) -> String,
) -> Result<()> {
    let hash = hash()?;
    let users: Vec<Value> =
        (0..people).map(|number| json!({"email": address(number), "passwordHash": hash, "roles": ["user"]})).collect();
    for some in users.chunks(1_000) {
        let request = reqwest::Client::new().post(format!("{}/api/v1/users/import", installation.url()));
        let answer = request.bearer_auth(token).json(&json!({"users": some})).send().await?;
        let status = answer.status();
        ensure!(status == 201, "the import at {slug} answered {status}: {}", answer.text().await?);
    }
    Ok(())
}

fn hash() -> Result<String> {
    let (salt, mut digest) = (*b"a salt of no use", [0; 32]);
    let params = Params::new(19_456, 2, 1, Some(digest.len())).map_err(|error| anyhow::anyhow!("{error}"))?;
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(PASSWORD.as_bytes(), &salt, &mut digest)
        .map_err(|error| anyhow::anyhow!("{error}"))?;
    Ok(format!("$argon2id$v=19$m=19456,t=2,p=1${}${}", BASE64.encode(salt), BASE64.encode(digest)))
}
