//! What the proof found.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::kernel::{InstallationId, Slug, TenantId};

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
    /// Every fault.
    pub faults: Vec<Fault>,
    /// What was asked.
    pub checks: Vec<Check>,
    /// Figures of the noisy-neighbour run.
    pub noisy_neighbour: Option<NoisyNeighbour>,
    /// How much was looked at.
    pub sizes: Sizes,
    /// Every tenant, by slug; the canaries aside.
    pub tenants: Vec<TenantProof>,
}

impl Report {
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
        let mut stamps: BTreeMap<&str, usize> = BTreeMap::new();
        self.tenants.iter().for_each(|tenant| *stamps.entry(tenant.stamp).or_default() += 1);
        let stamps = stamps.into_iter().map(|(stamp, count)| vec![stamp.to_owned(), count.to_string()]);
        page += &table("Stamps", &["stamp", "tenants"], stamps);
        page + "</body></html>\n"
    }
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

    #[test]
    fn what_was_seen_stays_text_in_the_page() {
        assert_eq!(escape("<b a=\"1\">&"), "&lt;b a=&quot;1&quot;&gt;&amp;");
    }
}
