//! Looking at a cluster's server: what it is, and how much of it is used.

use chrono::TimeDelta;
use diesel::sql_types::{Array, BigInt, Integer, Text};
use diesel_async::RunQueryDsl;
use futures_util::stream::{self, StreamExt as _};

use super::{Fleet, admin};
use crate::control::clusters::{self, Cluster, Facts};
use crate::error::{ApiError, ApiResult};
use crate::router::{AdminConn, MainConn, Room};

/// How old what is known of a server may get.
const FRESH: TimeDelta = TimeDelta::seconds(100);
/// How old the size of its databases may get. PostgreSQL looks at every file of theirs for it: seconds, of thousands.
const MEASURED: TimeDelta = TimeDelta::minutes(15);
/// Servers that are looked at at the same time.
const AT_ONCE: usize = 4;

const LOOK: &str = "SELECT split_part(current_setting('server_version'), ' ', 1) AS version, \
    coalesce((SELECT array_agg(name::text ORDER BY name) FROM pg_available_extensions), '{}') AS extensions, \
    (SELECT count(*)::int FROM pg_stat_activity WHERE backend_type = 'client backend') AS connections";
const SIZE: &str = "SELECT coalesce(sum(pg_database_size(oid))::bigint, 0) AS bytes FROM pg_database \
    WHERE has_database_privilege(oid, 'CONNECT') OR pg_has_role('pg_read_all_stats', 'USAGE')";

#[derive(diesel::QueryableByName)]
struct Look {
    #[diesel(sql_type = Text)]
    version: String,
    #[diesel(sql_type = Array<Text>)]
    extensions: Vec<String>,
    #[diesel(sql_type = Integer)]
    connections: i32,
}

#[derive(diesel::QueryableByName)]
struct Size {
    #[diesel(sql_type = BigInt)]
    bytes: i64,
}

impl Fleet {
    /// Looks at a cluster's server now, and keeps what it found. Its databases are measured if they were not for a while.
    ///
    /// # Errors
    /// 503 if the server does not answer.
    pub async fn look_at(&self, cluster: &Cluster) -> ApiResult<Facts> {
        let mut server = admin::open(&cluster.admin).await?;
        let facts = self.facts(&mut server, cluster.facts.as_ref()).await?;
        let (id, kept) = (cluster.id, facts.clone());
        self.control.db.read(async move |conn: &mut MainConn| clusters::keep_facts(conn, id, &kept).await).await?;
        Ok(facts)
    }

    async fn facts(&self, server: &mut AdminConn, before: Option<&Facts>) -> ApiResult<Facts> {
        let Look { version, extensions, connections } =
            diesel::sql_query(LOOK).get_result(server).await.map_err(ApiError::internal)?;
        let now = self.control.clock.now();
        let (bytes, bytes_at) = match before {
            Some(facts) if facts.bytes_at > now - MEASURED => (facts.bytes, facts.bytes_at),
            _ => {
                let size: Size = diesel::sql_query(SIZE).get_result(server).await.map_err(ApiError::internal)?;
                (size.bytes, now)
            }
        };
        Ok(Facts {
            server_version: version,
            extensions,
            max_connections: Room::read(server).await?.left(),
            connections,
            bytes,
            probed_at: now,
            bytes_at,
        })
    }

    /// Looks at every server that nobody has looked at for a while; one that does not answer stays as it was known.
    ///
    /// # Errors
    /// If the control plane does not answer.
    pub async fn look_at_clusters(&self) -> ApiResult<usize> {
        let (since, keys) = (self.control.clock.now() - FRESH, self.control.keys.clone());
        let unseen = self
            .control
            .db
            .read(async move |conn: &mut MainConn| {
                let ids = clusters::unseen(conn, since).await?;
                let mut list = clusters::list(conn, &keys).await?;
                list.retain(|cluster| ids.contains(&cluster.id));
                Ok::<_, ApiError>(list)
            })
            .await?;
        let looks = unseen.into_iter().map(|cluster| async move {
            let looked = self.look_at(&cluster).await;
            if let Err(error) = &looked {
                tracing::warn!(cluster = %cluster.name, %error, cause = ?error.cause(), "a cluster cannot be looked at");
            }
            usize::from(looked.is_ok())
        });
        Ok(stream::iter(looks).buffer_unordered(AT_ONCE).fold(0, async |all, one| all + one).await)
    }
}
