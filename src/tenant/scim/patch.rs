//! PATCH as directories send it (RFC 7644, section 3.5.2): Entra ID writes `Add` and `"False"`, Okta leaves the path out.

use serde_json::{Map, Value};

use super::answer::{Fault, Result, invalid, no_path};
use super::filter::attribute_name;

/// Operations in one PATCH.
const MOST: usize = 1000;

/// What is done with an attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    Add,
    Replace,
    Remove,
}

/// One change of one attribute.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Change {
    pub how: How,
    /// Its name in lower case, as `name.givenname` or `emails[type eq "work"].value`.
    pub path: String,
    /// Null where none was given.
    pub value: Value,
}

/// Reads the operations, each member of a value without a path as a change of its own.
pub(super) fn read(body: &Value) -> Result<Vec<Change>> {
    let syntax = |said: &str| Fault::Said(400, "invalidSyntax", said.to_owned());
    let operations = member(body, "operations").and_then(Value::as_array);
    let operations = operations.filter(|all| !all.is_empty()).ok_or_else(|| syntax("There are no Operations."))?;
    if operations.len() > MOST {
        return Err(Fault::Said(413, "tooMany", format!("At most {MOST} operations are taken.")));
    }
    let mut changes = Vec::new();
    for operation in operations {
        let how = match member(operation, "op").and_then(Value::as_str).map(str::to_lowercase).as_deref() {
            Some("add") => How::Add,
            Some("replace") => How::Replace,
            Some("remove") => How::Remove,
            _ => return Err(syntax("An operation is add, replace or remove.")),
        };
        let value = member(operation, "value").cloned().unwrap_or_default();
        match member(operation, "path").and_then(Value::as_str).filter(|path| !path.is_empty()) {
            Some(path) => changes.push(Change { how, path: path_of(path)?, value }),
            None if how == How::Remove => {
                return Err(Fault::Said(400, "noTarget", "What is to be removed is not named.".to_owned()));
            }
            None => {
                let members = value.as_object().ok_or_else(|| syntax("Without a path the value is an object."))?;
                spread(how, "", members, &mut changes)?;
            }
        }
    }
    Ok(changes)
}

/// The members of a complex value are attributes, too: `name: {givenName}` is `name.givenName`.
fn spread(how: How, prefix: &str, members: &Map<String, Value>, changes: &mut Vec<Change>) -> Result<()> {
    for (name, value) in members {
        let path = format!("{prefix}{}", path_of(name)?);
        match value {
            Value::Object(inner) if prefix.is_empty() => spread(how, &format!("{path}."), inner, changes)?,
            _ => changes.push(Change { how, path, value: value.clone() }),
        }
    }
    Ok(())
}

/// The attribute's name in lower case; what stands in brackets stays as it is. Attributes that are not kept here are no
/// fault, as directories send what they have; what can name none is.
fn path_of(path: &str) -> Result<String> {
    let (name, condition, after) = match path.split_once('[') {
        None => (path, None, ""),
        Some((name, rest)) => {
            let (condition, after) = rest.rsplit_once(']').ok_or_else(|| no_path(path))?;
            (name, Some(condition), after)
        }
    };
    let words = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.:$".contains(c));
    let part = after.is_empty() || after.strip_prefix('.').is_some_and(|sub| !sub.is_empty());
    if !name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '$') || !words(name) || !words(after) || !part {
        return Err(no_path(path));
    }
    let name = attribute_name(name);
    Ok(condition.map_or_else(|| name.clone(), |condition| format!("{name}[{condition}]{}", after.to_lowercase())))
}

/// A member by its name, without regard to case (RFC 7643, section 2.1).
pub(super) fn member<'v>(object: &'v Value, name: &str) -> Option<&'v Value> {
    object.as_object()?.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

/// A text; null and nothing are an empty one.
pub(super) fn text(value: &Value, name: &str) -> Result<String> {
    match value {
        Value::Null => Ok(String::new()),
        Value::String(text) if !text.contains('\0') => Ok(text.trim().to_owned()),
        _ => Err(invalid(format!("{name} is a text."))),
    }
}

/// A truth; Entra ID writes it as a text.
pub(super) fn truth(value: &Value, name: &str) -> Result<bool> {
    match value {
        Value::Bool(truth) => Ok(*truth),
        Value::String(text) if text.eq_ignore_ascii_case("true") => Ok(true),
        Value::String(text) if text.eq_ignore_ascii_case("false") => Ok(false),
        _ => Err(invalid(format!("{name} is true or false."))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn changes(operations: Value) -> Vec<(How, String, Value)> {
        let read =
            read(&json!({"schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"], "Operations": operations}));
        read.unwrap().into_iter().map(|change| (change.how, change.path, change.value)).collect()
    }

    #[test]
    fn as_entra_and_okta_send_it() {
        let entra = json!([
            {"op": "Replace", "path": "active", "value": "False"},
            {"op": "Add", "path": "emails[type eq \"Work\"].value", "value": "a@b.c"},
            {"op": "Replace", "value": {"name.givenName": "Ada", "userName": "ada"}},
        ]);
        assert_eq!(
            changes(entra),
            [
                (How::Replace, "active".to_owned(), json!("False")),
                (How::Add, "emails[type eq \"Work\"].value".to_owned(), json!("a@b.c")),
                (How::Replace, "name.givenname".to_owned(), json!("Ada")),
                (How::Replace, "username".to_owned(), json!("ada")),
            ]
        );
        let okta = json!([{"op": "replace", "value": {"active": false, "name": {"familyName": "L"}}}]);
        assert_eq!(
            changes(okta),
            [
                (How::Replace, "active".to_owned(), json!(false)),
                (How::Replace, "name.familyname".to_owned(), json!("L")),
            ]
        );
        let urn = json!([{"op": "remove", "path": "urn:ietf:params:scim:schemas:core:2.0:User:externalId"}]);
        assert_eq!(changes(urn), [(How::Remove, "externalid".to_owned(), Value::Null)]);
        assert!(!truth(&json!("False"), "active").unwrap() && truth(&json!(true), "active").unwrap());
    }

    #[test]
    fn what_is_no_patch_is_refused() {
        for bad in [
            json!({}),
            json!({"Operations": []}),
            json!({"Operations": [{"op": "replace", "path": "emails[type eq", "value": "x"}]}),
            json!({"Operations": [{"op": "replace", "path": "emails[type eq \"work\"]value", "value": "x"}]}),
            json!({"Operations": [{"op": "replace", "path": "name given", "value": "x"}]}),
            json!({"Operations": [{"op": "replace", "value": {"": "x"}}]}),
            json!({"Operations": [{"op": "move", "path": "a"}]}),
            json!({"Operations": [{"op": "remove"}]}),
            json!({"Operations": [{"op": "add", "value": "x"}]}),
        ] {
            assert!(read(&bad).is_err(), "{bad}");
        }
        assert!(text(&json!(1), "x").is_err() && truth(&json!("maybe"), "x").is_err());
    }
}
