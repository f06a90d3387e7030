//! What came back, with assertions that read as sentences and fail with the whole answer.

use std::fmt;

use reqwest::header::{CONTENT_TYPE, HeaderMap};
use serde_json::Value;

/// An answer of the application.
#[derive(Clone)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Headers.
    pub headers: HeaderMap,
    /// The body as JSON; `null` if it is none.
    pub body: Value,
    /// The body as text.
    pub text: String,
    /// What was asked, for messages.
    pub(super) asked: String,
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} answered {}\n{:#?}\n{}", self.asked, self.status, self.headers, self.text)
    }
}

impl Answer {
    pub(super) async fn read(asked: String, response: reqwest::Response) -> Self {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await.unwrap_or_else(|error| panic!("{asked}: the body breaks off: {error}"));
        // So it is with every answer, whatever a test is about.
        let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let encoded = !kind.starts_with("text/") || kind.to_lowercase().contains("charset=utf-8");
        assert!(text.is_empty() || (!kind.is_empty() && encoded), "{asked} is answered as {kind:?}: {text}");
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        Self { status, headers, body, text, asked }
    }

    /// Asserts the status.
    ///
    /// # Panics
    /// If it is another.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }

    /// Asserts success.
    ///
    /// # Panics
    /// If the status is none of 2xx.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert!((200..300).contains(&self.status), "{self:?}");
        self
    }

    /// Asserts a refusal with a code of `docs/errors.md`.
    ///
    /// # Panics
    /// If status or code is another.
    #[track_caller]
    pub fn refused(self, status: u16, code: &str) -> Self {
        assert_eq!((self.status, self.code()), (status, code), "{self:?}");
        self
    }

    /// Asserts 422 and gives the faults as `(field, code)`.
    ///
    /// # Panics
    /// If the answer is another.
    #[must_use]
    #[track_caller]
    pub fn invalid(&self) -> Vec<(String, String)> {
        assert_eq!((self.status, self.code()), (422, "validation_failed"), "{self:?}");
        let word = |fault: &Value, member: &str| fault[member].as_str().unwrap_or_default().to_owned();
        let faults = self.body["error"]["errors"].as_array().cloned().unwrap_or_default();
        faults.iter().map(|fault| (word(fault, "field"), word(fault, "code"))).collect()
    }

    /// `data` of the envelope.
    #[must_use]
    pub fn data(&self) -> &Value {
        &self.body["data"]
    }

    /// `data.id`.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    #[track_caller]
    pub fn id(&self) -> String {
        self.body["data"]["id"].as_str().unwrap_or_else(|| panic!("no id: {self:?}")).to_owned()
    }

    /// The error's code, of the envelope or the bare problem; empty if there is none.
    #[must_use]
    pub fn code(&self) -> &str {
        self.body["error"]["code"].as_str().or_else(|| self.body["code"].as_str()).unwrap_or_default()
    }

    /// A header, if it is there and text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The body without what differs between two equal answers: the request's id.
    #[must_use]
    pub fn without_request_id(&self) -> Value {
        fn strip(value: &mut Value) {
            match value {
                Value::Object(members) => {
                    members.remove("requestId");
                    members.values_mut().for_each(strip);
                }
                Value::Array(items) => items.iter_mut().for_each(strip),
                _ => {}
            }
        }
        let mut body = self.body.clone();
        strip(&mut body);
        body
    }
}
