//! The words that the product brings along: a subject and a text for each mail, in each language.

/// Languages with built-in words, the first where nothing else is chosen.
pub(super) const LANGUAGES: &[&str] = &["en", "de"];

/// A mail that can be sent.
#[derive(Debug)]
pub(super) struct Kind {
    /// Its name.
    pub name: &'static str,
    /// What it has to say, whatever else it says: a variable.
    pub needs: &'static str,
    /// Words, in the order of [`LANGUAGES`].
    words: [&'static str; 2],
}

macro_rules! kinds {
    ($(#[$said:meta])* $kinds:ident: $($name:literal needs $needs:literal;)+) => {
        $(#[$said])*
        pub(super) const $kinds: &[Kind] = &[$(Kind {
            name: $name,
            needs: $needs,
            words: [
                include_str!(concat!("templates/", $name, ".en.txt")),
                include_str!(concat!("templates/", $name, ".de.txt")),
            ],
        },)+];
    };
}

kinds! {
    /// Every mail that an organisation can word.
    KINDS:
    "security-notice" needs "event";
    "verify-email" needs "link";
    "already-registered" needs "link";
    "password-reset" needs "link";
    "confirm-email" needs "link";
    "approve-email" needs "link";
    "invitation" needs "link";
}

kinds! {
    /// Mails of the installation, which speak of other organisations too: none of them words those.
    OURS:
    "workspaces" needs "other";
}

impl Kind {
    /// Subject and text in a language; in the first where there are none in this.
    pub(super) fn words(&self, language: &str) -> (&'static str, &'static str) {
        let at = LANGUAGES.iter().position(|known| *known == language).unwrap_or(0);
        self.words[at].split_once("\n---\n").unwrap_or_default()
    }
}

/// The built-in words of a mail.
pub(super) fn words(name: &str, language: &str) -> (&'static str, &'static str) {
    let found = KINDS.iter().chain(OURS).find(|kind| kind.name == name);
    found.map(|kind| kind.words(language)).unwrap_or_default()
}

/// A mail that an organisation can word, by its name.
pub(super) fn kind(name: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.name == name)
}

/// Whether a text has the form of a language: two letters of ISO 639-1.
pub(super) fn is_language(text: &str) -> bool {
    text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_lowercase())
}
