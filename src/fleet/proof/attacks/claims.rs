//! Other claims, well signed: whose, and until when.

use serde_json::{Value, json};

use super::{Forge, Row, row};

pub(super) fn claims_of_whom(mine: &Forge, other: &Forge) -> Vec<Row> {
    let tid = mine.claims()["tid"].as_str().expect("tid").to_owned();
    let foreign = other.claims()["tid"].as_str().expect("tid").to_owned();
    let homoglyph = tid.replacen(['a', 'e', 'c', '0', '1'], "\u{0430}", 1);
    let full_width = tid.replacen(['0', '1', '2', '3'], "\u{ff10}", 1);
    let mut rows = Vec::new();
    let mut claim = |name: &str, value: Value| {
        rows.push(row(format!("{name}: {value}"), mine.claiming(&mine.claims_with(name, value))));
    };
    let look_alikes = [
        foreign.clone(),
        tid.to_uppercase(),
        format!("{{{tid}}}"),
        format!("urn:uuid:{tid}"),
        tid.replace('-', ""),
        homoglyph,
        full_width,
        format!("{tid} "),
        format!(" {tid}"),
        format!("{tid}\u{0}"),
        format!("{tid}\u{200b}"),
        format!("{tid},{foreign}"),
        "00000000-0000-0000-0000-000000000000".into(),
        String::new(),
        "acme".into(),
    ];
    for look_alike in look_alikes {
        claim("tid", json!(look_alike));
    }
    for value in [json!([tid]), json!([tid, foreign]), json!({"id": tid}), json!(0), json!(true), Value::Null] {
        claim("tid", value);
    }
    let iss = mine.claims()["iss"].as_str().expect("iss").to_owned();
    let other_iss = other.claims()["iss"].clone();
    for name in ["iss", "aud"] {
        claim(name, other_iss.clone());
        for text in [
            format!("{iss}/"),
            iss.to_uppercase(),
            format!("{iss}\u{0}"),
            format!(" {iss}"),
            iss.replace("/t/", "/T/"),
            String::new(),
            "null".into(),
        ] {
            claim(name, json!(text));
        }
        for value in [json!([iss]), json!([iss, other_iss]), json!([]), json!(1), Value::Null] {
            claim(name, value);
        }
    }
    for value in [json!("../../admin"), json!("' OR 1=1 --"), json!([mine.claims()["sub"]]), json!(1), Value::Null] {
        claim("sub", value.clone());
        claim("sid", value);
    }
    claim("roles", json!("admin"));
    claim("roles", Value::Null);
    claim("ver", json!("1"));
    claim("jti", json!("not-a-uuid"));
    claim("scope", json!("admin"));
    claim("act", json!({"sub": "operator"}));
    rows
}

pub(super) fn times(mine: &Forge, _: &Forge) -> Vec<Row> {
    let iat = mine.claims()["iat"].as_i64().expect("iat");
    let mut rows = vec![row("expired", mine.expired())];
    let exp = [
        json!("4102444800"),
        json!(4_102_444_800.5),
        json!(4_102_444_800.0),
        json!(1e30),
        json!(u64::MAX),
        json!(i64::MIN),
        json!(-1),
        json!(0),
        json!(iat - 10),
        json!([4_102_444_800_i64]),
        json!(true),
        json!("never"),
        Value::Null,
    ];
    for value in exp {
        rows.push(row(format!("exp {value}"), mine.claiming(&mine.claims_with("exp", value))));
    }
    let text = mine.claims().to_string();
    let exp = mine.claims()["exp"].to_string();
    for literal in
        ["1e400", "-0", "18446744073709551616", "99999999999999999999999999", "0x7fffffff", "NaN", "Infinity", "null"]
    {
        let claims = text.replace(&format!("\"exp\":{exp}"), &format!("\"exp\":{literal}"));
        rows.push(row(format!("exp written {literal}"), mine.sign_text(&mine.header().to_string(), &claims)));
    }
    for value in [json!(iat + 3600), json!(i64::MAX), json!("0"), json!(0.5), Value::Null] {
        rows.push(row(format!("iat {value}"), mine.claiming(&mine.claims_with("iat", value))));
    }
    rows.push(row("nbf in the future", mine.claiming(&mine.claims_with("nbf", json!(iat + 3600)))));
    rows
}
