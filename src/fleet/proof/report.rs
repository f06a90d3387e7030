//! What the proof found.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::kernel::{InstallationId, Slug, TenantId};

/// The most faults, and the most tenants, that a report lists.
const MOST: usize = 1000;
/// What a tenant's stamp is where nothing is wrong with it.
pub(super) const RIGHT: &str = "right";

/// The isolation is broken, or this part of it could not be proven, or something of the proof is left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// What kind, as one stable word: `stamp_missing`, `role_granted`, `key_shared`, `attack_succeeded` …
    pub code: &'static str,
    /// The tenants or the cluster that it is about.
    pub subject: String,
    /// What was seen.
    pub said: String,
}

impl Fault {
    pub(super) fn new(code: &'static str, subject: impl ToString, said: impl Into<String>) -> Self {
        Self { code, subject: subject.to_string(), said: said.into() }
    }
}

/// One kind of question that was asked.
#[derive(Debug, Clone, Serialize)]
pub struct Check {
    /// Which.
    pub name: &'static str,
    /// How often.
    pub tried: usize,
    /// Whether every answer was right.
    pub passed: bool,
    /// What was asked.
    pub said: String,
}

/// A tenant's database as its own role sees it.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TenantProof {
    /// Identity.
    pub id: TenantId,
    /// Public name.
    pub slug: Slug,
    /// The cluster's name; none for a dedicated database.
    pub cluster: Option<String>,
    /// `right`, `wrong`, `missing`, or `unread`.
    pub stamp: &'static str,
    /// Size of the database in bytes, where it was reached.
    pub bytes: Option<i64>,
}

/// Answer times of one canary.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Times {
    /// The median, in milliseconds.
    pub p50_ms: f64,
    /// The 99th percentile, in milliseconds.
    pub p99_ms: f64,
}

/// One canary while the other one rests, and while it asks as much as it can.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NoisyNeighbour {
    /// Requests of the measured one in each of the two runs.
    pub requests: usize,
    /// Requests of the noisy one that were in flight at any time.
    pub noise: usize,
    /// Requests of the noisy one that were answered meanwhile.
    pub noise_answered: usize,
    /// While the other rests.
    pub quiet: Times,
    /// While it is noisy.
    pub noisy: Times,
    /// How many times as long the 99th percentile is.
    pub p99_ratio: f64,
    /// Requests of the measured one that failed meanwhile.
    pub failed: usize,
}

/// How much was looked at.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Sizes {
    /// Tenants.
    pub tenants: usize,
    /// Clusters.
    pub clusters: usize,
    /// All their databases, in bytes.
    pub bytes: i64,
}

/// The evidence.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Which installation.
    pub installation: InstallationId,
    /// This program's release.
    pub release: &'static str,
    /// When the proof ended.
    pub at: DateTime<Utc>,
    /// The server that was attacked.
    pub url: String,
    /// Whether there is no fault.
    pub passed: bool,
    /// The faults; the first 1000 of them, where a job keeps the report.
    pub faults: Vec<Fault>,
    /// How many more there are.
    pub faults_left_out: usize,
    /// What was asked.
    pub checks: Vec<Check>,
    /// Figures of the noisy-neighbour run.
    pub noisy_neighbour: Option<NoisyNeighbour>,
    /// How much was looked at.
    pub sizes: Sizes,
    /// How many tenants have a stamp that is `right`, `wrong`, `missing`, or `unread`; the canaries aside.
    pub stamps: BTreeMap<&'static str, usize>,
    /// The tenants, the first 1000 where a job keeps the report: those whose stamp is not right before the others, and each of
    /// the two by slug.
    pub tenants: Vec<TenantProof>,
    /// How many more there are.
    pub tenants_left_out: usize,
}

impl Report {
    /// Says what came of it.
    pub(super) fn conclude(&mut self, at: DateTime<Utc>) {
        self.at = at;
        self.passed = self.faults.is_empty();
        for tenant in &self.tenants {
            *self.stamps.entry(tenant.stamp).or_default() += 1;
        }
        // Stable: by slug, as they come.
        self.tenants.sort_by_key(|tenant| tenant.stamp == RIGHT);
    }

    /// Leaves what a job keeps: from here on its size is bounded, however large the fleet.
    pub(super) fn shorten(&mut self) {
        self.faults_left_out = cut(&mut self.faults);
        self.tenants_left_out = cut(&mut self.tenants);
    }

    /// Notes a kind of question and its wrong answers.
    pub(super) fn check(&mut self, name: &'static str, tried: usize, said: impl Into<String>, faults: Vec<Fault>) {
        self.checks.push(Check { name, tried, passed: faults.is_empty(), said: said.into() });
        self.faults.extend(faults);
    }

    /// A page that one can read.
    #[must_use]
    pub fn page(&self) -> String {
        let verdict = if self.passed { "Isolation proven" } else { "Isolation NOT proven" };
        let mut page = format!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{verdict}</title><style>\
             body{{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}}\
             table{{border-collapse:collapse;width:100%}}td,th{{border-bottom:1px solid #ccc;padding:.3rem;text-align:left}}\
             .bad{{color:#b00}}.good{{color:#070}}</style></head><body>\n<h1 class=\"{}\">{verdict}</h1>\n\
             <p>Installation {}, release {}, server {}, {}. {} tenants on {} clusters, {} bytes.</p>\n",
            if self.passed { "good" } else { "bad" },
            self.installation,
            escape(self.release),
            escape(&self.url),
            self.at.to_rfc3339(),
            self.sizes.tenants,
            self.sizes.clusters,
            self.sizes.bytes
        );
        let faults =
            self.faults.iter().map(|fault| vec![fault.code.to_owned(), fault.subject.clone(), fault.said.clone()]);
        if !self.faults.is_empty() {
            page += &table("Faults", &["code", "about", "seen"], faults);
        }
        if self.faults_left_out > 0 {
            let _ = writeln!(page, "<p>{} more faults are not listed.</p>", self.faults_left_out);
        }
        let checks = self.checks.iter().map(|check| {
            let passed = if check.passed { "passed" } else { "FAILED" };
            vec![check.name.to_owned(), passed.to_owned(), check.tried.to_string(), check.said.clone()]
        });
        page += &table("Checks", &["check", "result", "tried", "what"], checks);
        if let Some(noisy) = &self.noisy_neighbour {
            let row = |name: &str, times: &Times| {
                vec![name.to_owned(), format!("{:.1} ms", times.p50_ms), format!("{:.1} ms", times.p99_ms)]
            };
            let rows = [row("the other rests", &noisy.quiet), row("the other is noisy", &noisy.noisy)].into_iter();
            page += &table("Noisy neighbour", &["one canary while", "median", "99th percentile"], rows);
            let _ = writeln!(
                page,
                "<p>99th percentile × {:.1}; {} of {} requests failed; the noisy one kept {} in flight and had {} answers.</p>",
                noisy.p99_ratio, noisy.failed, noisy.requests, noisy.noise, noisy.noise_answered
            );
        }
        let stamps = self.stamps.iter().map(|(stamp, count)| vec![(*stamp).to_owned(), count.to_string()]);
        page += &table("Stamps", &["stamp", "tenants"], stamps);
        page + "</body></html>\n"
    }
}

/// Leaves the first of them, and says how many more there were.
fn cut<T>(list: &mut Vec<T>) -> usize {
    let left_out = list.len().saturating_sub(MOST);
    list.truncate(MOST);
    left_out
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn table(title: &str, header: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let cells = |cells: &[String], tag: &str| -> String {
        cells.iter().map(|cell| format!("<{tag}>{}</{tag}>", escape(cell))).collect()
    };
    let header: Vec<String> = header.iter().map(|name| (*name).to_owned()).collect();
    let rows: String = rows.map(|row| format!("<tr>{}</tr>\n", cells(&row, "td"))).collect();
    format!("<h2>{}</h2>\n<table><tr>{}</tr>\n{rows}</table>\n", escape(title), cells(&header, "th"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(tenants: usize, without_stamp: usize) -> Report {
        let right = tenants - without_stamp;
        let tenants: Vec<_> = (0..tenants)
            .map(|number| TenantProof {
                id: TenantId::generate(),
                slug: format!("t{number:04}").parse().unwrap(),
                cluster: None,
                stamp: if number < right { RIGHT } else { "missing" },
                bytes: Some(1),
            })
            .collect();
        let missing = tenants.iter().filter(|tenant| tenant.stamp != RIGHT);
        Report {
            installation: InstallationId::generate(),
            release: "1",
            at: DateTime::UNIX_EPOCH,
            url: "http://127.0.0.1/".into(),
            passed: false,
            faults: missing.map(|tenant| Fault::new("stamp_missing", &tenant.slug, "no stamp")).collect(),
            faults_left_out: 0,
            checks: Vec::new(),
            noisy_neighbour: None,
            sizes: Sizes { tenants: tenants.len(), clusters: 1, bytes: 0 },
            stamps: BTreeMap::new(),
            tenants,
            tenants_left_out: 0,
        }
    }

    #[test]
    fn a_large_fleet_is_counted_and_what_is_wrong_is_listed() {
        let mut few = report(3, 0);
        few.conclude(DateTime::UNIX_EPOCH);
        assert!(few.passed && few.tenants.len() == 3 && few.tenants_left_out == 0);
        assert_eq!(few.stamps, BTreeMap::from([(RIGHT, 3)]));

        let mut many = report(5000, 2);
        many.conclude(DateTime::UNIX_EPOCH);
        assert_eq!((many.tenants.len(), many.tenants_left_out), (5000, 0));
        many.shorten();
        assert_eq!((many.passed, many.faults.len(), many.faults_left_out), (false, 2, 0));
        assert_eq!(many.stamps, BTreeMap::from([("missing", 2), (RIGHT, 4998)]));
        assert_eq!((many.tenants.len(), many.tenants_left_out), (MOST, 5000 - MOST));
        let slugs: Vec<_> = many.tenants.iter().take(3).map(|tenant| tenant.slug.as_str()).collect();
        assert_eq!(slugs, ["t4998", "t4999", "t0000"]);

        let mut broken = report(5000, 5000);
        broken.conclude(DateTime::UNIX_EPOCH);
        broken.shorten();
        assert_eq!((broken.passed, broken.faults.len(), broken.faults_left_out), (false, MOST, 4000));
        assert!(broken.page().contains("4000 more faults are not listed"));
        assert!(serde_json::to_string_pretty(&broken).unwrap().len() < 1024 * 1024);
    }

    #[test]
    fn what_was_seen_stays_text_in_the_page() {
        assert_eq!(escape("<b a=\"1\">&"), "&lt;b a=&quot;1&quot;&gt;&amp;");
    }
}
