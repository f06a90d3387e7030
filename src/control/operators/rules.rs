//! Decisions without I/O.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::error::{ApiError, Code, Limit};
use crate::router::Rate;
use crate::router::tenant::words;

/// Failures within one window after which nothing is looked at.
const ATTEMPTS: i32 = 5;
/// How long failures are counted together.
pub(super) const WINDOW: TimeDelta = TimeDelta::minutes(15);

words! {
    /// What an operator may do.
    OperatorRole {
        /// Everything.
        Admin = "admin",
        /// Sees everything, and tends what runs; makes, removes and configures nothing.
        Support = "support",
        /// Sees and tends the tenants it was given, and knows of no other.
        Owner = "owner",
    }
}

/// What an endpoint takes its operators for: see [`super::Operator`]. The least is the default.
pub trait Power: Send + Sync + 'static {
    /// Who has it.
    const ROLES: &'static [OperatorRole];
    /// Whether it takes no second factor where one is demanded.
    const WITHOUT_FACTOR: bool = false;
    /// Whether it is in the audit although nothing is changed by it.
    const AUDITED: bool = false;
}

macro_rules! powers {
    ($($(#[$doc:meta])* $name:ident: $($role:ident)|+;)+) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy)]
        pub struct $name;

        impl Power for $name {
            const ROLES: &'static [OperatorRole] = &[$(OperatorRole::$role),+];
        }
    )+};
}

powers! {
    /// To make, remove and configure: clusters, tenants, operators, the fleet.
    Rule: Admin;
    /// To see what concerns every tenant.
    Survey: Admin | Support;
    /// To tend a tenant, and see it. An owner's reach is limited to its own: [`super::Operator::reach`].
    Tend: Admin | Support | Owner;
}

/// To carry a tenant's data away.
#[derive(Debug, Clone, Copy)]
pub struct Fetch;

impl Power for Fetch {
    const ROLES: &'static [OperatorRole] = &[OperatorRole::Admin];
    const AUDITED: bool = true;
}

/// To manage one's own access.
#[derive(Debug, Clone, Copy)]
pub struct Oneself;

impl Power for Oneself {
    const ROLES: &'static [OperatorRole] = OperatorRole::ALL;
    const WITHOUT_FACTOR: bool = true;
}

/// An e-mail address as it is stored and compared. `None` if it is none.
#[must_use]
pub fn email_key(text: &str) -> Option<String> {
    let email = text.trim().to_lowercase();
    let (local, domain) = email.split_once('@')?;
    let plain = email.len() <= 254 && !email.contains(|c: char| c.is_whitespace() || c.is_control());
    (plain && !local.is_empty() && !domain.is_empty() && !domain.contains('@')).then_some(email)
}

/// How long an address is still locked after so many failures since `window_start`.
pub(super) fn locked_for(failures: i32, window_start: DateTime<Utc>, now: DateTime<Utc>) -> Option<Duration> {
    let end = window_start + WINDOW;
    (failures >= ATTEMPTS && now < end).then(|| (end - now).to_std().unwrap_or_default().max(Duration::from_secs(1)))
}

/// How one stands after these failures since then, alike whether the address is anybody's or not.
pub(super) fn login_rate(counted: Option<(i32, DateTime<Utc>)>, now: DateTime<Utc>) -> Rate {
    let (quota, window) = (ATTEMPTS.unsigned_abs(), WINDOW.num_seconds().unsigned_abs());
    let counted = counted.map(|(failures, since)| (failures, since + WINDOW));
    let Some((failures, end)) = counted.filter(|(_, end)| now < *end) else {
        return Rate { quota, window, left: quota, reset: 0 };
    };
    let reset = (end - now).to_std().unwrap_or_default();
    let reset = reset.as_secs() + u64::from(reset.subsec_nanos() > 0);
    Rate { quota, window, left: quota.saturating_sub(failures.unsigned_abs()), reset }
}

/// 429 for as long.
pub(super) fn locked(left: Duration) -> ApiError {
    let window = WINDOW.to_std().unwrap_or_default();
    let limit = Limit { name: "login", quota: ATTEMPTS.unsigned_abs(), window };
    ApiError::new(Code::TooManyAttempts).retry_after(left).limited(limit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::Clock;

    #[test]
    fn addresses_are_compared_in_one_form() {
        assert_eq!(email_key(" Ops@Example.COM ").as_deref(), Some("ops@example.com"));
        for bad in ["", "ops", "@x", "ops@", "a b@x", "a@b@c"] {
            assert_eq!(email_key(bad), None, "{bad}");
        }
    }

    #[test]
    fn after_five_failures_the_next_waits_for_the_window_to_end() {
        let now = Clock::system().now();
        assert_eq!(locked_for(4, now, now), None);
        assert_eq!(locked_for(5, now - TimeDelta::minutes(5), now), Some(Duration::from_secs(600)));
        let last = now - TimeDelta::minutes(15) + TimeDelta::milliseconds(1);
        assert_eq!(locked_for(5, last, now), Some(Duration::from_secs(1)));
        assert_eq!(locked_for(5, now - TimeDelta::minutes(15), now), None);
    }

    #[test]
    fn what_is_left_is_told_until_the_window_ends() {
        let now = Clock::system().now();
        let told = |counted| {
            let Rate { quota, window, left, reset } = login_rate(counted, now);
            assert_eq!((quota, window), (5, 900));
            (left, reset)
        };
        assert_eq!(told(None), (5, 0));
        assert_eq!(told(Some((1, now))), (4, 900));
        assert_eq!(told(Some((5, now - TimeDelta::minutes(5)))), (0, 600));
        assert_eq!(told(Some((7, now - TimeDelta::minutes(15) + TimeDelta::milliseconds(1)))), (0, 1));
        assert_eq!(told(Some((5, now - TimeDelta::minutes(15)))), (5, 0));
    }
}
