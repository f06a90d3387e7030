//! What signing in needs from outside, given to handlers as `web::Data<Auth>`.

use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;

use super::admission::SessionAdmission;
use super::captcha::Captcha;
use super::passkeys::PasskeySite;
use super::rules::Limits;
use super::strangers::Strangers;
use crate::kernel::Clock;
use crate::rest::passwords::Passwords;

/// How long things last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthSettings {
    /// An access token (`auth.access_token_ttl`).
    pub access_token_ttl: Duration,
    /// A refresh token that is not used.
    pub refresh_token_ttl: Duration,
    /// A session, however often it is refreshed.
    pub session_ttl: Duration,
    /// How long a rotated refresh token still gets its successor (`auth.refresh_grace`).
    pub refresh_grace: Duration,
    /// An invitation that is not accepted.
    pub invitation_ttl: Duration,
    /// A device that is asked for no second factor.
    pub trusted_device_ttl: Duration,
    /// How many failures are too many (`auth.lockout_failures` and those beside it).
    pub limits: Limits,
}

impl Default for AuthSettings {
    fn default() -> Self {
        const DAY: Duration = Duration::from_secs(24 * 60 * 60);
        Self {
            access_token_ttl: Duration::from_secs(15 * 60),
            refresh_token_ttl: 30 * DAY,
            session_ttl: 90 * DAY,
            refresh_grace: Duration::from_secs(30),
            invitation_ttl: 7 * DAY,
            trusted_device_ttl: 30 * DAY,
            limits: Limits::default(),
        }
    }
}

impl AuthSettings {
    /// How long a session lives at most: after its last refresh, and after it was opened.
    pub(in crate::tenant) const fn session_lifetimes(&self) -> (Duration, Duration) {
        (self.refresh_token_ttl, self.session_ttl)
    }
}

/// Everything the handlers of `auth` and `users` share. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Auth {
    /// Hashes passwords.
    pub passwords: Passwords,
    /// How long things last.
    pub settings: Arc<AuthSettings>,
    /// The time.
    pub clock: Clock,
    /// The same admission that the router was started with: it is told at once when a session ends here.
    pub admission: Arc<SessionAdmission>,
    /// Where passkeys are good.
    pub passkeys: PasskeySite,
    /// Asks whether a CAPTCHA was solved.
    pub captcha: Captcha,
    pub(super) strangers: Strangers,
}

impl Auth {
    /// Puts it together.
    #[must_use]
    pub fn new(passwords: Passwords, settings: AuthSettings, clock: Clock, admission: Arc<SessionAdmission>) -> Self {
        let strangers = Strangers::new(settings.limits);
        let (settings, captcha, passkeys) = (Arc::new(settings), Captcha::default(), PasskeySite::default());
        Self { passwords, settings, clock, admission, passkeys, captcha, strangers }
    }

    /// The same, with passkeys for this site.
    #[must_use]
    pub fn with_passkeys(self, passkeys: PasskeySite) -> Self {
        Self { passkeys, ..self }
    }

    /// The same, with another way to find out whether a CAPTCHA was solved.
    #[must_use]
    pub fn with_captcha(self, captcha: Captcha) -> Self {
        Self { captcha, ..self }
    }
}

/// A length of time as chrono has it. Settings beyond thousands of years end there.
pub(crate) fn delta(duration: Duration) -> TimeDelta {
    TimeDelta::from_std(duration).unwrap_or(TimeDelta::days(365_000))
}
