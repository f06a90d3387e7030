//! What a password that somebody chooses has to be like (NIST SP 800-63B-4, section 3.1.1.2): long, and not among the
//! first that anybody would try. No rules about kinds of characters.

use secrecy::{ExposeSecret, SecretString};
use zxcvbn::{Score, zxcvbn};

use crate::error::FieldError;

/// The longest password, in bytes.
pub const MAX_BYTES: usize = 256;

/// The fewest characters of a password that is the only proof.
pub const MIN_CHARS: usize = 15;
/// The fewest beside a second factor, and the fewest that can be asked for.
pub const MIN_CHARS_WITH_FACTOR: usize = 8;
/// The fewest for an operator.
const MIN_CHARS_OF_OPERATORS: usize = 10;

/// How many letters and digits a password has to have besides what is known of whose it is.
const OF_THEIR_OWN: usize = 6;

/// What a password has to be like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// The fewest characters.
    pub min_chars: usize,
    /// What anybody would try first, knowing whose it is.
    pub context: Vec<String>,
}

impl Rules {
    /// Of somebody with this address, where no tenant has rules of its own.
    #[must_use]
    pub fn usual(email: &str) -> Self {
        Self { min_chars: MIN_CHARS, context: Vec::new() }.knowing(email)
    }

    /// Of an operator.
    #[must_use]
    pub fn of_operators(email: &str) -> Self {
        Self { min_chars: MIN_CHARS_OF_OPERATORS, context: Vec::new() }.knowing(email)
    }

    /// One thing more that is known of whose it is: taken whole and word by word.
    #[must_use]
    pub fn knowing(mut self, words: &str) -> Self {
        let words = words.trim().to_lowercase();
        let parts = words.split(|c: char| !c.is_alphanumeric()).filter(|part| part.chars().count() > 2);
        self.context.extend(parts.map(str::to_owned));
        if let Some((local_part, _)) = words.split_once('@') {
            self.context.push(local_part.to_owned());
        }
        if !words.is_empty() {
            self.context.push(words);
        }
        self
    }

    /// What is wrong with the length of a password. `None` if it will do.
    #[must_use]
    pub fn length_fault(&self, field: &'static str, password: &SecretString) -> Option<FieldError> {
        let text = password.expose_secret();
        if text.chars().count() < self.min_chars {
            return Some(FieldError::new(field, "too_short", format!("At least {} characters.", self.min_chars)));
        }
        if text.len() > MAX_BYTES {
            return Some(FieldError::new(field, "too_long", format!("At most {MAX_BYTES} bytes.")));
        }
        None
    }

    /// What is wrong with a password, which takes a millisecond of computing. `None` if it will do.
    pub(super) fn fault(&self, field: &'static str, password: &SecretString) -> Option<FieldError> {
        let fault = self.length_fault(field, password);
        if fault.is_some() {
            return fault;
        }
        if self.is_made_of_context(password.expose_secret()) {
            let said = "It is made of names, of the address, or of words that the organisation has blocked.";
            return Some(FieldError::new(field, "too_guessable", said));
        }
        let context: Vec<&str> = self.context.iter().map(String::as_str).collect();
        let found = zxcvbn(password.expose_secret(), &context);
        // Two and more would take a million guesses: far more than the lockout lets anybody make.
        if found.score() >= Score::Two {
            return None;
        }
        let mut said = String::from("It is among the first that would be tried.");
        if let Some(feedback) = found.feedback() {
            let warning = feedback.warning().map(|warning| warning.to_string());
            for sentence in warning.into_iter().chain(feedback.suggestions().iter().map(ToString::to_string)) {
                said.push(' ');
                said.push_str(&sentence);
            }
        }
        Some(FieldError::new(field, "too_guessable", said))
    }

    /// Whether hardly anything is left of it without what is known of whose it is.
    fn is_made_of_context(&self, text: &str) -> bool {
        let mut words: Vec<&str> = self.context.iter().map(String::as_str).collect();
        words.sort_unstable_by_key(|word| std::cmp::Reverse(word.len()));
        let all = text.to_lowercase();
        let left = words.iter().fold(all.clone(), |left, word| left.replace(word, " "));
        left != all && left.chars().filter(|c| c.is_alphanumeric()).count() < OF_THEIR_OWN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(text: &str) -> Option<String> {
        let rules = Rules::usual("Ada.Lovelace@acme.test").knowing("Byron Steam Engines");
        rules.fault("password", &text.to_owned().into()).map(|fault| fault.code.to_string())
    }

    #[test]
    fn long_ones_pass() {
        assert_eq!(judge("correct horse battery"), None);
        assert_eq!(judge("ßäöüéèàçñøåæœþð"), None);
        assert_eq!(judge(&"xkcd-9-wagons ".repeat(5)), None);
        assert_eq!(judge("correct horse!"), Some("too_short".into()));
        assert_eq!(judge(&"x".repeat(257)), Some("too_long".into()));
    }

    #[test]
    fn what_anybody_would_try_does_not() {
        let guessable = [
            "aaaaaaaaaaaaaaaaaaaa",
            "123456789012345678",
            "passwordpassword",
            "qwertyuiopasdfghjkl",
            "ada.lovelace@ACME.test",
            "lovelacelovelace",
            "byron steam engines",
            "Lovelace & Byron 2024!",
        ];
        for text in guessable {
            assert_eq!(judge(text), Some("too_guessable".into()), "{text}");
        }
    }

    #[test]
    fn it_says_what_to_do() {
        let fault = Rules::usual("a@b.test").fault("password", &"passwordpassword".to_owned().into()).unwrap();
        assert!(fault.message.contains("Add another word or two"), "{}", fault.message);
    }
}
