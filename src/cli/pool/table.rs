//! A look as a table.

use serde_json::Value;

use crate::cli::context::table;

const COLUMNS: [&str; 14] = [
    "tenant", "cluster", "busy", "idle", "opening", "draining", "waiting", "requests", "wait", "database", "max wait",
    "cold", "evicted", "breaker",
];
/// The columns that are by the second from the second look on.
const BY_THE_SECOND: [&str; 3] = ["requests", "wait", "database"];

/// The node, its servers, its tenants.
pub(super) fn text(pools: &Value) -> String {
    let mut text = format!("node {}\n", word(&pools["node"]));
    for cluster in list(&pools["clusters"]) {
        let one = |name: &str| count(&cluster[name]);
        text.push_str(&format!(
            "{}: {} of {} connections ({} idle, {} opening, {} draining), {} requests of {} tenants wait, {} breakers open\n",
            word(&cluster["name"]),
            one("open"),
            one("slice"),
            one("idle"),
            one("opening"),
            one("draining"),
            one("waiting"),
            one("waitingTenants"),
            one("breakersOpen"),
        ));
    }
    let tenants = list(&pools["tenants"]);
    let live = tenants.iter().any(|tenant| tenant["rates"].is_object());
    let header = COLUMNS.map(|name| {
        let rate = live && BY_THE_SECOND.contains(&name);
        if rate { format!("{name}/s") } else { name.to_owned() }
    });
    let rows = tenants.iter().map(|tenant| row(tenant, live));
    text.push('\n');
    text.push_str(&table(&header, rows));
    text
}

fn row(tenant: &Value, live: bool) -> Vec<String> {
    let usage = &tenant["usage"];
    let grown = |name: &str, show: fn(f64) -> String| match (live, &tenant["rates"]) {
        (true, Value::Null) => "-".to_owned(),
        (true, rates) => show(rates[name].as_f64().unwrap_or(0.0)),
        (false, _) => show(count(&usage[name]) as f64),
    };
    vec![
        word(&tenant["slug"]).to_owned(),
        word(&tenant["cluster"]).to_owned(),
        count(&tenant["busy"]).to_string(),
        count(&tenant["idle"]).to_string(),
        count(&tenant["opening"]).to_string(),
        count(&tenant["draining"]).to_string(),
        count(&tenant["waiting"]).to_string(),
        grown("requests", number),
        grown("waitMicros", time),
        grown("databaseMicros", time),
        time(count(&usage["recentMaxWaitMicros"]) as f64),
        count(&usage["coldStarts"]).to_string(),
        count(&usage["evictions"]).to_string(),
        tenant["breaker"].as_str().unwrap_or("-").to_owned(),
    ]
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or("-")
}

fn count(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

fn number(value: f64) -> String {
    if value.fract() == 0.0 { format!("{value:.0}") } else { format!("{value:.1}") }
}

/// Microseconds, in the unit that reads best.
fn time(micros: f64) -> String {
    match micros {
        0.0 => "0".into(),
        _ if micros < 1e3 => format!("{micros:.0}us"),
        _ if micros < 1e6 => format!("{:.1}ms", micros / 1e3),
        _ => format!("{:.1}s", micros / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn look(rates: Value) -> Value {
        json!({
            "node": "box:8080",
            "clusters": [{"name": "main", "open": 12, "slice": 80, "idle": 4, "opening": 1, "draining": 2,
                          "waiting": 3, "waitingTenants": 2, "breakersOpen": 0}],
            "tenants": [{"tenantId": "1", "slug": "acme", "cluster": "main", "idle": 1, "busy": 2, "opening": 0,
                         "draining": 1, "waiting": 3, "breaker": null, "rates": rates,
                         "usage": {"requests": 1234, "waitMicros": 1500, "databaseMicros": 2_500_000,
                                   "recentMaxWaitMicros": 900, "coldStarts": 1, "evictions": 2}}],
        })
    }

    #[test]
    fn totals_at_the_first_look() {
        insta::assert_snapshot!(text(&look(Value::Null)), @r"
        node box:8080
        main: 12 of 80 connections (4 idle, 1 opening, 2 draining), 3 requests of 2 tenants wait, 0 breakers open

         TENANT  CLUSTER  BUSY  IDLE  OPENING  DRAINING  WAITING  REQUESTS  WAIT   DATABASE  MAX WAIT  COLD  EVICTED  BREAKER
         acme    main     2     1     0        1         3        1234      1.5ms  2.5s      900us     1     2        -
        ");
    }

    #[test]
    fn rates_from_the_second_on() {
        let rates = json!({"requests": 12.5, "waitMicros": 0.0, "databaseMicros": 310_000.0});
        insta::assert_snapshot!(text(&look(rates)), @r"
        node box:8080
        main: 12 of 80 connections (4 idle, 1 opening, 2 draining), 3 requests of 2 tenants wait, 0 breakers open

         TENANT  CLUSTER  BUSY  IDLE  OPENING  DRAINING  WAITING  REQUESTS/S  WAIT/S  DATABASE/S  MAX WAIT  COLD  EVICTED  BREAKER
         acme    main     2     1     0        1         3        12.5        0       310.0ms     900us     1     2        -
        ");
    }
}
