//! Another algorithm, other members of the header.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD as BASE64URL};
use serde_json::{Value, json};

use super::{Forge, Row, encode, row, unsigned};

pub(super) fn algorithms(mine: &Forge, _: &Forge) -> Vec<Row> {
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

pub(super) fn headers(mine: &Forge, _: &Forge) -> Vec<Row> {
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
