//! What a move does, by name and in order.

use crate::router::tenant::words;

words! {
    /// A step's name, as it is journaled and shown.
    Step {
        /// The target can take it; how it is copied.
        Prepare = "prepare",
        /// Its role, which cannot log in, and an empty database.
        Target = "target",
        /// By replication: the tables without their rows.
        Schema = "schema",
        /// By replication: the rows, while the tenant goes on serving.
        Replicate = "replicate",
        /// By replication: every row read and summed up on both sides, so that under the hold only those are that have
        /// changed since.
        Weigh = "weigh",
        /// Requests wait from here on.
        Hold = "hold",
        /// Nobody is connected to the source, and its role cannot log in.
        Fence = "fence",
        /// Everything, or what replication has left to do.
        Copy = "copy",
        /// Rows, sequences and checksums are the same on both sides.
        Compare = "compare",
        /// The target's role may log in; seen to work.
        Open = "open",
        /// The registry says so, and requests go on.
        Switch = "switch",
        /// Statistics for the planner.
        Analyze = "analyze",
    }
}

words! {
    /// How the rows get there.
    Method {
        /// A dump under the hold.
        Dump = "dump",
        /// Logical replication; only its end is under the hold.
        Replicate = "replicate",
    }
}

impl Method {
    /// What a move by this method does, in order.
    pub fn steps(self) -> impl Iterator<Item = Step> {
        Step::ALL.iter().copied().filter(move |step| self.has(*step))
    }

    /// Whether there is anything to do for a step.
    pub(super) const fn has(self, step: Step) -> bool {
        match self {
            Self::Dump => !matches!(step, Step::Schema | Step::Replicate | Step::Weigh),
            Self::Replicate => true,
        }
    }
}
