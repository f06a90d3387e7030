//! What `tenantry dev` says when everything runs: addresses, logins, and three commands to begin with.

use std::fmt::Write as _;
use std::io::Write as _;

use super::directory::{Ready, ReadyTenant};

/// More tenants than these are in `ready.json` only.
const SHOWN: usize = 2;

/// Prints it to stdout.
pub(super) fn print(ready: &Ready, people_password: &str, directory: &std::path::Path) -> std::io::Result<()> {
    let text = text(ready, people_password, &directory.display().to_string());
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

fn text(ready: &Ready, people_password: &str, directory: &str) -> String {
    let mut out = String::new();
    let url = &ready.url;
    let mut line = |text: std::fmt::Arguments<'_>| out.write_fmt(text).expect("a String takes everything");
    line(format_args!("\nTenantry is ready.\n\n"));
    line(format_args!("  API         {url}/api/v1\n"));
    line(format_args!("  Docs        {url}/docs\n"));
    line(format_args!("  Metrics     {}/metrics\n", ready.management_url));
    line(format_args!("  Operator    {}  {}\n", ready.operator.email, ready.operator.password));
    let tenants = shown(&ready.tenants);
    for tenant in &tenants {
        let ReadyTenant { slug, admin_email, admin_password, .. } = tenant;
        line(format_args!("  {slug:<10}  {admin_email}  {admin_password}\n"));
    }
    if ready.tenants.len() > tenants.len() {
        line(format_args!("  … and {} more tenants\n", ready.tenants.len() - tenants.len()));
    }
    line(format_args!("  People      everybody else at the demo tenants  {people_password}\n"));
    line(format_args!("  Files       {directory}/ready.json has all of this for programs\n"));
    if let Some(tenant) = tenants.first() {
        line(format_args!("\nTry it, in another terminal:\n\n{}\n", commands(url, tenant)));
    }
    line(format_args!("\nCtrl-C stops everything; the data is kept.\n"));
    out
}

/// The demo's first names come first, whatever else sorts before them.
fn shown(tenants: &[ReadyTenant]) -> Vec<&ReadyTenant> {
    let mut known: Vec<_> = tenants.iter().collect();
    known.sort_by_key(|tenant| (!matches!(&*tenant.slug, "acme" | "globex"), &tenant.slug));
    known.truncate(SHOWN);
    known
}

/// Log in, list, create: plain `sh`, `curl` and `sed`. README.md shows the same.
fn commands(url: &str, tenant: &ReadyTenant) -> String {
    let ReadyTenant { slug, admin_email, admin_password, .. } = tenant;
    format!(
        "TOKEN=$(curl -s {url}/api/v1/auth/login -H 'Content-Type: application/json' \\\n  \
         -d '{{\"tenant\":\"{slug}\",\"email\":\"{admin_email}\",\"password\":\"{admin_password}\"}}' \\\n  \
         | sed 's/.*\"accessToken\":\"\\([^\"]*\\)\".*/\\1/')\n\
         curl -s '{url}/api/v1/contacts?pageSize=3' -H \"Authorization: Bearer $TOKEN\"\n\
         curl -s {url}/api/v1/contacts -H \"Authorization: Bearer $TOKEN\" -H 'Content-Type: application/json' \\\n  \
         -d '{{\"firstName\":\"Ada\",\"lastName\":\"Lovelace\",\"emails\":[{{\"label\":\"work\",\"value\":\"ada@example.com\"}}]}}'"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dev::directory::Login;
    use crate::kernel::TenantId;

    #[test]
    fn names_the_demo_tenants_and_prints_three_commands() {
        let tenant = |slug: &str| ReadyTenant {
            slug: slug.into(),
            id: TenantId::generate(),
            admin_email: format!("admin@{slug}.example"),
            admin_password: "secret-of-it".into(),
        };
        let ready = Ready {
            url: "http://127.0.0.1:1".into(),
            management_url: "http://127.0.0.1:2".into(),
            database_url: "postgres://control".into(),
            cluster_admin_url: "postgres://admin".into(),
            operator: Login { email: "operator@x.example".into(), password: "p".into() },
            tenants: ["aaa", "acme", "globex", "t0003"].map(tenant).to_vec(),
        };
        let text = text(&ready, "people", ".tenantry");
        assert_eq!(text.matches("curl -s").count(), 3);
        assert!(text.contains("  acme        admin@acme.example") && text.contains("and 2 more tenants"), "{text}");
        assert!(!text.contains("postgres://"));
    }

    #[test]
    fn the_readme_shows_the_same_commands() {
        let tenant = ReadyTenant {
            slug: "acme".into(),
            id: TenantId::generate(),
            admin_email: "<printed>".into(),
            admin_password: "<printed>".into(),
        };
        let printed = commands("http://127.0.0.1:8080", &tenant);
        let readme = include_str!("../../README.md");
        let shown = readme.split("```sh\n").filter_map(|rest| rest.split("\n```").next());
        let shown: Vec<_> = shown.filter(|block| block.starts_with("TOKEN=")).collect();
        assert_eq!(shown, [printed]);
    }
}
