//! A member of a JSON Merge Patch (RFC 7396): left out, null, or a value.

use garde::Validate;
use garde::error::NoKey;
use garde::rules::inner::Inner;
use serde::{Deserialize, Deserializer};

use crate::error::{ApiError, ApiResult};

/// One member of a patch. The field carries `#[serde(default)]`.
///
/// In OpenAPI: `#[schema(value_type = Option<String>)]`. Validated with `#[garde(inner(…))]`, or `#[garde(dive)]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Patch<T> {
    /// Left out: stays as it is.
    #[default]
    Absent,
    /// Null: is removed.
    Null,
    /// Is replaced.
    Value(T),
}

impl<T> Patch<T> {
    /// The new value of a field that may be empty.
    pub fn apply(self, current: Option<T>) -> Option<T> {
        match self {
            Self::Absent => current,
            Self::Null => None,
            Self::Value(value) => Some(value),
        }
    }

    /// The value, if there is one.
    pub const fn value(&self) -> Option<&T> {
        match self {
            Self::Value(value) => Some(value),
            _ => None,
        }
    }

    /// Whether the member was left out.
    pub const fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }

    /// The new value of a field that cannot be empty.
    ///
    /// # Errors
    /// 422 on `field` with null.
    pub fn needed(self, field: &'static str) -> ApiResult<Option<T>> {
        match self {
            Self::Null => Err(ApiError::invalid_field(field, "required", "It cannot be null.")),
            Self::Absent => Ok(None),
            Self::Value(value) => Ok(Some(value)),
        }
    }

    /// The new value of a field that null empties.
    pub fn or_empty(self) -> Option<T>
    where
        T: Default,
    {
        self.into_change().map(Option::unwrap_or_default)
    }

    /// As diesel's changesets have it: `None` leaves the column alone, `Some(None)` makes it NULL.
    pub fn into_change(self) -> Option<Option<T>> {
        match self {
            Self::Absent => None,
            Self::Null => Some(None),
            Self::Value(value) => Some(Some(value)),
        }
    }
}

impl Patch<String> {
    /// The new value of a text that null empties, without the space around it.
    #[must_use]
    pub fn trimmed(self) -> Option<String> {
        self.or_empty().map(|text| text.trim().to_owned())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Patch<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Option::<T>::deserialize(deserializer)?.map_or(Self::Null, Self::Value))
    }
}

impl<T: Validate> Validate for Patch<T> {
    type Context = T::Context;

    fn validate_into(&self, context: &T::Context, path: &mut dyn FnMut() -> garde::Path, report: &mut garde::Report) {
        if let Self::Value(value) = self {
            value.validate_into(context, path, report);
        }
    }
}

impl<T> Inner<T> for Patch<T> {
    type Key = NoKey;

    fn validate_inner<F>(&self, mut f: F)
    where
        F: FnMut(&T, &Self::Key),
    {
        if let Self::Value(value) = self {
            f(value, &NoKey::default());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct Change {
        #[serde(default)]
        title: Patch<String>,
    }

    #[test]
    fn tells_absent_from_null() {
        let read = |text: &str| serde_json::from_str::<Change>(text).unwrap().title;
        assert_eq!(read("{}"), Patch::Absent);
        assert_eq!(read(r#"{"title": null}"#), Patch::Null);
        assert_eq!(read(r#"{"title": "x"}"#), Patch::Value("x".into()));
    }

    #[test]
    fn null_empties_or_is_refused() {
        let text = || Patch::Value(" x ".to_owned());
        assert_eq!((Patch::<String>::Absent.trimmed(), Patch::Null.trimmed()), (None, Some(String::new())));
        assert_eq!(text().trimmed().as_deref(), Some("x"));
        assert_eq!(text().needed("title").unwrap().as_deref(), Some(" x "));
        assert_eq!(Patch::<String>::Null.needed("title").unwrap_err().fields()[0].field, "title");
    }
}
