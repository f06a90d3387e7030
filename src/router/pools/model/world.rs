//! Nodes, those that crashed, the registry, and a control plane whose clock cannot be trusted.

use std::time::{Duration, Instant};

use super::ledger::{Claim, Grant, Ledger, RENEW_EVERY};
use super::node::{Entry, Node};
use super::{BUDGET, REQUESTS, promise};
use crate::kernel::TenantId;

/// Nodes that live at once.
const NODES: usize = 3;

/// A claim on its way to the ledger, or its answer on the way back.
struct Mail {
    claim: Claim,
    answer: Option<Grant>,
}

/// See the module.
pub(super) struct World {
    pub(super) nodes: Vec<Node>,
    /// Connections that crashed nodes have left behind.
    lingering: Vec<(usize, usize)>,
    pub(super) registry: Vec<Entry>,
    pub(super) ledger: Ledger,
    mail: Vec<Mail>,
    started: usize,
    /// ms since the beginning, as every node's own clock says.
    now: i64,
    /// How far the control plane's clock is ahead of that.
    ahead: i64,
    /// When that clock was stepped last.
    stepped: i64,
    began: Instant,
    /// The most connections that may be open. Above a lowered budget until the nodes have come down to it.
    bound: u32,
}

impl World {
    pub(super) fn new(budget: u32, tenants: usize, nodes: usize) -> Self {
        let tenant = |at: usize| Entry {
            tenant: TenantId::from(uuid::Uuid::from_u128(1 + at as u128)),
            generation: 1,
            version: 1,
            weight: 1 + at as u32 % 2,
            suspended: false,
            moved: false,
        };
        let mut world = Self {
            nodes: vec![],
            lingering: vec![],
            registry: (0..tenants).map(tenant).collect(),
            ledger: Ledger::new(budget),
            mail: vec![],
            started: 0,
            now: 0,
            ahead: 0,
            stepped: -RENEW_EVERY,
            began: Instant::now(),
            bound: budget,
        };
        for _ in 0..nodes {
            world.start();
        }
        // As any installation: one after the other they have their first slice.
        for node in 0..nodes {
            world.claim(node);
            world.arrive(0);
            world.answer(0);
        }
        world
    }

    fn clock(&self) -> i64 {
        self.now + self.ahead
    }

    fn instant(&self) -> Instant {
        self.began + Duration::from_millis(self.now.unsigned_abs())
    }

    /// A node starts: another one, even if it is a crashed one's process again.
    pub(super) fn start(&mut self) {
        if self.nodes.len() < NODES {
            self.started += 1;
            let mut node = Node::new(self.started, self.registry.clone(), self.instant());
            node.keeping.renew_at = self.now + RENEW_EVERY;
            self.ledger.renew(node.id, self.clock());
            self.nodes.push(node);
        }
    }

    /// A node ends without a word. The server has yet to see that its connections are gone.
    pub(super) fn crash(&mut self, node: usize) {
        let node = self.nodes.swap_remove(node);
        self.lingering.push((node.id, node.physical()));
    }

    /// One connection of a crashed node ends.
    pub(super) fn linger_less(&mut self, at: usize) {
        if !self.lingering.is_empty() {
            let at = at % self.lingering.len();
            self.lingering[at].1 = self.lingering[at].1.saturating_sub(1);
        }
    }

    /// The registry says something new of a tenant.
    pub(super) fn change(&mut self, tenant: usize, change: impl FnOnce(&mut Entry)) {
        let entry = &mut self.registry[tenant];
        entry.generation += 1;
        change(entry);
    }

    /// A node hears of it.
    pub(super) fn hear(&mut self, node: usize, tenant: usize) {
        self.nodes[node].hear(tenant, self.registry[tenant]);
    }

    pub(super) fn claim(&mut self, node: usize) {
        let node = &mut self.nodes[node];
        let (open, wanted) = node.demand();
        if let Some(claim) = node.keeping.begin(node.id, open, wanted) {
            node.apply();
            self.mail.push(Mail { claim, answer: None });
        }
    }

    /// A claim arrives at the ledger, in any order; or it is lost.
    pub(super) fn arrive(&mut self, at: usize) {
        let unread = (0..self.mail.len()).filter(|at| self.mail[*at].answer.is_none());
        let unread: Vec<usize> = unread.collect();
        if unread.is_empty() {
            return;
        }
        let at = unread[at % unread.len()];
        let clock = self.clock();
        match self.ledger.claim(self.mail[at].claim, clock) {
            Some(grant) => self.mail[at].answer = Some(grant),
            None => drop(self.mail.swap_remove(at)),
        }
        let sum = self.ledger.sum();
        self.bound = if sum <= self.ledger.budget { self.ledger.budget } else { self.bound.min(sum) };
    }

    /// An answer arrives. Nobody may wait for it any more.
    pub(super) fn answer(&mut self, at: usize) {
        let read = (0..self.mail.len()).filter(|at| self.mail[*at].answer.is_some());
        let read: Vec<usize> = read.collect();
        if read.is_empty() {
            return;
        }
        let Mail { claim, answer } = self.mail.swap_remove(read[at % read.len()]);
        if let (Some(node), Some(grant)) = (self.nodes.iter_mut().find(|node| node.id == claim.node), answer) {
            node.keeping.take(claim.seq, grant);
            node.apply();
        }
    }

    /// A node has waited long enough for an answer. The claim may arrive nevertheless, unless it is `lost`.
    pub(super) fn do_without(&mut self, node: usize, lost: bool) {
        let node = &mut self.nodes[node];
        if lost {
            self.mail.retain(|mail| !node.keeping.is_claiming(mail.claim.seq) || mail.claim.node != node.id);
        }
        node.keeping.do_without();
        node.apply();
    }

    pub(super) fn set_budget(&mut self, budget: u32) {
        self.bound = self.bound.max(budget);
        self.ledger.budget = budget;
    }

    /// A node looks whether others' connections are gone.
    pub(super) fn look(&mut self) {
        let (nodes, lingering) = (&self.nodes, &self.lingering);
        let is_seen = |id: usize| {
            nodes.iter().any(|node| node.id == id && node.physical() > 0)
                || lingering.iter().any(|(node, left)| *node == id && *left > 0)
        };
        let clock = self.now + self.ahead;
        self.ledger.look(clock, is_seen);
        self.lingering.retain(|(_, left)| *left > 0);
    }

    /// The control plane's clock is set, at most once between two renewals of a node.
    pub(super) fn set_clock(&mut self, by: i64) {
        if self.now - self.stepped > RENEW_EVERY {
            self.stepped = self.now;
            self.ahead += by;
        }
    }

    /// Time passes, and leases are renewed when they are due.
    pub(super) fn pass(&mut self, ms: i64) {
        let until = self.now + ms;
        loop {
            let due = self.nodes.iter().map(|node| node.keeping.renew_at).min();
            self.now = due.map_or(until, |due| due.clamp(self.now, until));
            let (now, clock) = (self.now, self.clock());
            for node in self.nodes.iter_mut().filter(|node| node.keeping.renew_at <= now) {
                node.keeping.renew_at = now + RENEW_EVERY;
                if self.ledger.renew(node.id, clock) {
                    node.keeping.lapsed();
                }
            }
            if now == until {
                break;
            }
        }
        let instant = self.instant();
        self.nodes.iter_mut().for_each(|node| node.now = instant);
    }

    /// Checks what must hold after every step.
    pub(super) fn check(&self, touched: Option<usize>) {
        if let Some(node) = touched.and_then(|at| self.nodes.get(at)) {
            node.check();
        }
        let open: usize =
            self.nodes.iter().map(Node::physical).chain(self.lingering.iter().map(|(_, left)| *left)).sum();
        promise(open <= self.bound as usize, BUDGET, || {
            let nodes: Vec<_> = self.nodes.iter().map(|node| (node.id, node.physical(), &node.keeping)).collect();
            format!("{open} are open, {} may be: {nodes:?}, {:?}, {:?}", self.bound, self.lingering, self.ledger)
        });
    }

    /// Everybody does what they can: then nobody waits any more.
    pub(super) fn run_down(&mut self) {
        for tenant in 0..self.registry.len() {
            self.change(tenant, |entry| (entry.suspended, entry.moved) = (false, false));
        }
        self.set_budget(self.bound.max(NODES as u32 + 1));
        for _ in 0..1000 {
            if self.nodes.iter().all(|node| node.requests().1 == 0) {
                return;
            }
            self.settle();
        }
        let waiting: Vec<_> = self.nodes.iter().map(|node| (node.id, node.requests(), &node.keeping)).collect();
        promise(false, REQUESTS, || format!("they wait for ever: {waiting:?}, {:?}", self.ledger));
    }

    fn settle(&mut self) {
        self.pass(250);
        if self.ledger.has_orphans(|id| self.nodes.iter().any(|node| node.id == id)) {
            self.lingering.clear();
            self.look();
            self.pass(2000);
        }
        for at in 0..self.nodes.len() {
            for tenant in 0..self.registry.len() {
                if self.nodes[at].known[tenant].generation < self.registry[tenant].generation {
                    self.hear(at, tenant);
                }
            }
            self.claim(at);
            self.arrive(0);
            self.answer(0);
            let node = &mut self.nodes[at];
            node.more_room();
            node.probe_again();
            for _ in 0..node.unsettled() {
                node.tells(0);
                node.opens(0);
                node.closed(0);
                node.recovered(0, true);
            }
            self.check(Some(at));
            let node = &mut self.nodes[at];
            for _ in 0..node.requests().0 {
                node.leave(0, true, false);
            }
            node.tick();
            self.check(Some(at));
        }
    }
}
