//! Another key, or the name of one.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD as BASE64URL};
use serde_json::{Value, json};

use super::{Forge, Row, row};

pub(super) fn key_ids(mine: &Forge, other: &Forge) -> Vec<Row> {
    let kid = mine.kid.as_str();
    let decoded = |forge: &Forge| BASE64URL.decode(&forge.kid).expect("a kid of ours");
    // The victim's tenant, the attacker's key, and the check of either.
    let (a, b) = (decoded(mine), decoded(other));
    let spliced = [
        [&a[..16], &b[16..]].concat(),
        [&a[..32], &b[32..]].concat(),
        [&b[..32], &a[32..]].concat(),
        a[..32].to_vec(),
        [&a[..], &[0]].concat(),
        vec![0; a.len()],
    ];
    let mut texts: Vec<String> = spliced.iter().map(|bytes| BASE64URL.encode(bytes)).collect();
    texts.extend(
        [
            "",
            " ",
            "0",
            "../../../../dev/null",
            "..\\..\\windows\\win.ini",
            "/etc/passwd",
            "/dev/null",
            "file:///etc/passwd",
            "http://127.0.0.1:9/key",
            "' OR '1'='1",
            "' UNION SELECT '\\x00' --",
            "'; DROP TABLE signing_keys; --",
            "1; SELECT pg_sleep(10)",
            "${jndi:ldap://127.0.0.1/a}",
            "| whoami",
            "\u{0}",
            "%00",
            "01890000-0000-7000-8000-000000000000",
        ]
        .map(str::to_owned),
    );
    texts.extend([
        format!("{kid}="),
        format!("{kid}=="),
        format!(" {kid}"),
        format!("{kid} "),
        format!("{kid}\n"),
        format!("{kid}\u{0}"),
        format!("{kid}/../{kid}"),
        kid.to_uppercase(),
        kid.to_lowercase(),
        STANDARD.encode(&a),
        "A".repeat(3000),
    ]);
    let mut rows: Vec<_> = texts
        .iter()
        .filter(|text| *text != kid)
        .map(|text| {
            row(
                format!("kid {:?}", text.chars().take(60).collect::<String>()),
                mine.under(&mine.header_with("kid", json!(text))),
            )
        })
        .collect();
    for value in [json!([kid]), json!({"kid": kid}), json!(7), json!(true)] {
        rows.push(row(format!("kid {value}"), mine.under(&mine.header_with("kid", value))));
    }
    rows.push(row("kid left out", mine.under(&mine.header_with("kid", Value::Null))));
    rows.push(row("the other tenant's kid", mine.under(&other.header())));
    rows.push(row("the other tenant's signature", other.sign(&mine.header(), &mine.claims())));
    rows.push(row("the other tenant's key and kid", other.sign(&other.header(), &mine.claims())));
    rows
}
