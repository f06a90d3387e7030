//! How short and how long each time may be.

use std::time::Duration;

use figment::Figment;

use super::ConfigError;
use super::schema::Settings;
use crate::kernel::LONGEST_WAIT;

/// Calendars end somewhere.
const CENTURY: Duration = Duration::from_secs(36_500 * 86_400);
const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// Refuses times that nobody could keep: they would break every request, and not the start.
pub(super) fn check_times(figment: &Figment, settings: &Settings) -> Result<(), ConfigError> {
    let (http, router, auth) = (&settings.http, &settings.router, &settings.auth);
    let waits = [
        ("http.request_timeout", http.request_timeout, MILLISECOND),
        ("http.keep_alive", http.keep_alive, Duration::ZERO),
        ("http.shutdown_timeout", http.shutdown_timeout, Duration::ZERO),
        ("router.acquire_timeout", router.acquire_timeout, MILLISECOND),
        ("router.idle_timeout", router.idle_timeout, MILLISECOND),
        ("router.connect_timeout", router.connect_timeout, MILLISECOND),
        ("router.drain_timeout", router.drain_timeout, MILLISECOND),
        ("router.hold_timeout", router.hold_timeout, MILLISECOND),
        ("router.statement_timeout", router.statement_timeout, MILLISECOND),
        ("router.slice_ttl", router.slice_ttl, MILLISECOND),
        ("mail.timeout", settings.mail.timeout, MILLISECOND),
    ];
    for (key, span, least) in waits {
        if span.0 < least {
            return Err(ConfigError::of(figment, key, "is no time at all", "set at least 1ms"));
        }
        if span.0 > LONGEST_WAIT {
            let fault = "is over 24 days, and no server can be told to wait that long";
            return Err(ConfigError::of(figment, key, fault, "set at most 24d"));
        }
    }
    // These are added to dates.
    let terms = [
        ("router.snapshot_max_age", router.snapshot_max_age, Duration::ZERO),
        ("auth.access_token_ttl", auth.access_token_ttl, SECOND),
        ("auth.refresh_token_ttl", auth.refresh_token_ttl, SECOND),
        ("auth.refresh_grace", auth.refresh_grace, Duration::ZERO),
        ("backup.every", settings.backup.every, Duration::ZERO),
        ("backup.keep", settings.backup.keep, Duration::ZERO),
        ("fleet.purge_grace", settings.fleet.purge_grace, Duration::ZERO),
        ("fleet.export_retention", settings.fleet.export_retention, Duration::ZERO),
    ];
    for (key, span, least) in terms {
        if span.0 < least {
            let fault = "is under a second, which tokens do not count in";
            return Err(ConfigError::of(figment, key, fault, "set at least 1s"));
        }
        if span.0 > CENTURY {
            return Err(ConfigError::of(figment, key, "is over a hundred years", "set at most 36500d"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, Sources};

    use super::*;

    fn load(variables: &[(&str, &str)]) -> Result<Config, String> {
        Config::load(&Sources::from_variables(variables)).map_err(|error| error.to_string())
    }

    #[test]
    fn what_nobody_could_keep_is_refused() {
        for (variable, value, remedy) in [
            ("TENANTRY_ROUTER__STATEMENT_TIMEOUT", "25d", "set at most 24d"),
            ("TENANTRY_ROUTER__STATEMENT_TIMEOUT", "0s", "set at least 1ms"),
            ("TENANTRY_ROUTER__CONNECT_TIMEOUT", "25d", "set at most 24d"),
            ("TENANTRY_ROUTER__SLICE_TTL", "25d", "set at most 24d"),
            ("TENANTRY_HTTP__KEEP_ALIVE", "25d", "set at most 24d"),
            ("TENANTRY_MAIL__TIMEOUT", "25d", "set at most 24d"),
            ("TENANTRY_AUTH__ACCESS_TOKEN_TTL", "999ms", "set at least 1s"),
            ("TENANTRY_AUTH__REFRESH_TOKEN_TTL", "36501d", "set at most 36500d"),
            ("TENANTRY_AUTH__REFRESH_GRACE", "36501d", "set at most 36500d"),
            ("TENANTRY_ROUTER__SNAPSHOT_MAX_AGE", "36501d", "set at most 36500d"),
        ] {
            let said = load(&[(variable, value)]).unwrap_err();
            assert!(said.starts_with(variable) && said.ends_with(remedy), "{said}");
        }
    }

    #[test]
    fn the_longest_times_are_taken() {
        load(&[
            ("TENANTRY_ROUTER__STATEMENT_TIMEOUT", "24d"),
            ("TENANTRY_AUTH__REFRESH_TOKEN_TTL", "36500d"),
            ("TENANTRY_HTTP__SHUTDOWN_TIMEOUT", "0s"),
        ])
        .unwrap();
        assert!(i32::try_from(LONGEST_WAIT.as_millis()).is_ok(), "PostgreSQL counts so far");
    }
}
