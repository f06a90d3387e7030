//! How an app wants the person to be asked (OpenID Connect Core, section 3.1.2.1).

use chrono::{DateTime, Utc};

use crate::router::AccessClaims;
use crate::tenant::auth::FEDERATED;
use crate::tenant::oauth::endpoint::Form;
use crate::tenant::oauth::refusal::{Outcome, Refusal};

/// The built-in schema that keeps it (`V23__asked.sql`).
pub(super) const SINCE: i32 = 23;

/// Words of `prompt` that a request can wait with.
const PROMPTS: [&str; 3] = [LOGIN, CONSENT, "select_account"];
const LOGIN: &str = "login";
const CONSENT: &str = "consent";
/// How far a provider's clock may be behind ours, in seconds.
const LEEWAY: i64 = 60;

/// When somebody proved who they are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Proof {
    /// In seconds since 1970.
    auth_time: i64,
    /// By how many of them the clock that says so may be behind ours.
    leeway: i64,
}

impl Proof {
    /// What a token says.
    pub(super) fn of(claims: &AccessClaims) -> Self {
        Self::by(&claims.amr, claims.auth_time)
    }

    /// Where nothing was shown here after the sign-in at a provider, it is by the provider's clock.
    fn by(amr: &[String], auth_time: i64) -> Self {
        let leeway = if *amr == [FEDERATED] { LEEWAY } else { 0 };
        Self { auth_time, leeway }
    }
}

/// What is held against the sign-in of whoever answers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Demands {
    /// Seconds that may have passed since they proved who they are.
    pub max_age: Option<i32>,
    /// Words of `prompt`, with blanks between them.
    pub prompt: Option<String>,
}

impl Demands {
    /// Reads them. What we cannot keep to is refused: dropped, the app would believe that it was kept to.
    pub(super) fn read(form: &Form) -> Outcome<Self> {
        let max_age = match form.get("max_age") {
            None => None,
            Some(text) => Some(seconds(text).ok_or_else(|| Refusal::request("The max_age is no number of seconds."))?),
        };
        let Some(prompt) = form.get("prompt") else { return Ok(Self { max_age, prompt: None }) };
        let words: Vec<&str> = prompt.split(' ').filter(|word| !word.is_empty()).collect();
        if words == ["none"] {
            // Whether somebody is signed in, only the page knows to which the browser would be sent.
            return Err(Refusal::new("interaction_required", "The person has to be asked."));
        }
        if words.contains(&"none") {
            return Err(Refusal::request("The prompt none stands alone."));
        }
        if words.iter().any(|word| !PROMPTS.contains(word)) {
            return Err(Refusal::request("There are the prompts none, login, consent and select_account alone."));
        }
        let known: Vec<&str> = PROMPTS.into_iter().filter(|word| words.contains(word)).collect();
        Ok(Self { max_age, prompt: Some(known.join(" ")).filter(|words| !words.is_empty()) })
    }

    /// Whether there are any.
    pub(super) const fn is_none(&self) -> bool {
        self.max_age.is_none() && self.prompt.is_none()
    }

    /// The words of `prompt`.
    pub(super) fn prompts(&self) -> impl Iterator<Item = &str> {
        self.prompt.iter().flat_map(|words| words.split(' '))
    }

    /// Whether the person is to be asked whatever they agreed to before.
    pub(super) fn asks_again(&self) -> bool {
        self.prompts().any(|word| word == CONSENT)
    }

    /// Whether it is too long ago that somebody proved who they are. With a `max_age` of no time at all it has to be after the app
    /// asked, as with `prompt=login`: nobody is that quick.
    pub(super) fn is_stale(&self, proof: Proof, asked_at: DateTime<Utc>, now: DateTime<Utc>) -> bool {
        let Proof { auth_time, leeway } = proof;
        let anew = self.max_age == Some(0) || self.prompts().any(|word| word == LOGIN);
        let too_old =
            self.max_age.filter(|age| *age > 0).is_some_and(|age| auth_time < now.timestamp() - i64::from(age));
        too_old || (anew && auth_time < asked_at.timestamp() - leeway)
    }
}

/// A number of seconds, in digits alone.
fn seconds(text: &str) -> Option<i32> {
    text.parse().ok().filter(|_| text.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &str) -> Outcome<Demands> {
        Demands::read(&Form::read(query.as_bytes()).unwrap())
    }

    #[test]
    fn what_is_not_understood_is_refused_and_not_dropped() {
        for bad in ["max_age=-1", "max_age=%2B1", "max_age=1.5", "max_age=soon", "max_age=2147483648"] {
            assert_eq!(read(bad).unwrap_err().parts().0, "invalid_request", "{bad}");
        }
        for bad in ["prompt=create", "prompt=login+none", "prompt=Login"] {
            assert_eq!(read(bad).unwrap_err().parts().0, "invalid_request", "{bad}");
        }
        assert_eq!(read("prompt=none").unwrap_err().parts().0, "interaction_required");
        assert!(read("").unwrap().is_none() && read("prompt=+").unwrap().is_none());
        let both = read("max_age=60&prompt=consent++login+consent").unwrap();
        assert_eq!((both.max_age, both.prompt.as_deref()), (Some(60), Some("login consent")));
    }

    #[test]
    fn a_proof_is_as_new_as_was_asked_for() {
        let at = |seconds| DateTime::from_timestamp(seconds, 0).unwrap();
        let stale_by = |query: &str, proof| read(query).unwrap().is_stale(proof, at(1_000), at(1_100));
        let proof = |amr: &[&str], at| Proof::by(&amr.iter().map(|&how| how.to_owned()).collect::<Vec<_>>(), at);
        let is_stale = |query: &str, auth_time| stale_by(query, proof(&["pwd"], auth_time));
        assert!(!is_stale("", 0) && !is_stale("prompt=consent", 0));
        assert!(is_stale("max_age=60", 1_039) && !is_stale("max_age=60", 1_040));
        for anew in ["prompt=login", "max_age=0", "prompt=login&max_age=2147483647"] {
            assert!(is_stale(anew, 999) && !is_stale(anew, 1_000), "{anew}");
        }
        assert!(is_stale("prompt=login&max_age=60", 1_000));
        // A provider's clock may be behind ours. Of what was shown here, ours has the time.
        for anew in ["prompt=login", "max_age=0"] {
            let theirs = |auth_time| stale_by(anew, proof(&["fed"], auth_time));
            assert!(theirs(939) && !theirs(940) && stale_by(anew, proof(&["fed", "otp"], 999)), "{anew}");
        }
    }
}
