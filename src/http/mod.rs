//! HTTP: health and metrics. Translates, decides nothing.
//!
//! `GET /health` answers `ok` while epochs can be closed; `GET /metrics` gives figures in Prometheus' text format.

use std::fmt::Write;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::coord::server::Server;
use crate::error::Result;

/// Serves until `stop`.
pub async fn serve(listener: TcpListener, server: Server, stop: CancellationToken) -> Result<()> {
    let router =
        Router::new().route("/health", get(health)).route("/metrics", get(metrics)).with_state(server);
    axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await?;
    Ok(())
}

async fn health(State(server): State<Server>) -> impl IntoResponse {
    match server.is_accepting() {
        true => (StatusCode::OK, "ok\n"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "not accepting writes\n"),
    }
}

async fn metrics(State(server): State<Server>) -> impl IntoResponse {
    let figures = &server.shared.figures;
    let mut out = String::new();
    let mut one = |name: &str, kind: &str, help: &str, value: u64| {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}");
    };
    one("freshet_epochs_total", "counter", "Epochs closed since the start.", figures.epochs());
    one("freshet_changes_total", "counter", "Changes taken in since the start.", figures.rows());
    one(
        "freshet_epoch",
        "gauge",
        "The newest closed epoch, microseconds since 1970.",
        server.shared.epochs.published().0,
    );
    one("freshet_last_step_us", "gauge", "Time the last epoch took.", figures.last_step_micros());
    one("freshet_longest_step_us", "gauge", "Longest time an epoch took.", figures.longest_step_micros());
    one("freshet_sessions", "gauge", "Connected sessions.", server.sessions().len() as u64);
    let world = server.shared.world();
    let bytes: usize = world.relations.values().map(|r| r.memory_bytes()).sum();
    one("freshet_relation_bytes", "gauge", "Memory of tables, sources and views.", bytes as u64);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], out)
}
