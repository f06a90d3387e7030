//! Keyset cursors: opaque to the client, authenticated, and good for one list of one tenant only.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::crypto::MacKey;
use super::ids::TenantId;

const MAC_LEN: usize = 16;

/// Which way a cursor reads on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Direction {
    /// The rows after the position.
    #[serde(rename = "n")]
    Next,
    /// The rows before the position.
    #[serde(rename = "p")]
    Previous,
}

/// Where to read on, and which way; none is a list's beginning.
pub type Seek<P> = Option<(Direction, P)>;

/// What a cursor is bound to. Presented anywhere else it is refused.
#[derive(Debug, Clone, Copy)]
pub struct CursorScope<'a> {
    /// The tenant, or `None` on the control plane.
    pub tenant: Option<TenantId>,
    /// The list, for example `contacts`.
    pub list: &'static str,
    /// The sort as requested.
    pub sort: &'a str,
    /// The filters as requested, in a canonical form.
    pub filter: &'a str,
}

/// The cursor was forged, damaged, or made for another list, sort, filter or tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the cursor does not belong to this list")]
pub struct CursorInvalid;

#[derive(Serialize, Deserialize)]
struct Payload<T> {
    d: Direction,
    k: T,
}

impl CursorScope<'_> {
    fn tag(&self, key: &MacKey, payload: &[u8]) -> [u8; 32] {
        let tenant = self.tenant.map(|t| *t.uuid().as_bytes()).unwrap_or_default();
        key.digest("cursor", &[&tenant, self.list.as_bytes(), self.sort.as_bytes(), self.filter.as_bytes(), payload])
    }

    /// A cursor at the row whose sort keys are `position`.
    #[must_use]
    pub fn encode<T: Serialize>(&self, key: &MacKey, direction: Direction, position: &T) -> String {
        let mut bytes = serde_json::to_vec(&Payload { d: direction, k: position }).expect("sort keys are plain JSON");
        let tag = self.tag(key, &bytes);
        bytes.extend_from_slice(&tag[..MAC_LEN]);
        BASE64URL.encode(bytes)
    }

    /// Reads a cursor back.
    ///
    /// # Errors
    /// [`CursorInvalid`] unless this very scope made it.
    pub fn decode<T: DeserializeOwned>(&self, key: &MacKey, text: &str) -> Result<(Direction, T), CursorInvalid> {
        let bytes = BASE64URL.decode(text).map_err(|_| CursorInvalid)?;
        let at = bytes.len().checked_sub(MAC_LEN).ok_or(CursorInvalid)?;
        let (payload, tag) = bytes.split_at(at);
        if aws_lc_rs::constant_time::verify_slices_are_equal(&self.tag(key, payload)[..MAC_LEN], tag).is_err() {
            return Err(CursorInvalid);
        }
        let read: Payload<T> = serde_json::from_slice(payload).map_err(|_| CursorInvalid)?;
        Ok((read.d, read.k))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::crypto::random;

    #[test]
    fn bound_to_its_scope() {
        let key = MacKey::new(&random::<32>());
        let scope =
            CursorScope { tenant: Some(TenantId::generate()), list: "contacts", sort: "-createdAt", filter: "" };
        let cursor = scope.encode(&key, Direction::Next, &("a", 1));
        assert_eq!(scope.decode::<(String, i32)>(&key, &cursor), Ok((Direction::Next, ("a".into(), 1))));
        let others = [
            CursorScope { tenant: Some(TenantId::generate()), ..scope },
            CursorScope { list: "users", ..scope },
            CursorScope { sort: "createdAt", ..scope },
            CursorScope { filter: "tag=x", ..scope },
        ];
        for other in others {
            assert_eq!(other.decode::<(String, i32)>(&key, &cursor), Err(CursorInvalid));
        }
        for bad in ["", "AAAA", "!!", &cursor[1..]] {
            assert_eq!(scope.decode::<(String, i32)>(&key, bad), Err(CursorInvalid));
        }
    }
}
