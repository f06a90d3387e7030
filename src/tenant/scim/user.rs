//! A person as SCIM writes them, and what a directory says of one.

use serde_json::{Value, json};

use super::answer::{Fault, Result, invalid, no_path, no_target};
use super::filter::Attribute;
use super::patch::{Change, How, member, text, truth};
use super::store::Person;
use crate::tenant::users::rules::{email_key, email_shape};

pub(super) const SCHEMA: &str = "urn:ietf:params:scim:schemas:core:2.0:User";

/// Whose user name this is, by the keys of both tables: it is the address of those who have none of a directory's.
pub(super) const NAMED: &str = "u.id IN (SELECT x.user_id FROM scim_users x WHERE x.user_name_key = ? UNION ALL \
    SELECT y.id FROM users y WHERE y.email_key = ? AND NOT EXISTS (SELECT 1 FROM scim_users x WHERE x.user_id = y.id))";

/// By what people are found.
pub(super) fn column(name: &str) -> Option<Attribute> {
    Some(match name {
        "id" => Attribute::Exact("u.id::text"),
        "username" => Attribute::Keyed("COALESCE(s.user_name, u.email)", NAMED, str::to_lowercase),
        "externalid" => Attribute::Exact("s.external_id"),
        "active" => Attribute::Truth("u.status = 'active'"),
        "name.givenname" => Attribute::Text("u.first_name"),
        "name.familyname" => Attribute::Text("u.last_name"),
        "displayname" | "name.formatted" => Attribute::Text("btrim(u.first_name || ' ' || u.last_name)"),
        "emails" | "emails.value" => Attribute::Keyed("u.email", "u.email_key = ?", email_key),
        "emails.type" => Attribute::Text("'work'"),
        "emails.primary" => Attribute::Truth("true"),
        "meta.created" => Attribute::Moment("u.created_at"),
        "meta.lastmodified" => Attribute::Moment("u.updated_at"),
        _ => return None,
    })
}

/// A person in the standard's form.
pub(super) fn json_of(person: &Person) -> Value {
    let display = format!("{} {}", person.first_name, person.last_name).trim().to_owned();
    let groups: Vec<Value> = person
        .role_ids
        .iter()
        .zip(&person.role_names)
        .map(|(id, name)| json!({"value": id, "display": name, "type": "direct"}))
        .collect();
    let mut user = json!({
        "schemas": [SCHEMA],
        "id": person.id,
        "userName": person.user_name,
        "name": {"givenName": person.first_name, "familyName": person.last_name, "formatted": display},
        "displayName": display,
        "active": person.active,
        "emails": [{"value": person.email, "type": "work", "primary": true}],
        "groups": groups,
        "meta": {"created": person.created_at, "lastModified": person.updated_at},
    });
    if let Some(id) = &person.external_id {
        user["externalId"] = json!(id);
    }
    user
}

/// What a directory wants of a person. What it leaves out stays, or is as for somebody new.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    pub user_name: Option<String>,
    pub external_id: Option<Option<String>>,
    pub email: Option<String>,
    pub first_name: Option<String>,
    pub last_name: Option<String>,
    pub active: Option<bool>,
}

impl Wanted {
    /// Reads a whole resource. What we do not keep is passed over, as the standard has it.
    pub(super) fn of(body: &Value) -> Result<Self> {
        let name = member(body, "name").cloned().unwrap_or_default();
        let read =
            |object: &Value, attribute: &str| member(object, attribute).map(|value| text(value, attribute)).transpose();
        let user_name = read(body, "userName")?.filter(|name| !name.is_empty());
        let user_name = user_name.ok_or_else(|| invalid("userName is required."))?;
        let mut wanted = Self {
            external_id: Some(read(body, "externalId")?.filter(|id| !id.is_empty())),
            email: member(body, "emails").and_then(email_of),
            first_name: read(&name, "givenName")?,
            last_name: read(&name, "familyName")?,
            active: member(body, "active").map(|value| truth(value, "active")).transpose()?,
            user_name: Some(user_name),
        };
        if (wanted.first_name.is_none(), wanted.last_name.is_none()) == (true, true)
            && let Some(whole) = read(&name, "formatted")?.or(read(body, "displayName")?)
        {
            let (first, last) = whole.rsplit_once(' ').unwrap_or((&whole, ""));
            (wanted.first_name, wanted.last_name) = (Some(first.to_owned()), Some(last.to_owned()));
        }
        wanted.check()?;
        Ok(wanted)
    }

    /// Reads a PATCH.
    pub(super) fn patched(changes: &[Change]) -> Result<Self> {
        let mut wanted = Self::default();
        for Change { how, path, value } in changes {
            let removed = *how == How::Remove;
            let value = if removed { &Value::Null } else { value };
            match path.as_str() {
                "username" if !removed => wanted.user_name = Some(text(value, "userName")?),
                "active" if !removed => wanted.active = Some(truth(value, "active")?),
                "externalid" => {
                    wanted.external_id = Some(Some(text(value, "externalId")?).filter(|id| !id.is_empty()));
                }
                "name.givenname" => wanted.first_name = Some(text(value, "givenName")?),
                "name.familyname" => wanted.last_name = Some(text(value, "familyName")?),
                "emails" if !removed => {
                    wanted.email = Some(email_of(value).ok_or_else(|| invalid("emails has no value."))?);
                }
                path if !removed && path.starts_with("emails") && path.ends_with(".value") => {
                    if !is_login_address(path) {
                        return Err(no_target(path));
                    }
                    wanted.email = Some(text(value, "emails")?);
                }
                // These go with the name, and with each other.
                "displayname" | "name.formatted" => {}
                // A group is changed at the group.
                "id" | "groups" | "meta" | "username" | "active" | "emails" => return Err(no_path(path)),
                // What we do not keep is passed over: directories send all that they know.
                _ => {}
            }
        }
        wanted.check()?;
        Ok(wanted)
    }

    fn check(&self) -> Result<()> {
        let long = |text: &Option<String>, most: usize| text.as_ref().is_some_and(|text| text.chars().count() > most);
        if long(&self.user_name, 320) || self.user_name.as_deref() == Some("") {
            return Err(invalid("userName has 1 to 320 characters."));
        }
        if long(&self.first_name, 100) || long(&self.last_name, 100) {
            return Err(invalid("A name has at most 100 characters."));
        }
        if self.external_id.as_ref().is_some_and(|id| long(id, 500)) {
            return Err(invalid("externalId has at most 500 characters."));
        }
        let controls = [&self.user_name, &self.first_name, &self.last_name];
        if controls.into_iter().flatten().any(|text| text.chars().any(char::is_control)) {
            return Err(invalid("A name has no control characters."));
        }
        match &self.email {
            Some(email) if email_shape(email, &()).is_err() => Err(invalid("emails has no e-mail address.")),
            _ => Ok(()),
        }
    }

    /// The address: what was said, or a user name that is one.
    pub(super) fn address(&self) -> std::result::Result<String, Fault> {
        let named = self.user_name.as_ref().filter(|name| email_shape(name.as_str(), &()).is_ok());
        let address = self.email.as_ref().or(named).cloned();
        address.ok_or_else(|| invalid("Neither emails nor userName has an e-mail address."))
    }
}

/// Whether the address that a path means is the one that is kept, which is at work and the primary one.
fn is_login_address(path: &str) -> bool {
    let condition = path.strip_prefix("emails").and_then(|rest| rest.strip_suffix(".value")).unwrap_or_default();
    let words: Vec<String> = condition
        .trim_matches(['[', ']'])
        .split_whitespace()
        .map(|word| word.trim_matches('"').to_lowercase())
        .collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        [] | ["type", "eq", "work"] | ["primary", "eq", "true"] => true,
        _ => words.join(" ") == "type eq work and primary eq true",
    }
}

/// The primary address of a list, or its first; or an address by itself.
fn email_of(value: &Value) -> Option<String> {
    let one = |value: &Value| member(value, "value").and_then(Value::as_str).map(|text| text.trim().to_owned());
    match value {
        Value::Array(all) => {
            let primary = all.iter().find(|email| member(email, "primary") == Some(&Value::Bool(true)));
            primary.or(all.first()).and_then(one)
        }
        Value::Object(_) => one(value),
        Value::String(text) => Some(text.trim().to_owned()),
        _ => None,
    }
    .filter(|email| !email.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tenant::scim::filter::{self, Condition};

    #[test]
    fn a_resource_is_read_for_what_we_keep() {
        let body = json!({
            "schemas": [SCHEMA], "username": "ada", "externalId": "7", "nickName": "x", "active": "True",
            "name": {"givenName": "Ada", "familyName": "L"},
            "emails": [{"value": "b@x.test"}, {"value": "a@x.test", "primary": true}],
        });
        let wanted = Wanted::of(&body).unwrap();
        assert_eq!((wanted.user_name.as_deref(), wanted.address().unwrap().as_str()), (Some("ada"), "a@x.test"));
        assert_eq!((wanted.first_name.as_deref(), wanted.active), (Some("Ada"), Some(true)));
        assert_eq!(Wanted::of(&json!({"userName": "c@x.test"})).unwrap().address().unwrap(), "c@x.test");
        assert!(Wanted::of(&json!({"userName": "c"})).unwrap().address().is_err());
        for bad in [json!({}), json!({"userName": ""}), json!({"userName": 1}), json!({"userName": "a\u{1}"})] {
            assert!(Wanted::of(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn who_is_looked_up_is_looked_up_by_a_key() {
        for (filter, sql, value) in [
            ("userName eq \"Ada\"", NAMED, "ada"),
            ("emails eq \" Ada@X.test\"", "u.email_key = ?", "ada@x.test"),
            ("emails.value eq \"Ada@X.test\"", "u.email_key = ?", "ada@x.test"),
        ] {
            let Condition { sql: said, values } = filter::read(filter, column).unwrap();
            assert_eq!((said, &values[..]), (format!("({})", sql.replace('?', "($1)[1]")), &[value.to_owned()][..]));
        }
    }

    #[test]
    fn what_cannot_be_changed_here_is_refused() {
        let change = |how, path: &str, value| Wanted::patched(&[Change { how, path: path.to_owned(), value }]);
        assert_eq!(change(How::Replace, "active", json!("False")).unwrap().active, Some(false));
        assert_eq!(change(How::Remove, "externalid", Value::Null).unwrap().external_id, Some(None));
        let email = change(How::Add, "emails[type eq \"work\"].value", json!("a@x.test")).unwrap();
        assert_eq!(email.email.as_deref(), Some("a@x.test"));
        for path in ["emails.value", "emails[type eq \"Work\"].value", "emails[Primary eq true].value"] {
            assert!(change(How::Replace, path, json!("a@x.test")).unwrap().email.is_some(), "{path}");
        }
        for path in ["home", "other", "work\" or type eq \"home"] {
            let refused = change(How::Replace, &format!("emails[type eq \"{path}\"].value"), json!("a@x.test"));
            assert!(matches!(refused, Err(Fault::Said(400, "noTarget", _))), "{path}");
        }
        assert_eq!(change(How::Add, "nickname", json!("x")).unwrap(), Wanted::default());
        for (how, path) in
            [(How::Remove, "username"), (How::Replace, "groups"), (How::Replace, "id"), (How::Remove, "active")]
        {
            assert!(change(how, path, json!("x")).is_err(), "{path}");
        }
    }
}
