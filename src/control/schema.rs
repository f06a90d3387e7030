//! The control plane's tables, as `main-migrations/` makes them.

diesel::table! {
    installation (id) {
        id -> Uuid,
        mac_sealed -> Binary,
    }
}

diesel::table! {
    clusters (id) {
        id -> Uuid,
        name -> Text,
        host -> Text,
        port -> Integer,
        admin_user -> Text,
        admin_password_sealed -> Binary,
        admin_database -> Text,
        tls_mode -> Text,
        tls_ca -> Nullable<Text>,
        tls_client_cert -> Nullable<Text>,
        tls_client_key_sealed -> Nullable<Binary>,
        region -> Nullable<Text>,
        max_tenants -> Nullable<Integer>,
        connection_budget -> Nullable<Integer>,
        draining -> Bool,
        version -> BigInt,
        created_at -> Timestamptz,
        updated_at -> Timestamptz,
    }
}

diesel::table! {
    tenants (id) {
        id -> Uuid,
        slug -> Text,
        name -> Text,
        status -> Text,
        kind -> Text,
        cluster_id -> Nullable<Uuid>,
        database_name -> Text,
        role_name -> Text,
        password_sealed -> Nullable<Binary>,
        url_sealed -> Nullable<Binary>,
        direct_url_sealed -> Nullable<Binary>,
        tls_mode -> Nullable<Text>,
        tls_ca -> Nullable<Text>,
        tls_client_cert -> Nullable<Text>,
        tls_client_key_sealed -> Nullable<Binary>,
        max_connections -> Nullable<Integer>,
        weight -> Integer,
        plan -> Nullable<Text>,
        registration -> Text,
        schema_version -> Integer,
        operator_version -> Integer,
        migrations_hash -> Nullable<Text>,
        epoch -> BigInt,
        generation -> BigInt,
        version -> BigInt,
        created_at -> Timestamptz,
        updated_at -> Timestamptz,
        archived_at -> Nullable<Timestamptz>,
        purge_after -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    signing_keys (id) {
        id -> Uuid,
        tenant_id -> Nullable<Uuid>,
        alg -> Text,
        public -> Binary,
        private_sealed -> Binary,
        created_at -> Timestamptz,
        retired_at -> Nullable<Timestamptz>,
        signs_from -> Timestamptz,
    }
}

diesel::table! {
    operators (id) {
        id -> Uuid,
        email -> Text,
        password_hash -> Text,
        role -> Text,
        created_at -> Timestamptz,
        disabled_at -> Nullable<Timestamptz>,
        totp_sealed -> Nullable<Binary>,
        totp_confirmed_at -> Nullable<Timestamptz>,
        totp_step -> BigInt,
    }
}

diesel::table! {
    operator_sessions (id) {
        id -> Uuid,
        operator_id -> Uuid,
        created_at -> Timestamptz,
        expires_at -> Timestamptz,
        revoked_at -> Nullable<Timestamptz>,
        address -> Nullable<Text>,
        user_agent -> Nullable<Text>,
        second_factor -> Bool,
    }
}

diesel::table! {
    operator_tenants (operator_id, tenant_id) {
        operator_id -> Uuid,
        tenant_id -> Uuid,
    }
}

diesel::table! {
    operator_recovery_codes (operator_id, digest) {
        operator_id -> Uuid,
        digest -> Binary,
    }
}

diesel::table! {
    operator_audit (id) {
        id -> Uuid,
        at -> Timestamptz,
        operator_id -> Nullable<Uuid>,
        actor -> Text,
        action -> Text,
        target -> Nullable<Text>,
        address -> Nullable<Text>,
        request_id -> Nullable<Text>,
        outcome -> Nullable<Text>,
        finished_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    operator_login_attempts (subject) {
        subject -> Binary,
        attempts -> Integer,
        window_start -> Timestamptz,
    }
}

diesel::table! {
    operations (id) {
        id -> Uuid,
        tenant_id -> Nullable<Uuid>,
        slug -> Nullable<Text>,
        kind -> Text,
        state -> Text,
        background -> Bool,
        input -> Jsonb,
        result -> Nullable<Jsonb>,
        error -> Nullable<Text>,
        progress_done -> Nullable<BigInt>,
        progress_total -> Nullable<BigInt>,
        cancel_requested -> Bool,
        requested_by -> Nullable<Uuid>,
        started_at -> Timestamptz,
        finished_at -> Nullable<Timestamptz>,
        driver -> Nullable<Uuid>,
        request_id -> Nullable<Text>,
    }
}

diesel::table! {
    operation_steps (operation_id, position) {
        operation_id -> Uuid,
        position -> Integer,
        name -> Text,
        state -> Text,
        started_at -> Timestamptz,
        finished_at -> Nullable<Timestamptz>,
        ms -> Nullable<BigInt>,
        output -> Nullable<Jsonb>,
    }
}

diesel::table! {
    backup_keys (id) {
        id -> Uuid,
        key_sealed -> Binary,
        created_at -> Timestamptz,
    }
}

diesel::table! {
    backups (id) {
        id -> Uuid,
        tenant_id -> Uuid,
        slug -> Text,
        state -> Text,
        scheduled -> Bool,
        bytes -> Nullable<BigInt>,
        rows -> Nullable<BigInt>,
        schema_version -> Integer,
        created_at -> Timestamptz,
        finished_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    kept_databases (id) {
        id -> Uuid,
        tenant_id -> Uuid,
        cluster_id -> Uuid,
        database_name -> Text,
        role_name -> Nullable<Text>,
        left_by -> Text,
        kept_since -> Timestamptz,
        purge_after -> Timestamptz,
    }
}

diesel::table! {
    tenant_holds (tenant_id) {
        tenant_id -> Uuid,
        operation_id -> Uuid,
        held_since -> Timestamptz,
        held_until -> Timestamptz,
    }
}

diesel::table! {
    rotating_passwords (id) {
        id -> Uuid,
        next_sealed -> Nullable<Binary>,
        former_sealed -> Nullable<Binary>,
    }
}

diesel::table! {
    ready_tenants (id) {
        id -> Uuid,
        cluster_id -> Uuid,
        state -> Text,
        migrations -> Text,
        schema_version -> Integer,
        operator_version -> Integer,
        database_name -> Text,
        role_name -> Text,
        password_sealed -> Binary,
        created_at -> Timestamptz,
    }
}

diesel::table! {
    cluster_facts (cluster_id) {
        cluster_id -> Uuid,
        server_version -> Text,
        extensions -> Array<Text>,
        max_connections -> Integer,
        connections -> Integer,
        bytes -> BigInt,
        probed_at -> Timestamptz,
        bytes_at -> Timestamptz,
    }
}

diesel::table! {
    signups (id) {
        id -> Uuid,
        slug -> Text,
        name -> Text,
        admin_sealed -> Binary,
        created_at -> Timestamptz,
    }
}

diesel::table! {
    signup_attempts (subject) {
        subject -> Binary,
        attempts -> Integer,
        window_start -> Timestamptz,
    }
}

diesel::table! {
    request_records (id) {
        id -> Uuid,
        scope -> Text,
        key -> Text,
        fingerprint -> Binary,
        status -> Nullable<Integer>,
        location -> Nullable<Text>,
        version -> Nullable<BigInt>,
        body -> Nullable<Jsonb>,
        expires_at -> Timestamptz,
    }
}

diesel::joinable!(tenants -> clusters (cluster_id));
diesel::joinable!(kept_databases -> clusters (cluster_id));
diesel::joinable!(cluster_facts -> clusters (cluster_id));
diesel::joinable!(operator_sessions -> operators (operator_id));
diesel::allow_tables_to_appear_in_same_query!(
    tenants,
    clusters,
    signing_keys,
    ready_tenants,
    cluster_facts,
    kept_databases
);
diesel::joinable!(operator_tenants -> tenants (tenant_id));
diesel::allow_tables_to_appear_in_same_query!(tenants, backups);
diesel::allow_tables_to_appear_in_same_query!(operations, backups);
diesel::allow_tables_to_appear_in_same_query!(operations, tenants);
diesel::allow_tables_to_appear_in_same_query!(operators, operator_sessions);
diesel::allow_tables_to_appear_in_same_query!(operator_tenants, tenants);
diesel::allow_tables_to_appear_in_same_query!(signups, operations);
