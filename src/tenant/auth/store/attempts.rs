//! The history of logins, which the limits count.

use chrono::{DateTime, TimeDelta, Utc};
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Bool, Bytea, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use crate::kernel::UserId;
use crate::rest::Client;
use crate::router::TenantConn;
use crate::tenant::auth::rules::{Limits, address_matters};
use crate::tenant::schema::login_attempts;

/// How long a failure on an account that is no person's is kept.
const UNKNOWN_KEPT: TimeDelta = TimeDelta::days(1);
/// How long any other is kept: a person's login history goes back as far.
const KEPT: TimeDelta = TimeDelta::days(90);
/// How long an address is known after somebody came in from it.
const KNOWN_FOR: TimeDelta = TimeDelta::days(30);
/// How long a program's good secret need not be noted again: well before its address is known no more.
const RENEWED: TimeDelta = TimeDelta::days(7);
/// The newest failures among which accounts are counted.
const LOOKED_AT: i64 = 2_000;

/// Lets one attempt on an account at a time be judged.
pub async fn hold_attempts(conn: &mut TenantConn, email_hash: &[u8; 32]) -> QueryResult<()> {
    let key = i64::from_be_bytes(email_hash.first_chunk().copied().unwrap_or_default());
    diesel::sql_query("SELECT pg_advisory_xact_lock($1)").bind::<BigInt, _>(key).execute(conn).await.map(drop)
}

/// The newest failures on an account within the window and since its last success, newest first. In a database that has
/// lanes, those of one lane alone.
pub async fn failures(
    conn: &mut TenantConn,
    email_hash: &[u8; 32],
    lane: Option<Option<&str>>,
    limits: &Limits,
    now: DateTime<Utc>,
) -> QueryResult<Vec<DateTime<Utc>>> {
    let mut latest = login_attempts::table
        .filter(login_attempts::email_hash.eq(email_hash.as_slice()))
        .filter(login_attempts::at.gt(now - limits.window))
        .order((login_attempts::at.desc(), login_attempts::id.desc()))
        .limit(limits.account as i64)
        .select((login_attempts::at, login_attempts::outcome))
        .into_boxed();
    latest = match lane {
        None => latest,
        Some(None) => latest.filter(login_attempts::lane.is_null()),
        Some(Some(lane)) => latest.filter(login_attempts::lane.eq(lane.to_owned())),
    };
    let latest: Vec<(DateTime<Utc>, String)> = latest.load(conn).await?;
    Ok(latest.into_iter().take_while(|(_, outcome)| outcome == "failed").map(|(at, _)| at).collect())
}

/// How an account's address and tenant stand.
#[derive(Debug, Default, QueryableByName)]
pub struct Around {
    /// Whether somebody came in to this account from this network lately.
    #[diesel(sql_type = Bool)]
    pub known: bool,
    /// Whether it was so lately that it need not be noted again.
    #[diesel(sql_type = Bool)]
    pub renewed: bool,
    /// Failures of the network, as far as they make a difference.
    #[diesel(sql_type = BigInt)]
    pub address_failures: i64,
    /// The last of them.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub address_last: Option<DateTime<Utc>>,
    /// Failures in the tenant, as far as they make a difference.
    #[diesel(sql_type = BigInt)]
    pub tenant_failures: i64,
    /// Whether many accounts were tried from this network, or in the tenant.
    #[diesel(sql_type = Bool)]
    pub suspected: bool,
}

/// Looks around an attempt. The same work for accounts that there are and that there are not.
pub async fn around(
    conn: &mut TenantConn,
    email_hash: &[u8; 32],
    network: Option<&str>,
    limits: &Limits,
    now: DateTime<Utc>,
) -> QueryResult<Around> {
    diesel::sql_query(
        "SELECT EXISTS (SELECT 1 FROM login_attempts WHERE email_hash = $1 AND outcome = 'succeeded' \
                        AND network = $2 AND at > $3) AS known, \
                EXISTS (SELECT 1 FROM login_attempts WHERE email_hash = $1 AND outcome = 'succeeded' \
                        AND network = $2 AND at > $8) AS renewed, \
                (SELECT count(*) FROM (SELECT 1 FROM login_attempts WHERE outcome = 'failed' AND network = $2 \
                                       AND at > $4 LIMIT $5) n) AS address_failures, \
                (SELECT max(at) FROM login_attempts WHERE outcome = 'failed' AND network = $2 AND at > $4) \
                    AS address_last, \
                (SELECT count(*) FROM (SELECT 1 FROM login_attempts WHERE outcome = 'failed' AND at > $4 LIMIT $6) t) \
                    AS tenant_failures, \
                EXISTS (SELECT 1 FROM login_suspicions WHERE expires_at > $7 \
                        AND subject IN ('tenant', 'network:' || $2)) AS suspected",
    )
    .bind::<Bytea, _>(email_hash.as_slice())
    .bind::<Nullable<Text>, _>(network)
    .bind::<Timestamptz, _>(now - KNOWN_FOR)
    .bind::<Timestamptz, _>(now - limits.window)
    .bind::<BigInt, _>(address_matters(limits) as i64)
    .bind::<BigInt, _>(2 * limits.tenant as i64)
    .bind::<Timestamptz, _>(now)
    .bind::<Timestamptz, _>(now - RENEWED)
    .get_result(conn)
    .await
}

/// The trusted device of whoever has this address, if it is one of theirs.
pub async fn device_of(
    conn: &mut TenantConn,
    hash: &[u8; 32],
    email_key: &str,
    now: DateTime<Utc>,
) -> QueryResult<Option<Uuid>> {
    #[derive(QueryableByName)]
    struct Device {
        #[diesel(sql_type = SqlUuid)]
        id: Uuid,
    }
    let query = diesel::sql_query(
        "SELECT d.id FROM trusted_devices d JOIN users u ON u.id = d.user_id \
         WHERE d.token_hash = $1 AND u.email_key = $2 AND d.expires_at > $3",
    );
    let query = query.bind::<Bytea, _>(hash.as_slice()).bind::<Text, _>(email_key).bind::<Timestamptz, _>(now);
    Ok(query.get_result::<Device>(conn).await.optional()?.map(|device| device.id))
}

/// One line of the login history.
#[derive(Debug)]
pub struct NewAttempt<'a> {
    pub email_hash: &'a [u8; 32],
    pub user: Option<UserId>,
    pub succeeded: bool,
    pub client: &'a Client,
    pub at: DateTime<Utc>,
    /// Where the database has them.
    pub wide: Option<Wide<'a>>,
}

/// What `V11__throttling.sql` added.
#[derive(Debug)]
pub struct Wide<'a> {
    pub kind: &'static str,
    pub network: Option<&'a str>,
    pub lane: Option<&'a str>,
}

/// Writes a line of the login history, and sweeps out a few old ones, of this account and of those that nobody has: the same
/// work for an account that there is and one that there is not.
pub async fn insert_attempt(conn: &mut TenantConn, attempt: &NewAttempt<'_>) -> QueryResult<()> {
    let plain = (
        login_attempts::id.eq(Uuid::now_v7()),
        login_attempts::email_hash.eq(attempt.email_hash.as_slice()),
        login_attempts::user_id.eq(attempt.user),
        login_attempts::at.eq(attempt.at),
        login_attempts::outcome.eq(if attempt.succeeded { "succeeded" } else { "failed" }),
        login_attempts::ip.eq(&attempt.client.ip),
        login_attempts::user_agent.eq(&attempt.client.user_agent),
    );
    match &attempt.wide {
        None => diesel::insert_into(login_attempts::table).values(plain).execute(conn).await?,
        Some(Wide { kind, network, lane }) => {
            let wide =
                (login_attempts::kind.eq(kind), login_attempts::network.eq(network), login_attempts::lane.eq(lane));
            diesel::insert_into(login_attempts::table).values((plain, wide)).execute(conn).await?
        }
    };
    // What no person's account has succeeded in is an app's, which is known for as long as that is kept.
    diesel::sql_query(
        "DELETE FROM login_attempts WHERE id IN (SELECT id FROM login_attempts WHERE user_id IS NULL AND at < $1 \
         AND (outcome = 'failed' OR at < $2) ORDER BY at LIMIT 100)",
    )
    .bind::<Timestamptz, _>(attempt.at - UNKNOWN_KEPT)
    .bind::<Timestamptz, _>(attempt.at - KNOWN_FOR)
    .execute(conn)
    .await?;
    // Each account writes more than it leaves behind, and attempts on one take turns: nothing waits for another.
    diesel::sql_query(
        "DELETE FROM login_attempts WHERE id IN (\
         SELECT id FROM login_attempts WHERE email_hash = $1 AND at < $2 ORDER BY at LIMIT 100 FOR UPDATE SKIP LOCKED)",
    )
    .bind::<Bytea, _>(attempt.email_hash.as_slice())
    .bind::<Timestamptz, _>(attempt.at - KEPT)
    .execute(conn)
    .await
    .map(drop)
}

/// How many accounts were tried in vain since then: from a network, and in the tenant.
pub async fn accounts_tried(
    conn: &mut TenantConn,
    network: Option<&str>,
    since: DateTime<Utc>,
) -> QueryResult<(i64, i64)> {
    #[derive(QueryableByName)]
    struct Tried {
        #[diesel(sql_type = Array<BigInt>)]
        tried: Vec<i64>,
    }
    let query = diesel::sql_query(
        "SELECT ARRAY[\
         (SELECT count(DISTINCT email_hash) FROM (SELECT email_hash FROM login_attempts WHERE outcome = 'failed' \
          AND network = $1 AND at > $2 ORDER BY at DESC LIMIT $3) n), \
         (SELECT count(DISTINCT email_hash) FROM (SELECT email_hash FROM login_attempts WHERE outcome = 'failed' \
          AND at > $2 ORDER BY at DESC LIMIT $3) t)] AS tried",
    );
    let query = query.bind::<Nullable<Text>, _>(network).bind::<Timestamptz, _>(since).bind::<BigInt, _>(LOOKED_AT);
    let tried = query.get_result::<Tried>(conn).await?.tried;
    Ok(match tried[..] {
        [from_network, in_tenant] => (from_network, in_tenant),
        _ => (0, 0),
    })
}

/// Suspects somebody until then. True if nobody did before; those that are long over are swept out.
pub async fn suspect(
    conn: &mut TenantConn,
    subject: &str,
    accounts: i64,
    now: DateTime<Utc>,
    until: DateTime<Utc>,
) -> QueryResult<bool> {
    #[derive(QueryableByName)]
    struct Fresh {
        #[diesel(sql_type = Bool)]
        fresh: bool,
    }
    let fresh = diesel::sql_query(
        "INSERT INTO login_suspicions AS s (subject, began_at, expires_at, accounts) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (subject) DO UPDATE SET expires_at = $3, accounts = $4, \
         began_at = CASE WHEN s.expires_at > $2 THEN s.began_at ELSE $2 END RETURNING began_at = $2 AS fresh",
    )
    .bind::<Text, _>(subject)
    .bind::<Timestamptz, _>(now)
    .bind::<Timestamptz, _>(until)
    .bind::<BigInt, _>(accounts)
    .get_result::<Fresh>(conn)
    .await?
    .fresh;
    if fresh {
        diesel::sql_query("DELETE FROM login_suspicions WHERE expires_at < $1")
            .bind::<Timestamptz, _>(now - UNKNOWN_KEPT)
            .execute(conn)
            .await?;
    }
    Ok(fresh)
}
