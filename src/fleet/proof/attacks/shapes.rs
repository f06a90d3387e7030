//! What is no token, and members that stand there twice.

use base64::Engine as _;
use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD as BASE64URL};
use serde_json::{Value, json};

use super::{Forge, Row, encode, row};

pub(super) fn shapes(mine: &Forge, _: &Forge) -> Vec<Row> {
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
pub(super) fn duplicates(mine: &Forge, other: &Forge) -> Vec<Row> {
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
