//! The table of forged tokens: each row a name and a token, one step away from a good one.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD as BASE64URL};
use serde_json::{Value, json};

use crate::support::jwt::{Forge, encode};

pub(super) type Row = (String, String);

/// Every row. `mine` is the attacked tenant, `other` the attacker's own.
pub(super) fn rows(mine: &Forge, other: &Forge) -> Vec<Row> {
    let mut rows = Vec::new();
    for part in [algorithms, headers, key_ids, claims_of_whom, times, shapes, duplicates] {
        rows.extend(part(mine, other));
    }
    rows
}

fn row(name: impl Into<String>, token: String) -> Row {
    (name.into(), token)
}

fn unsigned(header: &Value, claims: &Value) -> String {
    format!("{}.{}.", encode(&header.to_string()), encode(&claims.to_string()))
}

fn algorithms(mine: &Forge, _: &Forge) -> Vec<Row> {
    let mut rows = Vec::new();
    let signature = mine.token.rsplit('.').next().expect("a signature").to_owned();
    for alg in ["none", "None", "NONE", "nOnE", "none ", " none", "", "null", "NoNe\u{0}", "plain"] {
        let token = unsigned(&mine.header_with("alg", json!(alg)), &mine.claims());
        rows.push(row(format!("alg {alg:?}, unsigned"), token.clone()));
        rows.push(row(format!("alg {alg:?}, the old signature"), token + &signature));
        rows.push(row(format!("alg {alg:?}, well signed"), mine.under(&mine.header_with("alg", json!(alg)))));
    }
    rows.push(row("alg left out", mine.under(&mine.header_with("alg", Value::Null))));
    for alg in [json!(["EdDSA"]), json!({"name": "EdDSA"}), json!(0), json!(true)] {
        rows.push(row(format!("alg {alg}"), mine.under(&mine.header_with("alg", alg))));
    }
    // The public key is no secret: it must not serve as one.
    let der_prefix = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
    let der = [&der_prefix[..], &mine.public].concat();
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(&der));
    let secrets = [
        ("its raw bytes", mine.public.clone()),
        ("its base64url", BASE64URL.encode(&mine.public).into_bytes()),
        ("its DER", der),
        ("its PEM", pem.into_bytes()),
        ("nothing", Vec::new()),
    ];
    for (alg, with) in [("HS256", hmac::HMAC_SHA256), ("HS384", hmac::HMAC_SHA384), ("HS512", hmac::HMAC_SHA512)] {
        for (what, secret) in &secrets {
            let header = mine.header_with("alg", json!(alg));
            let input = format!("{}.{}", encode(&header.to_string()), encode(&mine.claims().to_string()));
            let tag = hmac::sign(&hmac::Key::new(with, secret), input.as_bytes());
            rows.push(row(
                format!("{alg} keyed with the public key as {what}"),
                format!("{input}.{}", BASE64URL.encode(tag)),
            ));
        }
    }
    for alg in [
        "RS256", "RS384", "RS512", "PS256", "PS512", "ES256", "ES384", "ES512", "ES256K", "Ed448", "eddsa", "EDDSA",
        "Ed25519", "A128KW", "dir", "RSA1_5",
    ] {
        rows.push(row(format!("alg {alg} over an EdDSA signature"), mine.under(&mine.header_with("alg", json!(alg)))));
    }
    rows
}

fn headers(mine: &Forge, _: &Forge) -> Vec<Row> {
    let url = "http://127.0.0.1:9/keys.json";
    let jwk = json!({"kty": "OKP", "crv": "Ed25519", "x": BASE64URL.encode(&mine.public)});
    let additions = [
        ("jwk", jwk.clone()),
        ("jku", json!(url)),
        ("x5u", json!(url)),
        ("x5c", json!(["MIIB"])),
        ("x5t", json!("AA")),
        ("crit", json!([])),
        ("crit", json!(["exp"])),
        ("crit", json!(["b64"])),
        ("b64", json!(false)),
        ("b64", json!(true)),
        ("zip", json!("DEF")),
        ("enc", json!("A256GCM")),
        ("cty", json!("JWT")),
        ("p2c", json!(2_147_483_647)),
        ("epk", jwk),
        ("unheard-of", json!(1)),
    ];
    let mut rows: Vec<_> = additions
        .into_iter()
        .map(|(name, value)| row(format!("header {name}: {value}"), mine.under(&mine.header_with(name, value))))
        .collect();
    for typ in [
        "JWT",
        "jwt",
        "at+JWT",
        "AT+JWT",
        "application/at+jwt",
        "at+jwt ",
        "",
        "refresh+jwt",
        "op+jwt",
        "id_token",
        "dpop+jwt",
    ] {
        rows.push(row(format!("typ {typ:?}"), mine.under(&mine.header_with("typ", json!(typ)))));
    }
    for typ in [json!(["at+jwt"]), json!(1), json!({})] {
        rows.push(row(format!("typ {typ}"), mine.under(&mine.header_with("typ", typ))));
    }
    rows.push(row("typ left out", mine.under(&mine.header_with("typ", Value::Null))));
    rows
}

fn key_ids(mine: &Forge, other: &Forge) -> Vec<Row> {
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

fn claims_of_whom(mine: &Forge, other: &Forge) -> Vec<Row> {
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

fn times(mine: &Forge, _: &Forge) -> Vec<Row> {
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

fn shapes(mine: &Forge, _: &Forge) -> Vec<Row> {
    let token = mine.token.as_str();
    let parts: Vec<&str> = token.split('.').collect();
    let [header, claims, signature] = parts[..] else { panic!("three parts") };
    let bytes = BASE64URL.decode(signature).expect("base64url");
    let mut flipped = bytes.clone();
    flipped[0] ^= 1;
    // The same bytes with other spare bits in the last character.
    let last = signature.chars().last().expect("a character");
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let at = alphabet.find(last).expect("of the alphabet");
    let spare = format!("{}{}", &signature[..signature.len() - 1], &alphabet[at ^ 1..=at ^ 1]);
    let padded = |part: &str| URL_SAFE.encode(BASE64URL.decode(part).expect("base64url"));
    let signed = |header: &str, claims: &str| mine.sign_text(header, claims);
    let (header_text, claims_text) = (mine.header().to_string(), mine.claims().to_string());
    let long = mine.claims_with("roles", json!(vec!["x".repeat(100); 60]));
    let padded_claims = json!({"text": "x".repeat(60_000)});
    [
        ("the letter a", "a".to_owned()),
        ("dots", "..".to_owned()),
        ("more dots", "......".to_owned()),
        ("two parts", format!("{header}.{claims}")),
        ("no signature", format!("{header}.{claims}.")),
        ("no claims", format!("{header}..{signature}")),
        ("no header", format!(".{claims}.{signature}")),
        ("four parts", format!("{token}.{signature}")),
        ("five parts, as an encrypted token has", format!("{header}.{claims}.{signature}.{claims}.{signature}")),
        ("a leading dot", format!(".{token}")),
        ("a bit of the signature", format!("{header}.{claims}.{}", BASE64URL.encode(&flipped))),
        ("half a signature", format!("{header}.{claims}.{}", BASE64URL.encode(&bytes[..32]))),
        ("a longer signature", format!("{header}.{claims}.{}", BASE64URL.encode([&bytes[..], &[0]].concat()))),
        ("a signature of zeroes", format!("{header}.{claims}.{}", BASE64URL.encode([0; 64]))),
        ("spare bits in the signature", format!("{header}.{claims}.{spare}")),
        ("padding after the signature", format!("{token}==")),
        ("a padded signature", format!("{header}.{claims}.{}", padded(signature))),
        ("padding after the header", format!("{header}=.{claims}.{signature}")),
        ("padding after the claims", format!("{header}.{claims}==.{signature}")),
        ("white space within", format!("{header} .{claims}.{signature}")),
        ("white space before the signature", format!("{header}.{claims}. {signature}")),
        ("a tab within", format!("{header}.{claims}\t.{signature}")),
        ("the token twice", format!("{token} {token}")),
        ("the token twice, with a comma", format!("{token},{token}")),
        ("Bearer twice", format!("Bearer {token}")),
        ("quotes", format!("\"{token}\"")),
        (
            "claims changed after signing",
            format!(
                "{header}.{}.{signature}",
                encode(&mine.claims_with("roles", json!(["admin", "root"])).to_string())
            ),
        ),
        ("header changed after signing", format!("{}.{claims}.{signature}", encode(&format!("{header_text} ")))),
        ("header and claims swapped", format!("{claims}.{header}.{signature}")),
        ("claims that are an array", signed(&header_text, &format!("[{claims_text}]"))),
        ("claims that are a text", signed(&header_text, "\"admin\"")),
        ("claims that are null", signed(&header_text, "null")),
        ("no claims at all", signed(&header_text, "{}")),
        ("an empty payload", signed(&header_text, "")),
        ("claims and more", signed(&header_text, &format!("{claims_text}{claims_text}"))),
        ("a byte order mark", signed(&header_text, &format!("\u{feff}{claims_text}"))),
        ("a NUL after the claims", signed(&header_text, &format!("{claims_text}\u{0}"))),
        ("a NUL within the claims", signed(&header_text, &claims_text.replacen("\"tid\"", "\"t\u{0}id\"", 1))),
        ("a header that is an array", signed(&format!("[{header_text}]"), &claims_text)),
        ("an empty header", signed("{}", &claims_text)),
        ("a header that is null", signed("null", &claims_text)),
        ("a NUL after the header", signed(&format!("{header_text}\u{0}"), &claims_text)),
        ("deep nesting", signed(&header_text, &"[".repeat(2000))),
        ("a token within a token", signed(&header_text, &format!("\"{token}\""))),
        ("oversize, well signed", mine.claiming(&long)),
        ("oversize by far", format!("{}.{}.{signature}", header, encode(&padded_claims.to_string()))),
        ("oversize without a dot", "a".repeat(8000)),
    ]
    .into_iter()
    .map(|(name, token)| row(name, token))
    .collect()
}

/// The same member twice: readers disagree about which one counts, so none may.
fn duplicates(mine: &Forge, other: &Forge) -> Vec<Row> {
    let mut rows = Vec::new();
    let twice = |object: &Value, name: &str, value: &Value, first: bool| {
        let text = object.to_string();
        let inner = &text[1..text.len() - 1];
        let extra = format!("{}:{value}", json!(name));
        if first { format!("{{{extra},{inner}}}") } else { format!("{{{inner},{extra}}}") }
    };
    let header = [("alg", json!("none")), ("alg", json!("EdDSA")), ("kid", json!(other.kid)), ("typ", json!("JWT"))];
    for (name, value) in header {
        for first in [true, false] {
            let text = twice(&mine.header(), name, &value, first);
            rows.push(row(
                format!("header with {name} twice, {value} first: {first}"),
                mine.sign_text(&text, &mine.claims().to_string()),
            ));
        }
    }
    for name in ["tid", "iss", "aud", "sub", "sid", "exp", "roles"] {
        for value in [other.claims()[name].clone(), mine.claims()[name].clone()] {
            for first in [true, false] {
                let text = twice(&mine.claims(), name, &value, first);
                rows.push(row(
                    format!("claims with {name} twice, {value} first: {first}"),
                    mine.sign_text(&mine.header().to_string(), &text),
                ));
            }
        }
    }
    rows
}
