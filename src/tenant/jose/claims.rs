//! What a token says, and what of it has to be so.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::Fault;

/// One value or a list of them.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(untagged)]
pub(in crate::tenant) enum Audience {
    #[default]
    None,
    One(String),
    Many(Vec<String>),
}

impl Audience {
    fn has(&self, wanted: &str) -> bool {
        match self {
            Self::None => false,
            Self::One(one) => one == wanted,
            Self::Many(many) => many.iter().any(|one| one == wanted),
        }
    }

    /// Whether there are others besides one.
    pub(in crate::tenant) fn is_several(&self) -> bool {
        matches!(self, Self::Many(many) if many.len() > 1)
    }
}

/// The claims of a token. Times are Unix seconds.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(in crate::tenant) struct Claims {
    pub iss: String,
    pub sub: String,
    pub aud: Audience,
    pub exp: Option<f64>,
    pub iat: Option<f64>,
    pub nbf: Option<f64>,
    pub azp: Option<String>,
    pub nonce: Option<String>,
    pub auth_time: Option<f64>,
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// What a token has to say.
#[derive(Debug, Clone, Copy)]
pub(in crate::tenant) struct Rules<'a> {
    pub issuer: &'a str,
    pub audience: &'a str,
    /// Now, and how far clocks may differ, in seconds.
    pub now: i64,
    pub leeway: i64,
}

impl Claims {
    /// The `iss` of a token whose signature nobody has verified: good for choosing with whose keys to do that.
    ///
    /// # Errors
    /// If there is none.
    pub(in crate::tenant) fn unverified_issuer(token: &str) -> Result<String, Fault> {
        #[derive(Deserialize)]
        struct Issued {
            iss: String,
        }
        let payload = token.split('.').nth(1).and_then(|part| BASE64URL.decode(part).ok());
        let payload = payload.ok_or(Fault("payload encoding"))?;
        serde_json::from_slice::<Issued>(&payload).map(|issued| issued.iss).map_err(|_| Fault("iss"))
    }

    /// A claim that is a text.
    pub(in crate::tenant) fn text(&self, name: &str) -> Option<&str> {
        self.rest.get(name)?.as_str().filter(|text| !text.is_empty())
    }

    /// A claim that is true. Some issuers write it as a text.
    pub(in crate::tenant) fn is_true(&self, name: &str) -> bool {
        is_true(self.rest.get(name))
    }

    /// The words of a claim that is a list of texts, or one text.
    pub(in crate::tenant) fn words(&self, name: &str) -> Vec<&str> {
        match self.rest.get(name) {
            Some(Value::String(one)) => vec![one],
            Some(Value::Array(many)) => many.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        }
    }

    /// Checks issuer, audience and times.
    ///
    /// # Errors
    /// The first that is not so.
    #[expect(clippy::cast_precision_loss, reason = "seconds of our era are exact in a double")]
    pub(in crate::tenant) fn check(&self, rules: Rules<'_>) -> Result<(), Fault> {
        let (now, leeway) = (rules.now as f64, rules.leeway as f64);
        if self.iss != rules.issuer {
            return Err(Fault("iss"));
        }
        if !self.aud.has(rules.audience) {
            return Err(Fault("aud"));
        }
        let azp = self.azp.as_deref();
        if azp.is_some_and(|azp| azp != rules.audience && self.aud.is_several()) {
            return Err(Fault("azp"));
        }
        if self.exp.is_none_or(|exp| exp + leeway <= now) {
            return Err(Fault("exp"));
        }
        if self.nbf.is_some_and(|nbf| nbf > now + leeway) || self.iat.is_some_and(|iat| iat > now + leeway) {
            return Err(Fault("not yet"));
        }
        if self.sub.is_empty() || self.sub.len() > 255 || self.sub.contains('\0') {
            return Err(Fault("sub"));
        }
        Ok(())
    }
}

/// Whether a member is true, or the text `true`.
pub(in crate::tenant) fn is_true(value: Option<&Value>) -> bool {
    matches!(value, Some(Value::Bool(true))) || matches!(value, Some(Value::String(text)) if text == "true")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_claim_has_to_be_so() {
        let rules = Rules { issuer: "https://i", audience: "me", now: 1000, leeway: 5 };
        let good = json!({"iss": "https://i", "aud": "me", "sub": "s", "exp": 1001, "iat": 999});
        let said = |change: Value| {
            let mut claims = good.clone();
            for (name, value) in change.as_object().unwrap() {
                claims[name] = value.clone();
            }
            serde_json::from_value::<Claims>(claims).unwrap().check(rules).err().map(|fault| fault.0)
        };
        assert_eq!(said(json!({})), None);
        assert_eq!(said(json!({"aud": ["other", "me"], "azp": "me"})), None);
        for (change, fault) in [
            (json!({"iss": "https://i/"}), "iss"),
            (json!({"aud": "you"}), "aud"),
            (json!({"aud": []}), "aud"),
            (json!({"aud": null}), "aud"),
            (json!({"aud": ["other", "me"], "azp": "other"}), "azp"),
            (json!({"exp": 995}), "exp"),
            (json!({"exp": null}), "exp"),
            (json!({"nbf": 1006}), "not yet"),
            (json!({"iat": 1006}), "not yet"),
            (json!({"sub": ""}), "sub"),
        ] {
            assert_eq!(said(change.clone()), Some(fault), "{change}");
        }
    }
}
