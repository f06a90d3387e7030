//! Anchors at a server that answers when it is told to.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::super::keeper::tests::{BUDGET, Plane, SLICE, tenant_at, until};
use super::super::{Demand, NodeId};
use super::*;

const LET_IN: &[u8] = b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I";

/// A cluster that this node has a slice of, and whose anchor is being opened.
struct Cluster {
    keeper: Arc<Keeper>,
    server: TcpListener,
    id: ClusterId,
    target: Arc<Target>,
}

impl Cluster {
    async fn new() -> Self {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let tenant = tenant_at("c", server.local_addr().unwrap().port());
        let connect = ConnectOptions { connect_timeout: Duration::from_millis(500), ..ConnectOptions::default() };
        let ttl = Duration::from_secs(600);
        let keeper = Arc::new(Keeper::new(Plane::new(false, 0), NodeId::generate(), ttl, BUDGET, connect));
        let cluster = Self { keeper, server, id: tenant.cluster.id, target: tenant.target.clone() };
        let mut entry = Entry::new(&tenant, BUDGET, Arc::new(Demand::new(BUDGET, Arc::default())));
        (entry.slice, entry.anchor) = (Some(SLICE), Anchor::Opening);
        cluster.keeper.lock().entries.insert(cluster.id, entry);
        cluster
    }

    fn with<R>(&self, what: impl FnOnce(&mut Entry) -> R) -> R {
        what(self.keeper.lock().entries.get_mut(&self.id).expect("the cluster"))
    }

    /// Looks at it, and gives how much is to be done there.
    fn watch(&self) -> usize {
        self.keeper.watch(Instant::now()).len()
    }

    fn is_leaving(&self) -> bool {
        self.with(|entry| matches!(entry.anchor, Anchor::Leaving(_)))
    }

    /// The server has been given up, and says nothing until it goes.
    async fn counts_until_it_goes(&self) {
        let silent = self.server.accept().await.unwrap();
        for _ in 0..10 {
            assert_eq!(self.watch(), 0, "no other one is opened");
            assert!(self.is_leaving(), "a backend may be there");
            assert_eq!(self.with(|entry| entry.anchor.count()), 1);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        drop(silent);
        until("nothing is left of it", || {
            self.watch();
            !self.is_leaving()
        })
        .await;
    }
}

#[tokio::test]
async fn an_anchor_that_is_late_counts_until_the_server_has_let_go() {
    let cluster = Cluster::new().await;
    cluster.keeper.clone().open_anchor(cluster.id, cluster.target.clone()).await;
    cluster.counts_until_it_goes().await;
}

#[tokio::test]
async fn so_does_one_without_a_slice() {
    let cluster = Cluster::new().await;
    cluster.with(|entry| (entry.slice, entry.offline) = (None, Some(BUDGET)));
    cluster.keeper.clone().show_again(cluster.id, cluster.target.clone()).await;
    cluster.counts_until_it_goes().await;
}

#[tokio::test]
async fn an_anchor_is_opened_once_the_pools_have_left_it_its_place() {
    let cluster = Cluster::new().await;
    cluster.with(|entry| entry.anchor = Anchor::None);
    assert_eq!(cluster.watch(), 0, "until now the pools may have opened all of the slice");
    assert!(cluster.with(|entry| matches!(entry.anchor, Anchor::Reserved)));
    assert_eq!(cluster.watch(), 1);
    assert!(cluster.with(|entry| matches!(entry.anchor, Anchor::Opening)));
}

#[tokio::test]
async fn an_anchor_that_comes_too_late_for_its_slice_leaves() {
    let cluster = Cluster::new().await;
    cluster.with(|entry| entry.fenced = true);
    let opening = cluster.keeper.clone().open_anchor(cluster.id, cluster.target.clone());
    let served = async {
        let (mut socket, _) = cluster.server.accept().await.unwrap();
        let asked = socket.read(&mut [0; 1024]).await.unwrap();
        assert!(asked > 0);
        socket.write_all(LET_IN).await.unwrap();
        socket
    };
    let ((), mut socket) = tokio::join!(opening, served);
    assert!(cluster.is_leaving());
    // It says goodbye, and nothing more.
    assert_eq!(socket.read(&mut [0; 1024]).await.unwrap(), 5);
    drop(socket);
    until("it is gone", || {
        cluster.watch();
        cluster.with(|entry| entry.anchor.count()) == 0
    })
    .await;
}
