//! Wiring and ordered shutdown: settings in, listeners and coordinator running, one line when it is ready.
//!
//! Ends in order: listeners, sessions, sources and the last epoch, workers, storage; each step has a deadline.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::catalog::object::DATABASE;
use crate::config::ServerSettings;
use crate::coord::server::Server;
use crate::error::{Error, ErrorKind, Result};
use crate::pgwire;

/// A server with its listeners.
pub struct Running {
    /// The server behind them.
    pub server: Server,
    /// Where PostgreSQL clients connect.
    pub pg_addr: SocketAddr,
    /// Where HTTP clients connect.
    pub http_addr: SocketAddr,
    stop: CancellationToken,
    listeners: Vec<tokio::task::JoinHandle<()>>,
}

impl Running {
    /// The address as a connection string.
    pub fn url(&self) -> String {
        format!("postgresql://{}/{DATABASE}", self.pg_addr)
    }

    /// Stops everything in order.
    pub async fn stop(self) -> Result<()> {
        let within = self.server.settings().shutdown_timeout();
        self.stop.cancel();
        for listener in self.listeners {
            if tokio::time::timeout(within, listener).await.is_err() {
                warn!("a listener did not end in time");
            }
        }
        self.server.shutdown(within.max(Duration::from_secs(1))).await
    }
}

async fn listen(address: &str, what: &str) -> Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|e| {
        Error::new(ErrorKind::Io, format!("could not listen on {address} for {what}: {e}"))
            .with_hint("Is another server running there? Choose another address, or port 0 for a free one.")
            .with_source(e)
    })
}

/// Recovers the data directory and starts listening. Sessions are accepted when this returns.
pub async fn start(settings: ServerSettings) -> Result<Running> {
    survive_file_size_limits();
    // The addresses first: a port that is taken should not cost a recovery.
    let pg = listen(settings.pg_addr(), "PostgreSQL clients").await?;
    let http = listen(settings.http_addr(), "HTTP").await?;
    refuse_public_addresses(&pg, &http)?;
    let opened = {
        let settings = settings.clone();
        tokio::task::spawn_blocking(move || Server::open(settings)).await
    };
    let server = opened.map_err(|e| Error::internal(format!("recovery failed: {e}")))??;
    let stop = CancellationToken::new();
    let (pg_addr, http_addr) = (pg.local_addr()?, http.local_addr()?);
    let config = pgwire::Config {
        max_connections: settings.max_connections(),
        max_message: settings.max_message_size(),
        shutdown_grace: settings.shutdown_timeout(),
        ..pgwire::Config::default()
    };
    let backend = Arc::new(server.clone());
    let pg_stop = stop.clone();
    let pg_task = tokio::spawn(async move {
        if let Err(e) = pgwire::serve(pg, backend, config, pg_stop).await {
            error!(error = ?e, "the PostgreSQL listener has ended");
        }
    });
    let (http_server, http_stop) = (server.clone(), stop.clone());
    let http_task = tokio::spawn(async move {
        if let Err(e) = crate::http::serve(http, http_server, http_stop).await {
            error!(error = ?e, "the HTTP listener has ended");
        }
    });
    info!(pg = %pg_addr, http = %http_addr, "listening");
    Ok(Running { server, pg_addr, http_addr, stop, listeners: vec![pg_task, http_task] })
}

/// A write beyond a limit on the size of files (`ulimit -f`) must fail like one on a full disk, not end the process.
fn survive_file_size_limits() {
    // SAFETY: ignoring a signal installs no handler; nothing of ours depends on the default action of SIGXFSZ.
    #[cfg(unix)]
    unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
    }
}

/// There are no passwords yet: nobody from elsewhere may come in.
fn refuse_public_addresses(pg: &TcpListener, http: &TcpListener) -> Result<()> {
    for listener in [pg, http] {
        let address = listener.local_addr()?;
        if !address.ip().is_loopback() {
            return Err(Error::new(
                ErrorKind::InvalidAuthorization,
                format!("refusing to listen on {address}: there is no authentication yet"),
            )
            .with_hint("Listen on a loopback address such as 127.0.0.1 and put a tunnel in front."));
        }
    }
    Ok(())
}

/// Waits for SIGTERM, SIGINT or ctrl-C.
pub async fn wait_for_signal() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let terminate = signal(SignalKind::terminate());
        if let Ok(mut terminate) = terminate {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = tokio::signal::ctrl_c() => {}
            }
            return;
        }
    }
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}
