//! What the private server is told: a small footprint, this machine only, no secret in its log.

use std::fmt::Write;

use super::LocalPostgresOptions;

/// `postgresql.conf`, whole.
pub(super) fn conf(options: &LocalPostgresOptions, port: u16) -> String {
    let max_connections = options.max_connections.to_string();
    let port = port.to_string();
    let mut settings = vec![
        ("listen_addresses", "127.0.0.1"),
        ("port", &port),
        ("unix_socket_directories", ""),
        ("max_connections", &max_connections),
        ("password_encryption", "scram-sha-256"),
        ("timezone", "UTC"),
        ("log_timezone", "UTC"),
        ("shared_buffers", "128MB"),
        ("max_wal_size", "1GB"),
        ("max_worker_processes", "4"),
        ("max_parallel_workers_per_gather", "0"),
        ("jit", "off"),
        ("log_min_messages", "warning"),
        // A failed statement may hold a role's verifier or a person's data.
        ("log_min_error_statement", "panic"),
        ("log_parameter_max_length", "0"),
        ("log_parameter_max_length_on_error", "0"),
    ];
    if !options.durable {
        settings.extend([
            ("fsync", "off"),
            ("synchronous_commit", "off"),
            ("full_page_writes", "off"),
            ("wal_level", "minimal"),
            ("max_wal_senders", "0"),
        ]);
    }
    settings.extend(options.settings.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    let mut text = "# Written at each start.\n".to_owned();
    for (name, value) in settings {
        writeln!(text, "{name} = '{}'", value.replace('\'', "''")).expect("a String takes everything");
    }
    text
}

/// `pg_hba.conf`, whole: the caller's lines, then a password for everybody on loopback.
pub(super) fn hba(options: &LocalPostgresOptions) -> String {
    let mut text = options.hba.join("\n");
    text.push_str("\nhost all all 127.0.0.1/32 scram-sha-256\n");
    text
}
