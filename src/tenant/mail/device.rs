//! What somebody came with, in words of ours: the header is of whoever writes it, and a notice is no place for their words.

/// Browsers by what their header has, those that name others too before these.
const BROWSERS: &[(&str, &str)] = &[
    ("Edg/", "Edge"),
    ("OPR/", "Opera"),
    ("SamsungBrowser/", "Samsung Internet"),
    ("FxiOS/", "Firefox"),
    ("Firefox/", "Firefox"),
    ("CriOS/", "Chrome"),
    ("Chrome/", "Chrome"),
    ("Safari/", "Safari"),
];

/// Systems, as [`BROWSERS`].
const SYSTEMS: &[(&str, &str)] = &[
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Android", "Android"),
    ("Windows", "Windows"),
    ("Macintosh", "macOS"),
    ("CrOS", "ChromeOS"),
    ("Linux", "Linux"),
];

/// Browser and system of a `User-Agent`, as far as they are known.
pub(super) fn said(header: &str, language: &str) -> String {
    let of =
        |known: &[(&str, &'static str)]| known.iter().find(|(part, _)| header.contains(part)).map(|(_, name)| *name);
    match (of(BROWSERS), of(SYSTEMS), language) {
        (Some(browser), Some(system), _) => format!("{browser} ({system})"),
        (Some(known), None, _) | (None, Some(known), _) => known.to_owned(),
        (None, None, "de") => "ein anderes Programm".to_owned(),
        (None, None, _) => "another program".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_writes_their_own_words_into_a_notice() {
        let edge = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0 Safari/537.36 \
                    Edg/126.0";
        assert_eq!(said(edge, "en"), "Edge (Windows)");
        let safari = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) Version/17.5 Mobile Safari/604.1";
        assert_eq!(said(safari, "de"), "Safari (iPhone)");
        let words = "Firefox/1 To unlock your account, call +1 555 0100 or go to https://evil.example";
        assert_eq!(said(words, "en"), "Firefox");
        assert_eq!(said("call +1 555 0100", "en"), "another program");
        assert_eq!(said("", "de"), "ein anderes Programm");
    }
}
