//! What the settings become.

use super::*;
use crate::config::Sources;
use crate::kernel::MAX_PUBLIC_URL_LEN;

/// The documented defaults (`config/default.toml`) are what an embedding program gets, too.
#[test]
fn a_server_without_settings_is_an_embedder_without_settings() {
    let config = Config::load(&Sources::from_variables(&[])).unwrap();
    let (server, embedder) = (router_config(&config, &Clock::system()), RouterConfig::new(config.public_url()));
    assert_eq!(format!("{server:?}"), format!("{embedder:?}"));
    assert_eq!(auth_settings(&config), AuthSettings::default());
}

/// Else a configuration that is taken would not start.
#[test]
fn whatever_the_server_can_be_told_the_router_takes() {
    let url = format!("https://api.example.com/{}", "p".repeat(MAX_PUBLIC_URL_LEN - 24));
    for time in ["1ms", "24d"] {
        let config = Config::load(&Sources::from_variables(&[
            ("TENANTRY_PUBLIC_URL", url.as_str()),
            ("TENANTRY_AUTH__CLOCK_LEEWAY", "5m"),
            ("TENANTRY_ROUTER__CLUSTER_BUDGET", "1"),
            ("TENANTRY_ROUTER__TENANT_MAX_CONNECTIONS", "1"),
            ("TENANTRY_ROUTER__ACQUIRE_TIMEOUT", time),
            ("TENANTRY_ROUTER__IDLE_TIMEOUT", time),
            ("TENANTRY_ROUTER__CONNECT_TIMEOUT", time),
            ("TENANTRY_ROUTER__DRAIN_TIMEOUT", time),
            ("TENANTRY_ROUTER__HOLD_TIMEOUT", time),
            ("TENANTRY_ROUTER__STATEMENT_TIMEOUT", time),
            ("TENANTRY_ROUTER__SLICE_TTL", time),
        ]));
        router_config(&config.unwrap(), &Clock::system()).check().unwrap();
    }
    for listen in ["0.0.0.0:80", "[::]:8080"] {
        let config = Config::load(&Sources::from_variables(&[("TENANTRY_LISTEN", listen)])).unwrap();
        router_config(&config, &Clock::system()).check().unwrap();
    }
}
