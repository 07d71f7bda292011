//! The table of settings.
//!
//! Boundary: rows only; what a type or scope means is in the parent module.

use std::collections::HashMap;

use super::{Kind, MemoryUnit, PG_VERSION, Scope, Setting, TimeUnit};

const fn row(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    scope: Scope,
    category: &'static str,
    doc: &'static str,
) -> Setting {
    Setting { name, kind, default, scope, reported: false, effective: true, category, doc }
}

/// A session setting that clients are told of.
const fn reported(s: Setting) -> Setting {
    Setting { reported: true, ..s }
}

/// A setting that clients set or read and that changes nothing.
const fn compatible(name: &'static str, kind: Kind, default: &'static str, doc: &'static str) -> Setting {
    Setting { effective: false, ..row(name, kind, default, Scope::Session, COMPATIBILITY, doc) }
}

/// A fact that clients ask for.
const fn fact(name: &'static str, default: &'static str, doc: &'static str) -> Setting {
    row(name, Kind::Text, default, Scope::Fact, FACTS, doc)
}

const CONNECTION: &str = "Connections";
const STORAGE: &str = "Storage";
const RESOURCES: &str = "Resources";
const LOGGING: &str = "Logging";
const SESSION: &str = "Client session";
const STREAMING: &str = "Views and subscriptions";
const COMPATIBILITY: &str = "Accepted for clients, without effect";
const FACTS: &str = "Facts";

const MILLISECONDS: Kind = Kind::Time { unit: TimeUnit::Milliseconds, min: 0 };
const BYTES: Kind = Kind::Memory { unit: MemoryUnit::Bytes, min: 0 };
const KILOBYTES: Kind = Kind::Memory { unit: MemoryUnit::Kilobytes, min: 64 };
const COUNT: Kind = Kind::Int { min: 0, max: i32::MAX as i64 };
const AT_LEAST_1: Kind = Kind::Int { min: 1, max: i32::MAX as i64 };
const ISOLATION: Kind =
    Kind::Enum(&["serializable", "repeatable read", "read committed", "read uncommitted"]);
const PLAN_CACHE: Kind = Kind::Enum(&["auto", "force_generic_plan", "force_custom_plan"]);
const PLANNER: &str = "A choice of PostgreSQL's planner.";
pub(super) const OTHER_SYSTEM: &str = "A setting of another streaming database.";

/// Every setting.
#[rustfmt::skip] // one setting reads as one row of a table
pub static SETTINGS: &[Setting] = &[
    // --- server ---------------------------------------------------------------------------------------------
    row("pg_addr", Kind::Text, "127.0.0.1:4560", Scope::Server, CONNECTION,
        "Address for PostgreSQL clients; port 0 picks a free one and prints it."),
    row("http_addr", Kind::Text, "127.0.0.1:4561", Scope::Server, CONNECTION,
        "Address for metrics, health, events and the console; port 0 picks a free one."),
    row("max_connections", AT_LEAST_1, "200", Scope::Server, CONNECTION,
        "Sessions at a time; further ones are refused with 53300."),
    row("max_message_size", Kind::Memory { unit: MemoryUnit::Bytes, min: 65536 }, "64MB", Scope::Server, CONNECTION,
        "Greatest message taken from a client."),
    row("shutdown_timeout", MILLISECONDS, "10s", Scope::Server, CONNECTION,
        "How long sessions and the last epoch may take to end after SIGTERM."),
    row("data_dir", Kind::Text, "./freshet-data", Scope::Server, STORAGE,
        "Directory of everything that is kept; made if it is missing, locked while in use."),
    row("checkpoint_size", Kind::Memory { unit: MemoryUnit::Bytes, min: 1 << 20 }, "256MB", Scope::Server, STORAGE,
        "Size of the write-ahead log after which a checkpoint shortens it."),
    row("retention", MILLISECONDS, "1min", Scope::Server, STORAGE,
        "How long past states of relations stay readable with AS OF."),
    row("workers", COUNT, "0", Scope::Server, RESOURCES,
        "Threads that maintain views; 0 is the number of cores."),
    row("memory_limit", BYTES, "4GB", Scope::Server, RESOURCES,
        "Memory for the state of views and tables; writes and new views beyond it are refused with 53200."),
    row("query_memory_limit", BYTES, "1GB", Scope::Server, RESOURCES,
        "Memory for all running queries together; one that needs more is refused with 53200."),
    row("epoch_max_rows", AT_LEAST_1, "262144", Scope::Server, RESOURCES,
        "Rows after which an epoch is closed although more are waiting."),
    row("epoch_max_bytes", Kind::Memory { unit: MemoryUnit::Bytes, min: 65536 }, "64MB", Scope::Server, RESOURCES,
        "Bytes after which an epoch is closed although more are waiting."),
    row("log_level", Kind::Enum(&["error", "warn", "info", "debug", "trace"]), "info", Scope::Server, LOGGING,
        "What is written to standard error."),
    // --- session, with effect -------------------------------------------------------------------------------
    row("search_path", Kind::Text, "\"$user\", public", Scope::Session, SESSION,
        "Schemas in which names without schema are looked for."),
    reported(row("application_name", Kind::Text, "", Scope::Session, SESSION,
        "Name of the client, shown in freshet.sessions.")),
    reported(row("client_encoding", Kind::Encoding, "UTF8", Scope::Session, SESSION,
        "Encoding of text sent and received: UTF8.")),
    reported(row("DateStyle", Kind::DateStyle, "ISO, MDY", Scope::Session, SESSION,
        "Form of dates: ISO; the order is taken and kept.")),
    reported(row("IntervalStyle", Kind::Enum(&["postgres"]), "postgres", Scope::Session, SESSION,
        "Form of intervals.")),
    reported(row("TimeZone", Kind::TimeZone, "UTC", Scope::Both, SESSION,
        "Time zone in which timestamptz is read and shown.")),
    row("extra_float_digits", Kind::Int { min: -15, max: 3 }, "1", Scope::Session, SESSION,
        "Digits of float values; above 0 the shortest text that reads back exactly."),
    row("bytea_output", Kind::Enum(&["hex", "escape"]), "hex", Scope::Session, SESSION,
        "Form of bytea values."),
    reported(row("standard_conforming_strings", Kind::Enum(&["on"]), "on", Scope::Session, SESSION,
        "Backslashes in '…' are ordinary characters.")),
    row("client_min_messages",
        Kind::Enum(&["debug5", "debug4", "debug3", "debug2", "debug1", "log", "notice", "warning", "error"]),
        "notice", Scope::Session, SESSION, "Least important message that is sent to the client."),
    row("statement_timeout", MILLISECONDS, "0", Scope::Both, SESSION,
        "Time after which a statement is cancelled; 0 is never."),
    row("lock_timeout", MILLISECONDS, "0", Scope::Session, SESSION,
        "Time after which waiting for an advisory lock ends; 0 is never."),
    row("idle_in_transaction_session_timeout", MILLISECONDS, "0", Scope::Both, SESSION,
        "Time after which a session idle within a transaction is ended; 0 is never."),
    row("idle_session_timeout", MILLISECONDS, "0", Scope::Both, SESSION,
        "Time after which a session idle outside a transaction is ended; 0 is never."),
    row("default_transaction_isolation", ISOLATION, "serializable", Scope::Session, SESSION,
        "Isolation asked for by new transactions; all of them are serializable."),
    row("transaction_isolation", ISOLATION, "serializable", Scope::Session, SESSION,
        "Isolation asked for by the current transaction; all of them are serializable."),
    row("default_transaction_read_only", Kind::Bool, "off", Scope::Session, SESSION,
        "Whether new transactions refuse writes."),
    row("transaction_read_only", Kind::Bool, "off", Scope::Session, SESSION,
        "Whether the current transaction refuses writes."),
    // --- streaming ------------------------------------------------------------------------------------------
    row("view_errors", Kind::Enum(&["collect", "raise"]), "collect", Scope::Both, STREAMING,
        "What a SELECT does on a view with rows in its $errors: read the rest, or fail."),
    row("subscribe_columns", Kind::Enum(&["freshet", "materialize"]), "freshet", Scope::Session, STREAMING,
        "Names of the columns that SUBSCRIBE adds: ours, or mz_timestamp, mz_progressed, mz_diff."),
    row("subscribe_buffer", Kind::Memory { unit: MemoryUnit::Bytes, min: 65536 }, "64MB", Scope::Both, STREAMING,
        "Changes kept for a subscriber that does not keep up; one that falls further behind is disconnected."),
    row("background_ddl", Kind::Bool, "off", Scope::Session, STREAMING,
        "Whether CREATE MATERIALIZED VIEW answers before the view has its first contents."),
    // --- facts ----------------------------------------------------------------------------------------------
    reported(fact("server_version", PG_VERSION, "Version of PostgreSQL that clients may count on.")),
    fact("server_version_num", "150000", "The same as a number."),
    reported(fact("server_encoding", "UTF8", "Encoding of stored text.")),
    reported(fact("integer_datetimes", "on", "Timestamps are integers of microseconds.")),
    reported(fact("is_superuser", "on", "Whether the user may do everything.")),
    reported(fact("session_authorization", "freshet", "The user of the session.")),
    fact("lc_collate", "C", "Order of text."),
    fact("lc_ctype", "C.UTF-8", "Character classes of text."),
    fact("max_identifier_length", "63", "Bytes of a name in PostgreSQL's catalogs."),
    fact("max_index_keys", "32", "Columns of an index in PostgreSQL's catalogs."),
    fact("block_size", "8192", "PostgreSQL's size of a block."),
    fact("in_hot_standby", "off", "Whether this is a read-only copy."),
    fact("ssl", "off", "Whether TLS is offered."),
    fact("wal_level", "logical", "What the write-ahead log holds."),
    // --- compatibility --------------------------------------------------------------------------------------
    compatible("row_security", Kind::Bool, "on", "Row security policies do not exist."),
    compatible("jit", Kind::Bool, "on", "Compilation of expressions by PostgreSQL."),
    compatible("work_mem", KILOBYTES, "4MB", "Memory of a sort in PostgreSQL."),
    compatible("maintenance_work_mem", KILOBYTES, "64MB", "Memory of maintenance in PostgreSQL."),
    compatible("temp_buffers", Kind::Memory { unit: MemoryUnit::Blocks, min: 100 }, "8MB", "PostgreSQL's cache."),
    compatible("effective_cache_size", Kind::Memory { unit: MemoryUnit::Blocks, min: 1 }, "4GB", PLANNER),
    compatible("synchronous_commit", Kind::Enum(&["on", "off", "local", "remote_write", "remote_apply"]), "on",
        "Every commit is durable before it is acknowledged."),
    compatible("escape_string_warning", Kind::Bool, "on", "Warnings about backslashes."),
    compatible("backslash_quote", Kind::Enum(&["safe_encoding", "on", "off"]), "safe_encoding", "Quotes as \\'."),
    compatible("array_nulls", Kind::Bool, "on", "NULL in the text of arrays."),
    compatible("check_function_bodies", Kind::Bool, "on", "There are no user-defined functions."),
    compatible("default_table_access_method", Kind::Text, "heap", "Storage of PostgreSQL's tables."),
    compatible("default_tablespace", Kind::Text, "", "Tablespaces do not exist."),
    compatible("temp_tablespaces", Kind::Text, "", "Tablespaces do not exist."),
    compatible("default_toast_compression", Kind::Enum(&["pglz", "lz4"]), "pglz", "Storage of PostgreSQL's tables."),
    compatible("default_transaction_deferrable", Kind::Bool, "off", "Deferrable transactions do not differ."),
    compatible("transaction_deferrable", Kind::Bool, "off", "Deferrable transactions do not differ."),
    compatible("default_with_oids", Kind::Enum(&["off"]), "off", "Tables have no oid column."),
    compatible("xmloption", Kind::Enum(&["content", "document"]), "content", "There is no xml."),
    compatible("lc_messages", Kind::Text, "C", "Language of messages: English."),
    compatible("lc_monetary", Kind::Text, "C", "There is no money."),
    compatible("lc_numeric", Kind::Text, "C", "Numbers are written with a point."),
    compatible("lc_time", Kind::Text, "C", "Names of days and months are English."),
    compatible("default_text_search_config", Kind::Text, "pg_catalog.simple", "There is no text search."),
    compatible("tcp_keepalives_idle", COUNT, "0", "The operating system decides."),
    compatible("tcp_keepalives_interval", COUNT, "0", "The operating system decides."),
    compatible("tcp_keepalives_count", COUNT, "0", "The operating system decides."),
    compatible("tcp_user_timeout", MILLISECONDS, "0", "The operating system decides."),
    compatible("session_replication_role", Kind::Enum(&["origin", "replica", "local"]), "origin", "No triggers."),
    compatible("quote_all_identifiers", Kind::Bool, "off", "Generated SQL quotes where it must."),
    compatible("log_statement", Kind::Enum(&["none", "ddl", "mod", "all"]), "none", "See log_level."),
    compatible("log_min_duration_statement", Kind::Time { unit: TimeUnit::Milliseconds, min: -1 }, "-1",
        "See log_level."),
    compatible("plan_cache_mode", PLAN_CACHE, "auto", PLANNER),
    compatible("constraint_exclusion", Kind::Enum(&["partition", "on", "off"]), "partition", PLANNER),
    compatible("cursor_tuple_fraction", Kind::Real, "0.1", PLANNER),
    compatible("random_page_cost", Kind::Real, "4", PLANNER),
    compatible("seq_page_cost", Kind::Real, "1", PLANNER),
    compatible("default_statistics_target", COUNT, "100", PLANNER),
    compatible("from_collapse_limit", AT_LEAST_1, "8", PLANNER),
    compatible("join_collapse_limit", AT_LEAST_1, "8", PLANNER),
    compatible("geqo", Kind::Bool, "on", PLANNER),
    compatible("geqo_threshold", AT_LEAST_1, "12", PLANNER),
    compatible("max_parallel_workers", COUNT, "8", PLANNER),
    compatible("max_parallel_workers_per_gather", COUNT, "2", PLANNER),
    compatible("enable_bitmapscan", Kind::Bool, "on", PLANNER),
    compatible("enable_hashagg", Kind::Bool, "on", PLANNER),
    compatible("enable_hashjoin", Kind::Bool, "on", PLANNER),
    compatible("enable_indexonlyscan", Kind::Bool, "on", PLANNER),
    compatible("enable_indexscan", Kind::Bool, "on", PLANNER),
    compatible("enable_material", Kind::Bool, "on", PLANNER),
    compatible("enable_mergejoin", Kind::Bool, "on", PLANNER),
    compatible("enable_nestloop", Kind::Bool, "on", PLANNER),
    compatible("enable_parallel_append", Kind::Bool, "on", PLANNER),
    compatible("enable_parallel_hash", Kind::Bool, "on", PLANNER),
    compatible("enable_partition_pruning", Kind::Bool, "on", PLANNER),
    compatible("enable_partitionwise_aggregate", Kind::Bool, "off", PLANNER),
    compatible("enable_partitionwise_join", Kind::Bool, "off", PLANNER),
    compatible("enable_seqscan", Kind::Bool, "on", PLANNER),
    compatible("enable_sort", Kind::Bool, "on", PLANNER),
    compatible("enable_tidscan", Kind::Bool, "on", PLANNER),
    compatible("rw_implicit_flush", Kind::Bool, "on", OTHER_SYSTEM),
    compatible("query_mode", Kind::Text, "auto", OTHER_SYSTEM),
    compatible("visibility_mode", Kind::Text, "default", OTHER_SYSTEM),
    compatible("streaming_parallelism", Kind::Text, "adaptive", OTHER_SYSTEM),
    compatible("cluster", Kind::Text, "default", OTHER_SYSTEM),
    compatible("cluster_replica", Kind::Text, "", OTHER_SYSTEM),
    compatible("database", Kind::Text, "freshet", OTHER_SYSTEM),
    compatible("emit_timestamp_notice", Kind::Bool, "off", OTHER_SYSTEM),
    compatible("emit_trace_id_notice", Kind::Bool, "off", OTHER_SYSTEM),
    compatible("real_time_recency", Kind::Bool, "off", OTHER_SYSTEM),
    compatible("auto_route_introspection_queries", Kind::Bool, "on", OTHER_SYSTEM),
];

/// The setting of this name, in any case.
pub fn find(name: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|s| s.name.eq_ignore_ascii_case(name))
}

/// The position of a setting in the table.
pub(super) fn position(name: &str) -> Option<usize> {
    static BY_NAME: std::sync::OnceLock<HashMap<String, usize>> = std::sync::OnceLock::new();
    let by_name = BY_NAME
        .get_or_init(|| SETTINGS.iter().enumerate().map(|(i, s)| (s.name.to_ascii_lowercase(), i)).collect());
    if name.bytes().any(|b| b.is_ascii_uppercase()) {
        by_name.get(&name.to_ascii_lowercase()).copied()
    } else {
        by_name.get(name).copied()
    }
}

/// The README's table of settings: those that have an effect, in Markdown.
pub fn markdown_table() -> String {
    let mut out = String::from("| setting | default | given by | meaning |\n|---|---|---|---|\n");
    for s in SETTINGS.iter().filter(|s| s.effective && s.scope != Scope::Fact) {
        let by = match s.scope {
            Scope::Server => format!("`--{}`", s.name.replace('_', "-")),
            Scope::Both => format!("`SET`, `--{}`", s.name.to_ascii_lowercase().replace('_', "-")),
            Scope::Session | Scope::Fact => "`SET`".to_string(),
        };
        let default = if s.default.is_empty() { String::new() } else { format!("`{}`", s.default) };
        out.push_str(&format!("| `{}` | {default} | {by} | {} |\n", s.name, s.doc));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::value::canonical;
    use super::*;

    #[test]
    fn every_default_is_valid_and_every_name_is_there_once() {
        for (i, s) in SETTINGS.iter().enumerate() {
            canonical(s, s.default).unwrap_or_else(|e| panic!("{}: {e}", s.name));
            assert_eq!(position(s.name), Some(i), "{} is there twice", s.name);
            assert!(s.doc.ends_with('.'), "{}: the doc is a sentence", s.name);
            assert!(!s.doc.contains('|'), "{}: the doc stands in a Markdown table", s.name);
        }
    }

    #[test]
    fn the_readme_s_table_has_the_flags_users_script_against() {
        let t = markdown_table();
        for flag in ["--pg-addr", "--http-addr", "--data-dir", "--workers", "--memory-limit"] {
            assert!(t.contains(&format!("`{flag}`")), "{flag}");
        }
        assert!(t.contains("| `statement_timeout` | `0` | `SET`, `--statement-timeout` |"));
        assert!(!t.contains("enable_seqscan"));
    }
}
