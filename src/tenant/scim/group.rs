//! A role as SCIM writes it, and what a directory says of one.

use serde_json::{Value, json};

use super::answer::{Result, invalid, no_path, version};
use super::filter::Attribute;
use super::patch::{Change, How, member, text};
use super::store::Group;
use crate::kernel::UserId;

pub(super) const SCHEMA: &str = "urn:ietf:params:scim:schemas:core:2.0:Group";
/// Members in one request.
const MOST_MEMBERS: usize = 5000;

/// By what roles are found.
pub(super) fn column(name: &str) -> Option<Attribute> {
    Some(match name {
        "id" => Attribute::Exact("r.id::text"),
        "displayname" => Attribute::Text("r.name"),
        "externalid" => Attribute::Exact("g.external_id"),
        "members" | "members.value" => {
            Attribute::Among("? IN (SELECT ur.user_id::text FROM user_roles ur WHERE ur.role_id = r.id)")
        }
        "meta.created" => Attribute::Moment("r.created_at"),
        "meta.lastmodified" => Attribute::Moment("r.updated_at"),
        _ => return None,
    })
}

/// A role in the standard's form.
pub(super) fn json_of(group: &Group, without_members: bool) -> Value {
    let mut json = json!({
        "schemas": [SCHEMA],
        "id": group.id,
        "displayName": group.name,
        "meta": {"created": group.created_at, "lastModified": group.updated_at},
    });
    if !without_members {
        let members = group.member_ids.iter().zip(&group.member_names);
        json["members"] = members.map(|(id, name)| json!({"value": id, "display": name, "type": "User"})).collect();
    }
    if let Some(id) = &group.external_id {
        json["externalId"] = json!(id);
    }
    json
}

/// The version of a role: of what it says, with a digest in place of its members, so that it is the same whether they are
/// told or not. `None` where the digest was not asked for.
pub(super) fn version_of(group: &Group) -> Option<String> {
    let digest = group.members_digest.as_ref()?;
    let mut json = json_of(group, true);
    json["members"] = json!(digest);
    Some(version(&json))
}

/// What is done with members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Members {
    Add(Vec<UserId>),
    Remove(Vec<UserId>),
    /// Exactly these.
    Set(Vec<UserId>),
}

/// What a directory wants of a role, in its order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    pub name: Option<String>,
    pub external_id: Option<Option<String>>,
    pub members: Vec<Members>,
}

impl Wanted {
    /// Reads a whole resource.
    pub(super) fn of(body: &Value) -> Result<Self> {
        let name = member(body, "displayName").ok_or_else(|| invalid("displayName is required."))?;
        let external = member(body, "externalId").map(|value| text(value, "externalId")).transpose()?;
        let wanted = Self {
            name: Some(text(name, "displayName")?),
            external_id: Some(external.filter(|id| !id.is_empty())),
            members: vec![Members::Set(members_of(member(body, "members").unwrap_or(&Value::Null))?)],
        };
        wanted.check()?;
        Ok(wanted)
    }

    /// Reads a PATCH.
    pub(super) fn patched(changes: &[Change]) -> Result<Self> {
        let mut wanted = Self::default();
        for Change { how, path, value } in changes {
            match (path.as_str(), how) {
                ("displayname", How::Add | How::Replace) => wanted.name = Some(text(value, "displayName")?),
                ("externalid", How::Remove) => wanted.external_id = Some(None),
                ("externalid", _) => {
                    wanted.external_id = Some(Some(text(value, "externalId")?).filter(|id| !id.is_empty()));
                }
                ("members", How::Add) => wanted.members.push(Members::Add(members_of(value)?)),
                ("members", How::Replace) => wanted.members.push(Members::Set(members_of(value)?)),
                ("members", How::Remove) if value.is_null() => wanted.members.push(Members::Set(Vec::new())),
                ("members", How::Remove) => wanted.members.push(Members::Remove(members_of(value)?)),
                (path, How::Remove) if path.starts_with("members[") => {
                    wanted.members.push(Members::Remove(vec![named(path).ok_or_else(|| no_path(path))?]));
                }
                // Entra ID repeats what cannot change.
                ("id" | "schemas" | "meta", How::Add | How::Replace) => {}
                (path, _) => return Err(no_path(path)),
            }
        }
        wanted.check()?;
        Ok(wanted)
    }

    fn check(&self) -> Result<()> {
        let fits = |name: &String| (1..=64).contains(&name.chars().count()) && !name.chars().any(char::is_control);
        if self.name.as_ref().is_some_and(|name| !fits(name)) {
            return Err(invalid("displayName has 1 to 64 characters."));
        }
        let long = self.external_id.iter().flatten().any(|id| id.chars().count() > 500);
        if long { Err(invalid("externalId has at most 500 characters.")) } else { Ok(()) }
    }
}

/// `members[value eq "…"]`
fn named(path: &str) -> Option<UserId> {
    let condition = path.strip_prefix("members[")?.strip_suffix(']')?.trim();
    let (attribute, rest) = condition.split_once(' ')?;
    let (how, value) = rest.trim().split_once(' ')?;
    let is = attribute.eq_ignore_ascii_case("value") && how.eq_ignore_ascii_case("eq");
    value.trim().trim_matches('"').parse().ok().filter(|_| is)
}

fn members_of(value: &Value) -> Result<Vec<UserId>> {
    let one = |value: &Value| {
        let id = member(value, "value").unwrap_or(value);
        id.as_str().and_then(|text| text.parse().ok()).ok_or_else(|| invalid("A member is named by its id."))
    };
    match value {
        Value::Null => Ok(Vec::new()),
        Value::Array(all) if all.len() > MOST_MEMBERS => {
            Err(super::answer::Fault::Said(413, "tooMany", format!("At most {MOST_MEMBERS} members at once.")))
        }
        Value::Array(all) => all.iter().map(one).collect(),
        other => Ok(vec![one(other)?]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "01890000-0000-7000-8000-000000000000";

    #[test]
    fn members_are_named_in_every_way_that_directories_know() {
        let id: UserId = ID.parse().unwrap();
        let of = |how, path: &str, value| {
            Wanted::patched(&[Change { how, path: path.to_owned(), value }]).map(|wanted| wanted.members)
        };
        let list = json!([{"value": ID}]);
        assert_eq!(of(How::Add, "members", list.clone()).unwrap(), [Members::Add(vec![id])]);
        assert_eq!(of(How::Replace, "members", list.clone()).unwrap(), [Members::Set(vec![id])]);
        assert_eq!(of(How::Remove, "members", list).unwrap(), [Members::Remove(vec![id])]);
        assert_eq!(of(How::Remove, "members", Value::Null).unwrap(), [Members::Set(Vec::new())]);
        let path = format!("members[value eq \"{ID}\"]");
        assert_eq!(of(How::Remove, &path, Value::Null).unwrap(), [Members::Remove(vec![id])]);
        for (how, path, value) in [
            (How::Add, "members", json!([{"value": "nobody"}])),
            (How::Remove, "members[value eq \"x\"]", Value::Null),
            (How::Remove, "displayname", Value::Null),
            (How::Replace, "displayname", json!("")),
            (How::Replace, "permissions", json!([])),
        ] {
            assert!(of(how, path, value).is_err(), "{path}");
        }
    }
}
