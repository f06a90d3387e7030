//! What happened between two looks at the same node.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::time::Instant;

use serde_json::{Map, Value, json};

use crate::router::TopBy;

/// The counts that grow.
const GROWING: [&str; 3] = ["requests", "waitMicros", "databaseMicros"];

/// The look before.
#[derive(Debug, Default)]
pub(super) struct Rates {
    before: Option<Look>,
}

#[derive(Debug)]
struct Look {
    node: Value,
    at: Instant,
    counts: HashMap<String, [u64; 3]>,
}

impl Rates {
    /// Whether there was a look.
    pub(super) const fn is_begun(&self) -> bool {
        self.before.is_some()
    }

    /// Gives each tenant its `rates`: what its counts have grown by in a second since the look before. They are null
    /// at the first look, for another node, and for a tenant that was not there or has been counted anew.
    pub(super) fn add(&mut self, pools: &mut Value, now: Instant) {
        let node = pools["node"].clone();
        let before = self.before.take().filter(|before| before.node == node);
        let mut counts = HashMap::new();
        for tenant in tenants(pools) {
            let id = tenant["tenantId"].as_str().unwrap_or_default().to_owned();
            let is = GROWING.map(|name| tenant["usage"][name].as_u64().unwrap_or(0));
            let was = before.as_ref().and_then(|before| Some((before.counts.get(&id)?, before.at)));
            tenant["rates"] = was.and_then(|(was, at)| rates(was, &is, (now - at).as_secs_f64())).into();
            counts.insert(id, is);
        }
        self.before = Some(Look { node, at: now, counts });
    }
}

fn rates(was: &[u64; 3], is: &[u64; 3], seconds: f64) -> Option<Map<String, Value>> {
    if seconds <= 0.0 || was.iter().zip(is).any(|(was, is)| is < was) {
        return None;
    }
    let rate = |(was, is): (&u64, &u64)| ((is - was) as f64 / seconds * 10.0).round() / 10.0;
    let values = was.iter().zip(is).map(rate);
    Some(GROWING.iter().zip(values).map(|(name, value)| ((*name).to_owned(), json!(value))).collect())
}

/// The first `limit`, by what has happened since the look before where that is known.
pub(super) fn sort(pools: &mut Value, by: TopBy, limit: usize) {
    let name = match by {
        TopBy::Requests => GROWING[0],
        TopBy::Wait => GROWING[1],
        TopBy::Database => GROWING[2],
        // What the server sorts by is the present already.
        TopBy::Waiting | TopBy::Connections => "",
    };
    let Some(tenants) = pools["tenants"].as_array_mut() else { return };
    if !name.is_empty() && tenants.iter().any(|tenant| tenant["rates"].is_object()) {
        tenants.sort_by_key(|tenant| Reverse((tenant["rates"][name].as_f64().unwrap_or(0.0) * 10.0) as u64));
    }
    tenants.truncate(limit);
}

fn tenants(pools: &mut Value) -> impl Iterator<Item = &mut Value> {
    pools["tenants"].as_array_mut().into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn pools(node: &str, tenants: &[(&str, u64)]) -> Value {
        let tenants: Vec<_> = tenants
            .iter()
            .map(|(id, n)| json!({"tenantId": id, "usage": {"requests": n, "waitMicros": n * 10, "databaseMicros": n}}))
            .collect();
        json!({"node": node, "tenants": tenants})
    }

    #[test]
    fn are_known_from_the_second_look_at_the_same_node() {
        let (mut rates, start) = (Rates::default(), Instant::now());
        let mut look = |node: &str, seconds: u64, tenants: &[(&str, u64)]| {
            let mut pools = pools(node, tenants);
            rates.add(&mut pools, start + Duration::from_secs(seconds));
            sort(&mut pools, TopBy::Wait, 2);
            pools["tenants"]
                .as_array()
                .unwrap()
                .iter()
                .map(|t| (t["tenantId"].clone(), t["rates"].clone()))
                .collect::<Vec<_>>()
        };
        assert_eq!(look("n1", 0, &[("a", 100), ("b", 5)])[0], (json!("a"), Value::Null));
        let second = look("n1", 2, &[("a", 101), ("b", 25), ("c", 7)]);
        assert_eq!(second[0], (json!("b"), json!({"requests": 10.0, "waitMicros": 100.0, "databaseMicros": 10.0})));
        assert_eq!(second[1].0, "a", "the first two, and a newcomer has no rates yet");
        assert_eq!(look("n1", 3, &[("a", 3)])[0].1, Value::Null, "counted anew");
        assert_eq!(look("n2", 4, &[("a", 9)])[0].1, Value::Null, "another node");
    }
}
