//! From a mail to a letter: the words, in the person's language, with what is to be said put in.
//!
//! Templates are those of Jinja with names and conditions on names alone: nothing in them computes, loops or turns the
//! escaping of HTML off, so that one that was rendered once with made-up values can be rendered with any.

use std::collections::BTreeMap;

use diesel::prelude::*;
use diesel::sql_types::{Nullable, Text, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use minijinja::{Environment, HtmlEscape, UndefinedBehavior};
use uuid::Uuid;

use super::built_in::{self, Kind, LANGUAGES};
use super::{Mail, Parcel, Workspace, device, placed};
use crate::mailer::Letter;
use crate::router::{Tenant, TenantConn};

/// The name of a mail's link.
const LINK: &str = "link";
/// Links among the other things that a mail says, with spaces between them: no name that words can have.
const LINKS: &str = "links";
/// The longest subject, in characters.
const SUBJECT_CHARS: usize = 300;
/// What a template may do, in instructions.
const FUEL: u64 = 50_000;

/// Where the links in mails lead.
#[derive(Debug, Clone)]
pub struct Links {
    /// The app's address, without a trailing slash.
    pub app_url: String,
}

impl Links {
    /// A page of the app, with a token. Tokens are of letters, digits, `-` and `_`.
    fn to(&self, page: &str, token: &str) -> String {
        format!("{}/{page}?token={token}", self.app_url)
    }

    /// Where one signs in to a tenant. Slugs are of letters, digits and `-`.
    fn sign_in(&self, slug: &str) -> String {
        format!("{}/login?tenant={slug}", self.app_url)
    }
}

/// What is said by name; the links in what is said by [`LINKS`].
pub(super) type Values = BTreeMap<&'static str, String>;

/// The names that every mail knows. Empty where a mail has nothing to say there.
pub(super) const NAMES: &[&str] = &["organisation", "name", "link", "event", "time", "address", "device", "other"];

/// The words of one mail, as the organisation has them or as they are built in.
#[derive(Debug, Clone, QueryableByName)]
pub(super) struct Words {
    /// The language.
    #[diesel(sql_type = Text)]
    pub language: String,
    #[diesel(sql_type = Text)]
    pub subject: String,
    #[diesel(sql_type = Text)]
    pub body_text: String,
    /// None: made of the text.
    #[diesel(sql_type = Nullable<Text>)]
    pub body_html: Option<String>,
}

#[derive(QueryableByName)]
struct Wanted {
    #[diesel(sql_type = Nullable<Text>)]
    own: Option<String>,
    #[diesel(sql_type = Text)]
    common: String,
}

/// In which languages somebody wants to be written to, the first before the second.
async fn languages(conn: &mut TenantConn, user: Option<Uuid>) -> QueryResult<Vec<String>> {
    let wanted = diesel::sql_query(
        "SELECT (SELECT language FROM users WHERE id = $1) AS own, language AS common FROM mail_settings",
    );
    let Wanted { own, common } = wanted.bind::<Nullable<SqlUuid>, _>(user).get_result(conn).await?;
    Ok(own.into_iter().chain([common]).collect())
}

impl Words {
    /// The words for somebody: in their language, else in the organisation's, else in the first built-in one.
    pub(super) async fn of(conn: &mut TenantConn, name: &str, user: Option<Uuid>) -> QueryResult<Self> {
        for language in languages(conn, user).await? {
            if let Some(words) = Self::in_language(conn, name, &language).await? {
                return Ok(words);
            }
        }
        Ok(Self::built_in(name, LANGUAGES[0]))
    }

    /// The built-in words for somebody.
    pub(super) async fn built_in_for(conn: &mut TenantConn, name: &str, user: Option<Uuid>) -> QueryResult<Self> {
        let wanted = languages(conn, user).await?;
        let language = wanted.iter().map(String::as_str).find(|language| LANGUAGES.contains(language));
        Ok(Self::built_in(name, language.unwrap_or(LANGUAGES[0])))
    }

    /// The words in a language, if there are any in it.
    pub(super) async fn in_language(conn: &mut TenantConn, name: &str, language: &str) -> QueryResult<Option<Self>> {
        let built_in = || LANGUAGES.contains(&language).then(|| Self::built_in(name, language));
        if built_in::kind(name).is_none() {
            return Ok(built_in());
        }
        let own = diesel::sql_query(
            "SELECT language, subject, body_text, body_html FROM mail_templates WHERE name = $1 AND language = $2",
        );
        let own: Option<Self> =
            own.bind::<Text, _>(name).bind::<Text, _>(language).get_result(conn).await.optional()?;
        Ok(own.or_else(built_in))
    }

    /// The built-in words.
    pub(super) fn built_in(name: &str, language: &str) -> Self {
        let (subject, text) = built_in::words(name, language);
        Self { language: language.to_owned(), subject: subject.to_owned(), body_text: text.to_owned(), body_html: None }
    }

    /// The letter with what a mail has to say; `token` is that of its link, where it was made for this.
    pub(super) fn letter(
        &self,
        tenant: &Tenant,
        links: &Links,
        id: Uuid,
        (parcel, token): (&Parcel, &str),
    ) -> Result<Letter, minijinja::Error> {
        let values = values(tenant, links, (parcel, token), &self.language);
        let (subject, text, html) = self.render(&values)?;
        Ok(Letter { id: id.to_string(), to: parcel.to.clone(), subject, text, html })
    }

    /// The same by words that may be an organisation's own, and from before it was said where a link may stand. None if they
    /// cannot be rendered, or if the link of this mail would stand elsewhere.
    pub(super) fn own_letter(
        &self,
        tenant: &Tenant,
        links: &Links,
        id: Uuid,
        (parcel, token): (&Parcel, &str),
    ) -> Option<Letter> {
        let kind = built_in::kind(parcel.mail.template());
        if kind.is_some_and(|kind| kind.needs == LINK) {
            let values = values(tenant, links, (parcel, token), &self.language);
            if placed::fault_in(self, values).is_some() {
                return None;
            }
        }
        self.letter(tenant, links, id, (parcel, token)).ok()
    }

    /// Subject, text and HTML.
    pub(super) fn render(&self, values: &Values) -> Result<(String, String, String), minijinja::Error> {
        let subject = fill("subject.txt", &self.subject, values)?;
        let subject = subject.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(SUBJECT_CHARS).collect();
        let text = fill("body.txt", &self.body_text, values)?;
        let html = match &self.body_html {
            Some(html) => fill("body.html", html, values)?,
            None => as_html(&text, values, &self.language),
        };
        Ok((subject, text, html))
    }
}

fn fill(name: &str, source: &str, values: &Values) -> Result<String, minijinja::Error> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_fuel(Some(FUEL));
    let values = minijinja::Value::from_pairs(values.iter().map(|(name, value)| (*name, value.as_str())));
    environment.render_named_str(name, source, values)
}

/// A page of the paragraphs of a text. What stands alone and is a link of this mail, is one here too: nothing else, however
/// much it looks like an address, as what people and organisations are called is theirs to say.
fn as_html(text: &str, values: &Values, language: &str) -> String {
    let links: Vec<&str> =
        [LINK, LINKS].iter().filter_map(|name| values.get(name)).flat_map(|all| all.split(' ')).collect();
    let paragraphs = text.split("\n\n").map(str::trim).filter(|paragraph| !paragraph.is_empty());
    let body: String = paragraphs
        .map(|paragraph| {
            let escaped = HtmlEscape(paragraph).to_string();
            match links.contains(&paragraph) {
                true => format!("<p><a href=\"{escaped}\">{escaped}</a></p>\n"),
                false => format!("<p>{}</p>\n", escaped.replace('\n', "<br>\n")),
            }
        })
        .collect();
    format!(
        "<!doctype html>\n<html lang=\"{language}\"><head><meta charset=\"utf-8\"></head>\n\
         <body style=\"font-family: sans-serif; line-height: 1.5; max-width: 40em; margin: 1em auto\">\n{body}</body></html>\n"
    )
}

/// What a mail has to say.
fn values(tenant: &Tenant, links: &Links, (parcel, token): (&Parcel, &str), language: &str) -> Values {
    let mut values: Values = NAMES.iter().map(|name| (*name, String::new())).collect();
    values.insert("organisation", tenant.name.clone());
    values.insert("name", parcel.name.clone());
    match &parcel.mail {
        Mail::SecurityNotice(noticed) => {
            values.insert("event", noticed.notice.sentence(language));
            values.insert("time", noticed.at.format("%Y-%m-%d %H:%M UTC").to_string());
            values.insert("address", noticed.ip.clone().unwrap_or_default());
            let device = noticed.user_agent.as_deref().map(|header| device::said(header, language));
            values.insert("device", device.unwrap_or_default());
            values.insert("link", links.app_url.clone());
        }
        Mail::VerifyEmail => drop(values.insert("link", links.to("verify-email", token))),
        Mail::AlreadyRegistered => drop(values.insert("link", links.app_url.clone())),
        Mail::PasswordReset => drop(values.insert("link", links.to("reset-password", token))),
        Mail::ConfirmEmail { token } => drop(values.insert("link", links.to("confirm-email", token))),
        Mail::ApproveEmail { token, other } => {
            values.insert("link", links.to("confirm-email", token));
            values.insert("other", other.clone());
        }
        Mail::Invitation { token, by } => {
            values.insert("link", links.to("accept-invitation", token));
            values.insert("other", by.clone());
        }
        Mail::Workspaces { workspaces } => {
            let said = workspaces.iter().map(|Workspace { name, slug }| {
                let name = name.split_whitespace().collect::<Vec<_>>().join(" ");
                format!("{name}:\n\n{}", links.sign_in(slug))
            });
            values.insert("other", said.collect::<Vec<_>>().join("\n\n"));
            let to: Vec<String> = workspaces.iter().map(|workspace| links.sign_in(&workspace.slug)).collect();
            values.insert(LINKS, to.join(" "));
        }
        Mail::Nothing => {}
    }
    values
}

/// Made-up values, with which a template is tried out: each tells its name.
pub(super) fn trial() -> Values {
    NAMES.iter().map(|name| (*name, format!("https://example.com/?{name}=[<{name}>]"))).collect()
}

/// What is wrong with a template of a mail: the field and a sentence.
pub(super) fn fault(kind: &Kind, words: &Words) -> Option<(&'static str, String)> {
    let parts =
        [("subject", Some(&words.subject)), ("text", Some(&words.body_text)), ("html", words.body_html.as_ref())];
    for (field, source) in parts {
        if let Some(tag) = source.and_then(|source| beyond(source)) {
            let said =
                format!("'{tag}' cannot stand in a template: a name, or a condition on one, of {}.", NAMES.join(", "));
            return Some((field, said));
        }
    }
    for (field, source) in parts {
        let Some(source) = source else { continue };
        // With everything, and with nothing: both ways of each condition.
        let nothing = NAMES.iter().map(|name| (*name, String::new())).collect();
        for values in [&trial(), &nothing] {
            if let Err(error) = fill("body.html", source, values) {
                return Some((field, format!("It cannot be rendered: {error}")));
            }
        }
    }
    // The one thing that this mail is for is said, whatever else is known: each of the others, or none, or all of them.
    let nothing: Values = NAMES.iter().map(|name| (*name, String::new())).collect();
    let alone = NAMES.iter().map(|name| {
        let mut values = nothing.clone();
        values.insert(name, "known".to_owned());
        values
    });
    for mut values in alone.chain([trial(), nothing.clone()]) {
        values.insert(kind.needs, "needle".to_owned());
        let (_, text, html) = match words.render(&values) {
            Ok(rendered) => rendered,
            Err(error) => return Some(("text", format!("It cannot be rendered: {error}"))),
        };
        let without = |field| Some((field, format!("It has to say {{{{ {} }}}}, whatever else is known.", kind.needs)));
        match (text.contains("needle"), html.contains("needle")) {
            (false, _) => return without("text"),
            (_, false) => return without("html"),
            _ => {}
        }
    }
    if kind.needs == LINK { placed::fault(words) } else { None }
}

/// The first tag that is more than a name or a condition on one.
fn beyond(source: &str) -> Option<String> {
    let mut rest = source;
    while let Some(at) = rest.find(['{']).filter(|at| at + 1 < rest.len()) {
        rest = &rest[at..];
        let close = match rest.as_bytes()[1] {
            b'{' => "}}",
            b'%' => "%}",
            b'#' => "#}",
            _ => {
                rest = &rest[1..];
                continue;
            }
        };
        let Some(end) = rest.find(close) else { return Some(rest.chars().take(20).collect()) };
        let inside = rest[2..end].trim_matches('-').trim();
        let known = |name: &str| NAMES.contains(&name);
        let words: Vec<&str> = inside.split_whitespace().collect();
        let fine = match (close, words.as_slice()) {
            ("#}", _) | ("%}", ["else" | "endif"]) => true,
            ("}}", [name]) | ("%}", ["if" | "elif", name] | ["if" | "elif", "not", name]) => known(name),
            _ => false,
        };
        if !fine {
            return Some(rest[..end + 2].chars().take(60).collect());
        }
        rest = &rest[end + 2..];
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::built_in::{KINDS, OURS};
    use super::*;

    fn words(subject: &str, text: &str, html: Option<&str>) -> Words {
        let (subject, body_text) = (subject.to_owned(), text.to_owned());
        Words { language: "en".into(), subject, body_text, body_html: html.map(str::to_owned) }
    }

    #[test]
    fn what_is_built_in_is_fit_to_be_sent() {
        for kind in KINDS.iter().chain(OURS) {
            for language in LANGUAGES {
                let words = Words::built_in(kind.name, language);
                assert!(!words.subject.is_empty() && !words.body_text.is_empty(), "{} {language}", kind.name);
                assert_eq!(fault(kind, &words), None, "{} {language}", kind.name);
            }
        }
    }

    #[test]
    fn what_people_are_called_is_no_html_and_no_template() {
        let words = words("{{ name }}", "Hello {{ name }}\n\n{{ link }}", Some("<b>{{ name }}</b>"));
        let mut values = trial();
        values.insert("name", "<script>{{ event }}</script>\r\nBcc: eve".into());
        values.insert("link", "https://app.example.com/?a=1&b=\"2".into());
        let (subject, text, html) = words.render(&values).unwrap();
        assert!(!subject.contains('\n') && text.contains("<script>"));
        assert!(html.contains("&lt;script&gt;{{ event }}") && !html.contains("<script>"), "{html}");
        values.insert("name", "https://evil.example/<script>".into());
        let body_text = "<img src=\"x\">\n\n{{ name }}\n\n{{ link }}".to_owned();
        let (_, _, html) = Words { body_html: None, body_text, ..words }.render(&values).unwrap();
        assert!(!html.contains("<script>") && !html.contains("b=\"2") && html.contains("<a href=\"https:"), "{html}");
        assert!(
            !html.contains("<img")
                && !html.contains("href=\"https://evil")
                && !html.contains("href=\"https:&#x2f;&#x2f;evil")
        );
        assert_eq!(html.matches("<a ").count(), 1, "{html}");
    }

    #[test]
    fn templates_say_what_they_are_for_and_compute_nothing() {
        let kind = built_in::kind("security-notice").unwrap();
        let of = |subject: &str, text: &str, html: Option<&str>| fault(kind, &words(subject, text, html)).map(|f| f.0);
        assert_eq!(of("Hi", "{# said #}{% if name %}{{ name }}{% endif %} {{- event -}}", None), None);
        assert_eq!(of("Hi", "{{ event }}", Some("<p>{{ event }}</p>")), None);
        assert_eq!(of("Hi", "all is well", None), Some("text"));
        assert_eq!(of("Hi", "{% if name %}{{ event }}{% endif %}", None), Some("text"));
        assert_eq!(of("Hi", "{% if name %}all is well{% else %}{{ event }}{% endif %}", None), Some("text"));
        assert_eq!(of("Hi", "{{ event }}", Some("<p>all is well</p>")), Some("html"));
        assert_eq!(of("{{ nobody }}", "{{ event }}", None), Some("subject"));
        for bad in [
            "{{ event }}{{ name|safe }}",
            "{{ event }}{% autoescape false %}{{ name }}{% endautoescape %}",
            "{{ event }}{% for x in name %}{{ x }}{% endfor %}",
            "{{ event }}{% set name = name %}",
            "{{ event }}{{ \"x\" * 1000000 }}",
            "{{ event }}{% if name %}",
            "{{ event }}{{ event",
            "{{ event }}{% include 'x' %}",
        ] {
            assert_eq!(of("Hi", bad, None), Some("text"), "{bad}");
        }
    }
}
