//! What a contact has to look like. Texts are trimmed and empty ones left out before anything is counted.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::error::{ApiError, ApiResult, FieldError};

const NAME: usize = 100;
const LINE: usize = 200;
const LABEL: usize = 40;
const EMAIL: usize = 254;
const PHONE: usize = 40;
const NOTES: usize = 10_000;
const TAG: usize = 50;
const ENTRIES: usize = 20;
const TAGS: usize = 50;

/// An e-mail address.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Email {
    /// What it is for.
    #[serde(default)]
    #[schema(max_length = 40, example = "work")]
    pub label: String,
    /// The address.
    #[schema(max_length = 254, format = "email", example = "ada@example.com")]
    pub value: String,
}

/// A phone number.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Phone {
    /// What it is for.
    #[serde(default)]
    #[schema(max_length = 40, example = "mobile")]
    pub label: String,
    /// The number, as people write it.
    #[schema(max_length = 40, example = "+44 20 7946 0123")]
    pub value: String,
}

/// A postal address.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Address {
    /// What it is for.
    #[schema(max_length = 40, example = "office")]
    pub label: String,
    /// Street and number.
    #[schema(max_length = 200, example = "12 Mill Lane")]
    pub street: String,
    /// City.
    #[schema(max_length = 200, example = "Cambridge")]
    pub city: String,
    /// State, province, county.
    #[schema(max_length = 200)]
    pub region: String,
    /// Postal code.
    #[schema(max_length = 40, example = "CB2 1RX")]
    pub postal_code: String,
    /// Country.
    #[schema(max_length = 200, example = "United Kingdom")]
    pub country: String,
}

/// Everything that a client may write of a contact.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Draft {
    /// Given name.
    pub first_name: Option<String>,
    /// Family name.
    pub last_name: Option<String>,
    /// Organisation.
    pub company: Option<String>,
    /// Position there.
    pub title: Option<String>,
    /// E-mail addresses.
    pub emails: Vec<Email>,
    /// Phone numbers.
    pub phones: Vec<Phone>,
    /// Postal addresses.
    pub addresses: Vec<Address>,
    /// Free text.
    pub notes: Option<String>,
    /// Words to find it by.
    pub tags: Vec<String>,
}

impl Draft {
    /// Tidies it up: texts trimmed, empty ones left out, each tag once whatever its case.
    ///
    /// # Errors
    /// 422 with everything that is wrong.
    pub fn checked(mut self) -> ApiResult<Self> {
        let mut check = Check::default();
        check.optional("firstName", &mut self.first_name, NAME);
        check.optional("lastName", &mut self.last_name, NAME);
        check.optional("company", &mut self.company, LINE);
        check.optional("title", &mut self.title, LINE);
        check.optional("notes", &mut self.notes, NOTES);
        if self.last_name.is_none() && self.company.is_none() {
            check.fault("lastName", "required", "Give a last name or a company.".into());
        }
        check.count("emails", self.emails.len(), ENTRIES);
        for (at, email) in self.emails.iter_mut().enumerate() {
            check.text(&format!("emails[{at}].label"), &mut email.label, LABEL);
            let field = format!("emails[{at}].value");
            check.text(&field, &mut email.value, EMAIL);
            if !is_email(&email.value) {
                check.fault(&field, "invalid_email", "This is no e-mail address.".into());
            }
        }
        check.count("phones", self.phones.len(), ENTRIES);
        for (at, phone) in self.phones.iter_mut().enumerate() {
            check.text(&format!("phones[{at}].label"), &mut phone.label, LABEL);
            let field = format!("phones[{at}].value");
            check.text(&field, &mut phone.value, PHONE);
            if !is_phone(&phone.value) {
                check.fault(&field, "invalid_phone", "A phone number has at least three digits.".into());
            }
        }
        check.count("addresses", self.addresses.len(), ENTRIES);
        for (at, address) in self.addresses.iter_mut().enumerate() {
            let Address { label, street, city, region, postal_code, country } = address;
            check.text(&format!("addresses[{at}].label"), label, LABEL);
            check.text(&format!("addresses[{at}].postalCode"), postal_code, LABEL);
            let lines = [("street", street), ("city", city), ("region", region), ("country", country)];
            let mut filled = !postal_code.is_empty();
            for (name, line) in lines {
                check.text(&format!("addresses[{at}].{name}"), line, LINE);
                filled |= !line.is_empty();
            }
            if !filled {
                check.fault(&format!("addresses[{at}]"), "required", "This address is empty.".into());
            }
        }
        for (at, tag) in self.tags.iter_mut().enumerate() {
            check.text(&format!("tags[{at}]"), tag, TAG);
        }
        let mut seen = std::collections::HashSet::new();
        self.tags.retain(|tag| !tag.is_empty() && seen.insert(tag.to_lowercase()));
        check.count("tags", self.tags.len(), TAGS);
        if check.0.is_empty() { Ok(self) } else { Err(ApiError::invalid(check.0)) }
    }
}

/// Collects what is wrong.
#[derive(Default)]
struct Check(Vec<FieldError>);

impl Check {
    fn fault(&mut self, field: &str, code: &'static str, message: String) {
        self.0.push(FieldError::new(field, code, message));
    }

    fn optional(&mut self, field: &str, text: &mut Option<String>, most: usize) {
        if let Some(text) = text {
            self.text(field, text, most);
        }
        text.take_if(|text| text.is_empty());
    }

    fn text(&mut self, field: &str, text: &mut String, most: usize) {
        let trimmed = text.trim();
        if trimmed.len() != text.len() {
            *text = trimmed.to_owned();
        }
        if text.chars().count() > most {
            self.fault(field, "too_long", format!("At most {most} characters."));
        }
        // PostgreSQL keeps no NUL; nobody means one.
        if text.contains('\0') {
            self.fault(field, "invalid_character", "A NUL character is not allowed.".into());
        }
    }

    fn count(&mut self, field: &str, count: usize, most: usize) {
        if count > most {
            self.fault(field, "too_many", format!("At most {most} entries."));
        }
    }
}

/// Something before an `@`, a host name after it. Whether anyone reads it, only a letter can tell.
fn is_email(text: &str) -> bool {
    let Some((local, host)) = text.rsplit_once('@') else { return false };
    let host_ok = !host.is_empty()
        && host.split('.').all(|label| {
            !label.is_empty() && !label.starts_with('-') && !label.ends_with('-') && label.chars().all(host_char)
        });
    let local_ok = !local.starts_with('.') && !local.ends_with('.') && !local.contains("..");
    host_ok && local_ok && (1..=64).contains(&local.len()) && local.chars().all(local_char)
}

fn host_char(c: char) -> bool {
    c == '-' || c.is_alphanumeric()
}

fn local_char(c: char) -> bool {
    c.is_alphanumeric() || ".!#$%&'*+/=?^_`{|}~-".contains(c)
}

/// Digits with whatever people write between them, an extension included.
fn is_phone(text: &str) -> bool {
    let digits = text.chars().filter(char::is_ascii_digit).count();
    digits >= 3 && text.chars().all(|c| c.is_ascii_alphanumeric() || " +-()./#*,;:".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(draft: Draft) -> Vec<(String, String)> {
        let error = draft.checked().unwrap_err();
        error.fields().iter().map(|f| (f.field.clone(), f.code.clone().into_owned())).collect()
    }

    #[test]
    fn needs_a_name_or_a_company() {
        let blank = Draft { first_name: Some("Ada".into()), last_name: Some("  ".into()), ..Draft::default() };
        assert_eq!(faults(blank), [("lastName".into(), "required".into())]);
        let company = Draft { company: Some(" Acme ".into()), ..Draft::default() };
        assert_eq!(company.checked().unwrap().company.as_deref(), Some("Acme"));
    }

    #[test]
    fn names_every_fault_with_its_path() {
        let email = |value: &str| Email { value: value.into(), ..Email::default() };
        let draft = Draft {
            last_name: Some("x".repeat(101)),
            emails: vec![email("a@b.example"), email("no")],
            phones: vec![Phone { value: "call me".into(), label: "y".repeat(41) }],
            addresses: vec![Address::default()],
            notes: Some("a\0b".into()),
            ..Draft::default()
        };
        let expected = [
            ("lastName", "too_long"),
            ("notes", "invalid_character"),
            ("emails[1].value", "invalid_email"),
            ("phones[0].label", "too_long"),
            ("phones[0].value", "invalid_phone"),
            ("addresses[0]", "required"),
        ];
        assert_eq!(faults(draft), expected.map(|(field, code)| (field.to_owned(), code.to_owned())));
    }

    #[test]
    fn tags_are_kept_once() {
        let tags = ["vip", " VIP ", "", "new"].map(str::to_owned).to_vec();
        let draft = Draft { company: Some("Acme".into()), tags, ..Draft::default() };
        assert_eq!(draft.checked().unwrap().tags, ["vip", "new"]);
    }

    #[test]
    fn addresses_of_every_kind() {
        for good in ["a@b.example", "first.last+tag@sub.example.co.uk", "o'hara@müller.example", "x@localhost"] {
            assert!(is_email(good), "{good}");
        }
        for bad in ["", "@b.c", "a@", "a b@c.d", "a@b..c", "a@-b.c", ".a@b.c", "a..b@c.d", "a@b@c d"] {
            assert!(!is_email(bad), "{bad}");
        }
        for good in ["+44 20 7946 0123", "(555) 010-0199 ext. 4", "112"] {
            assert!(is_phone(good), "{good}");
        }
        assert!(!is_phone("12") && !is_phone("<script>123"));
    }
}
