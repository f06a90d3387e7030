//! Which cluster takes the next tenant.

use super::store::{Cluster, rows};
use crate::error::ApiResult;
use crate::kernel::crypto::MasterKeys;
use crate::router::MainConn;

/// What the choice looks at.
#[derive(Debug, Clone, Copy)]
struct Load {
    tenants: i64,
    max_tenants: Option<i32>,
    draining: bool,
}

impl Load {
    fn has_room(self) -> bool {
        !self.draining && self.max_tenants.is_none_or(|max| self.tenants < i64::from(max))
    }
}

/// The position of the least loaded cluster with room; the first of equals.
fn least_loaded(loads: impl Iterator<Item = Load>) -> Option<usize> {
    loads.enumerate().filter(|(_, load)| load.has_room()).min_by_key(|(_, load)| load.tenants).map(|(at, _)| at)
}

/// The least loaded cluster that has room and is not draining.
///
/// # Errors
/// If the control plane does not answer, or the cluster's secrets do not open.
pub async fn place(conn: &mut MainConn, keys: &MasterKeys) -> ApiResult<Option<Cluster>> {
    let mut rows = rows(conn).await?;
    let loads = rows.iter().map(|(row, tenants)| Load {
        tenants: *tenants,
        max_tenants: row.max_tenants,
        draining: row.draining,
    });
    let Some(at) = least_loaded(loads) else { return Ok(None) };
    let (row, tenants) = rows.swap_remove(at);
    row.open(keys, tenants).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(tenants: i64, max_tenants: Option<i32>, draining: bool) -> Load {
        Load { tenants, max_tenants, draining }
    }

    #[test]
    fn takes_the_least_loaded_with_room() {
        let loads = [load(1, Some(1), false), load(0, None, true), load(7, None, false), load(5, Some(6), false)];
        assert_eq!(least_loaded(loads.into_iter()), Some(3));
        assert_eq!(least_loaded([load(1, Some(1), false), load(0, None, true)].into_iter()), None);
        assert_eq!(least_loaded([load(2, None, false), load(2, None, false)].into_iter()), Some(0));
        assert_eq!(least_loaded(std::iter::empty()), None);
    }
}
