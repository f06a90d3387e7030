-- The connection budget of a cluster is shared among the nodes that serve its tenants: each holds a slice of it.

-- A node that says every few seconds that it lives. One row and one lease for all its slices.
CREATE TABLE budget_nodes (
    id         uuid PRIMARY KEY,
    joined_at  timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL
);

-- The most connections that a node may have open to a cluster. The sum over a cluster never exceeds its budget, rows of
-- nodes that are gone included: such a row goes only when its node's connections are seen to be gone. `cluster_id` is
-- a cluster's, or the tenant's own where its database is dedicated: hence no foreign key.
CREATE TABLE budget_slices (
    cluster_id   uuid NOT NULL,
    node_id      uuid NOT NULL REFERENCES budget_nodes (id) ON DELETE CASCADE,
    slice        integer NOT NULL CHECK (slice >= 0),
    wanted       integer NOT NULL CHECK (wanted >= 0),
    in_use       integer NOT NULL CHECK (in_use >= 0),
    -- The budget that the node reckoned with.
    budget       integer NOT NULL CHECK (budget > 0),
    -- Grows with every claim of the node: one that arrives late changes nothing.
    seq          bigint NOT NULL,
    -- Since when no connection of a node that is gone has been seen.
    unseen_since timestamptz,
    joined_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (cluster_id, node_id)
);
CREATE INDEX budget_slices_node_id ON budget_slices (node_id);

-- A tenant's share where connections are scarce.
ALTER TABLE tenants ADD COLUMN weight integer NOT NULL DEFAULT 1 CHECK (weight BETWEEN 1 AND 100);
