//! Sending a browser back to an app.

use url::form_urlencoded::Serializer;

use crate::tenant::oauth::refusal::Refusal;

/// Where to, and what goes along whatever the answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Back<'a> {
    pub redirect_uri: &'a str,
    pub state: Option<&'a str>,
    /// So that the app knows whose answer it is (RFC 9207).
    pub issuer: &'a str,
}

impl Back<'_> {
    fn answer(&self, answer: &[(&str, &str)]) -> String {
        let mut all = answer.to_vec();
        all.extend(self.state.map(|state| ("state", state)));
        all.push(("iss", self.issuer));
        with(self.redirect_uri, &all)
    }

    /// With a code.
    pub(super) fn granted(&self, code: &str) -> String {
        self.answer(&[("code", code)])
    }

    /// With an error.
    pub(super) fn refused(&self, refusal: &Refusal) -> String {
        let (error, said) = refusal.parts();
        self.answer(&[("error", error), ("error_description", said)])
    }
}

/// An address with further parameters, otherwise as it was registered, to the letter.
pub(super) fn with(address: &str, parameters: &[(&str, &str)]) -> String {
    let query = Serializer::new(String::new()).extend_pairs(parameters).finish();
    let between = match address.split_once('?') {
        None => "?",
        Some((_, rest)) if rest.is_empty() || rest.ends_with('&') => "",
        Some(_) => "&",
    };
    format!("{address}{between}{query}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_stays_as_it_was_registered() {
        let back = Back { redirect_uri: "https://a.example/cb?x=1", state: Some("a b&c"), issuer: "https://i/t/a" };
        assert_eq!(back.granted("c"), "https://a.example/cb?x=1&code=c&state=a+b%26c&iss=https%3A%2F%2Fi%2Ft%2Fa");
        let refused = Back { state: None, ..back }.refused(&Refusal::new("access_denied", "No."));
        assert_eq!(
            refused,
            "https://a.example/cb?x=1&error=access_denied&error_description=No.&iss=https%3A%2F%2Fi%2Ft%2Fa"
        );
        assert_eq!(with("https://a.example", &[("a", "b")]), "https://a.example?a=b");
        assert_eq!(with("https://a.example/?", &[("a", "b")]), "https://a.example/?a=b");
    }
}
