//! Sending what waits in one tenant's outbox.

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::StreamExt as _;
use secrecy::{ExposeSecret as _, SecretString};

use super::render::{Links, Words};
use super::store::{self, End, Taken};
use super::{Mail, Parcel, place, seal_key};
use crate::error::ApiResult;
use crate::kernel::UserId;
use crate::kernel::crypto::{Sealed, random};
use crate::mailer::{Letter, Mailer, SendError};
use crate::router::{TenantConn, TenantDb, TenantTx};
use crate::tenant::auth::account;

/// Mails that are taken at a time, and those of them that are sent at the same time.
const BATCH: i64 = 20;
const AT_ONCE: usize = 4;
/// How long a node keeps mails that it has taken. Should it die, others take them after that.
const SENDING: TimeDelta = TimeDelta::minutes(5);
/// The first pause after a failure, and the longest.
const FIRST_PAUSE: TimeDelta = TimeDelta::seconds(5);
const LONGEST_PAUSE: TimeDelta = TimeDelta::minutes(15);

/// What came of a look into an outbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Round {
    /// Mails that the server took.
    pub sent: usize,
    /// When the next one is due, if any waits.
    pub next: Option<DateTime<Utc>>,
}

/// Why there is no letter of a mail now.
enum Unsent {
    /// There never will be.
    Ended(End),
    /// It tells of something that this release knows nothing of. In an upgrade there are nodes that do.
    Unknown,
}

/// What is said of it while it waits.
const UNKNOWN: &str = "it is of a newer release, whose nodes send it";

/// Sends what is due in a tenant, a bounded number of mails. No connection is held while the mail server is spoken to.
///
/// # Errors
/// If the tenant's database does not answer.
pub async fn deliver(db: &TenantDb, mailer: &Mailer, links: &Links) -> ApiResult<Round> {
    let clock = db.router().config().clock.clone();
    if db.tenant().schema_version < super::SINCE {
        return Ok(Round::default());
    }
    let letters = db
        .transaction(async |conn: &mut TenantTx| -> ApiResult<Vec<(Taken, Letter)>> {
            let now = clock.now();
            store::sweep(conn, now).await?;
            let mut letters = Vec::new();
            for taken in store::take(conn, BATCH, SENDING, now).await? {
                match prepare(conn, db, links, &taken, now).await? {
                    Ok(letter) => letters.push((taken, letter)),
                    Err(Unsent::Ended(end)) => finish(conn, &taken, end, now).await?,
                    Err(Unsent::Unknown) => {
                        store::postpone(conn, taken.id, UNKNOWN, now + pause(taken.attempts)).await?;
                        say_later(db, &taken, UNKNOWN);
                    }
                }
            }
            Ok(letters)
        })
        .await?;
    let sent = futures_util::stream::iter(letters)
        .map(|(taken, letter)| hand_over(db, mailer, taken, letter))
        .buffer_unordered(AT_ONCE)
        .fold(Ok(0), async |sum: ApiResult<usize>, one| Ok(sum? + usize::from(one?)))
        .await?;
    let next = db.read(async |conn: &mut TenantConn| -> ApiResult<_> { Ok(store::next_due(conn).await?) }).await?;
    Ok(Round { sent, next })
}

/// The letter of a mail, or why there is none.
async fn prepare(
    conn: &mut TenantConn,
    db: &TenantDb,
    links: &Links,
    taken: &Taken,
    now: DateTime<Utc>,
) -> ApiResult<Result<Letter, Unsent>> {
    let ended = |end| Ok(Err(Unsent::Ended(end)));
    if taken.expires_at <= now {
        return ended(End::GivenUp("it could not be sent in time"));
    }
    let opened = seal_key(db).open(place(taken.id), &Sealed::from(taken.parcel_sealed.clone()));
    let Ok(plain) = opened else {
        return ended(End::GivenUp("what was sealed does not open"));
    };
    let Ok(mut parcel) = serde_json::from_slice::<Parcel>(&plain) else {
        return Ok(Err(Unsent::Unknown));
    };
    if matches!(parcel.mail, Mail::Nothing) {
        return ended(End::Dropped);
    }
    let due = match parcel.mail {
        Mail::PasswordReset => Some(account::reset_link(conn, db, (taken.id, &parcel.to), now).await?),
        Mail::VerifyEmail => Some(account::verification_link(conn, db, (taken.id, &parcel.to), now).await?),
        _ => None,
    };
    let (mut user, mut token) = (taken.user_id, SecretString::default());
    match due {
        None => {}
        Some(None) => return ended(End::Dropped),
        Some(Some(due)) => {
            user = due.to.user.map(UserId::uuid);
            (parcel.to, parcel.name, token) = (due.to.address, due.to.name, due.token);
        }
    }
    let words = Words::of(conn, parcel.mail.template(), user).await?;
    let what = (&parcel, token.expose_secret());
    if let Some(letter) = words.own_letter(db.tenant(), links, taken.id, what) {
        return Ok(Ok(letter));
    }
    // Words of the organisation's own that fail keep nobody from the mail.
    let words = Words::built_in_for(conn, parcel.mail.template(), user).await?;
    match words.letter(db.tenant(), links, taken.id, what) {
        Ok(letter) => Ok(Ok(letter)),
        Err(error) => {
            tracing::error!(tenant = %db.tenant().id, mail = parcel.mail.template(), %error, "a mail cannot be rendered");
            ended(End::GivenUp("its template cannot be rendered"))
        }
    }
}

/// Hands one letter over, and notes what came of it. Whether it was sent.
async fn hand_over(db: &TenantDb, mailer: &Mailer, taken: Taken, letter: Letter) -> ApiResult<bool> {
    let clock = &db.router().config().clock;
    let outcome = mailer.send(&letter).await;
    let taken = &taken;
    let noted = db
        .transaction(async |conn: &mut TenantTx| -> ApiResult<bool> {
            let now = clock.now();
            match &outcome {
                Ok(()) => finish(conn, taken, End::Sent, now).await?,
                Err(SendError::Refused(_)) => {
                    finish(conn, taken, End::GivenUp("the mail server refuses the address"), now).await?;
                }
                Err(SendError::Address) => {
                    finish(conn, taken, End::GivenUp("the address cannot be written to"), now).await?;
                }
                Err(SendError::Trouble(why)) => {
                    store::postpone(conn, taken.id, why, now + pause(taken.attempts)).await?;
                }
            }
            Ok(outcome.is_ok())
        })
        .await;
    if let Err(SendError::Trouble(cause)) = &outcome {
        say_later(db, taken, cause);
    }
    noted
}

fn say_later(db: &TenantDb, taken: &Taken, cause: &str) {
    let tenant = db.tenant().id;
    tracing::warn!(%tenant, mail = %taken.id, attempts = taken.attempts, cause, "a mail is tried again later");
}

async fn finish(conn: &mut TenantConn, taken: &Taken, end: End, now: DateTime<Utc>) -> ApiResult<()> {
    store::finish(conn, taken.id, end, now).await?;
    let outcome = match end {
        End::Sent => "sent",
        End::Dropped => "dropped",
        End::GivenUp(why) => {
            tracing::warn!(mail = %taken.id, why, "a mail is given up");
            "given_up"
        }
    };
    metrics::counter!("tenantry_mails_total", "outcome" => outcome).increment(1);
    Ok(())
}

/// Doubles with every attempt up to a bound, and differs by up to a quarter, so that a server that is back is not met by
/// all at once.
fn pause(attempts: i32) -> TimeDelta {
    let doubled =
        FIRST_PAUSE * 2_i32.saturating_pow(u32::try_from(attempts.clamp(1, 20) - 1).unwrap_or(0)).min(100_000);
    let [jitter] = random::<1>();
    doubled.min(LONGEST_PAUSE) * (896 + i32::from(jitter)) / 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_bound() {
        assert!(pause(1) >= TimeDelta::seconds(4) && pause(1) <= TimeDelta::seconds(6));
        assert!(pause(4) > pause(1) * 4);
        for attempts in [20, 1000, i32::MAX] {
            assert!(pause(attempts) <= LONGEST_PAUSE * 9 / 8 && pause(attempts) > LONGEST_PAUSE * 3 / 4);
        }
    }
}
