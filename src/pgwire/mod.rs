//! The PostgreSQL wire protocol, version 3.0: translates between clients and the coordinator, decides nothing.
//!
//! One task per connection, on a thread that it keeps, reads messages, calls the backend ([`crate::coord::backend`]) and writes results. Replies are
//! collected and sent at Sync, Flush, the end of a query string, or when they are many; live results are sent as
//! they happen. A statement whose client has gone is cancelled.
//!
//! What is the `pgwire` crate's: the structs of the messages that the server sends except those of every query (rows and
//! their description, tags, what has no body) and COPY data, their encoding, and the packets before a session
//! (encryption and cancel requests). What is ours: the message loop and
//! the stores of statements and portals (the crate's handlers flush at each message, collect results before they
//! send them and cannot be cancelled while they do), rows and COPY data (written straight from Arrow arrays into
//! the buffer that is sent), frames with their length guards, and the reading of bodies (the crate's decoders
//! panic on short ones and repair text that is not UTF-8).
//!
//! A command tag says that a statement is done, so that of the last statement of an implicit transaction is sent
//! when the transaction is committed; if it cannot be, an error is sent instead.
//!
//! Boundary: everything that knows bytes of the protocol is here; statements, transactions and settings are the
//! backend's.

mod codec;
mod connection;
mod copy;
pub mod errors;
mod extended;
mod io;
mod rows;
mod startup;
#[cfg(test)]
mod tests;
mod threads;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::coord::backend::{Backend, CancelHandle, ConnectParams, StatementStore};
use connection::Connection;
use errors::Severity;
use io::{Io, ReadError};
use startup::{Start, StartupMessage};
use threads::Threads;

use crate::error::{Error, ErrorKind, Result};

/// Limits of the protocol server.
#[derive(Debug, Clone)]
pub struct Config {
    /// Sessions beyond this get 53300.
    pub max_connections: usize,
    /// A client must have sent its startup message within this time.
    pub startup_timeout: Duration,
    /// The longest message in bytes; longer ones are refused with 54000.
    pub max_message: usize,
    /// How long sessions may take to end after a shutdown was asked for.
    pub shutdown_grace: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            max_connections: 1_000,
            startup_timeout: Duration::from_secs(60),
            max_message: 64 * 1024 * 1024,
            shutdown_grace: Duration::from_secs(10),
        }
    }
}

/// The running sessions, for cancel requests.
#[derive(Default)]
struct Registry {
    sessions: Mutex<HashMap<i32, (i32, CancelHandle)>>,
    last_pid: AtomicI32,
    connections: AtomicUsize,
}

struct Server {
    backend: Arc<dyn Backend>,
    config: Config,
    shutdown: CancellationToken,
    registry: Registry,
    threads: Threads,
}

/// Serves clients of `listener` until `shutdown` is cancelled; then idle sessions get 57P01, running statements are
/// cancelled, and it returns when all are gone or the grace is over.
pub async fn serve(
    listener: TcpListener,
    backend: Arc<dyn Backend>,
    config: Config,
    shutdown: CancellationToken,
) -> Result<()> {
    let threads = Threads::start()?;
    let server = Arc::new(Server { backend, config, shutdown, registry: Registry::default(), threads });
    let mut tasks = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            a = listener.accept() => a,
            () = server.shutdown.cancelled() => break,
        };
        while tasks.try_join_next().is_some() {}
        match accepted {
            Ok((stream, peer)) => {
                // Sockets that have not said who they are count as well, with room for cancel requests.
                let open = server.registry.connections.load(Ordering::Relaxed);
                if open >= server.config.max_connections.saturating_mul(2).saturating_add(64) {
                    drop(stream);
                    continue;
                }
                server.registry.connections.fetch_add(1, Ordering::Relaxed);
                let server = Arc::clone(&server);
                tasks.spawn(async move {
                    // Counted down however the task ends.
                    let _open = Open(&server.registry.connections);
                    connection_task(&server, stream, peer).await;
                });
            }
            Err(e) => {
                // Out of descriptors, most likely: those who are connected go on.
                tracing::warn!("cannot accept a connection: {e}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    drop(listener);
    let all_gone = async { while tasks.join_next().await.is_some() {} };
    if tokio::time::timeout(server.config.shutdown_grace, all_gone).await.is_err() {
        tracing::warn!("sessions did not end in time after the shutdown");
    }
    Ok(())
}

struct Open<'a>(&'a AtomicUsize);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Takes a session out of the registry when its connection ends.
struct Registered<'a> {
    registry: &'a Registry,
    pid: i32,
    secret: i32,
    cancel: CancelHandle,
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        self.registry.sessions.lock().remove(&self.pid);
    }
}

impl Registry {
    fn register(&self, limit: usize) -> Result<Registered<'_>> {
        let mut sessions = self.sessions.lock();
        if sessions.len() >= limit {
            return Err(Error::new(ErrorKind::TooManyConnections, "sorry, too many clients already"));
        }
        let pid = loop {
            let pid = self.last_pid.fetch_add(1, Ordering::Relaxed).wrapping_add(1) & 0x7fff_ffff;
            if pid > 0 && !sessions.contains_key(&pid) {
                break pid;
            }
        };
        let secret = rand::random::<i32>();
        let cancel = CancelHandle::default();
        sessions.insert(pid, (secret, cancel.clone()));
        Ok(Registered { registry: self, pid, secret, cancel })
    }

    fn cancel(&self, pid: i32, secret: i32) {
        if let Some((right, cancel)) = self.sessions.lock().get(&pid)
            && *right == secret
        {
            cancel.cancel();
        }
    }
}

async fn connection_task(server: &Arc<Server>, stream: TcpStream, peer: std::net::SocketAddr) {
    if let Err(e) = stream.set_nodelay(true) {
        tracing::debug!("set_nodelay: {e}");
    }
    let mut io = Io::new(stream, server.config.max_message);
    let start = tokio::select! {
        s = tokio::time::timeout(server.config.startup_timeout, startup::read(&mut io)) => s,
        () = server.shutdown.cancelled() => return,
    };
    let outcome = match start {
        Ok(Ok(Start::Cancel(pid, secret))) => {
            // Closed without a byte: the client waits for exactly that.
            server.registry.cancel(pid, secret);
            return;
        }
        Ok(Ok(Start::Session(message))) => return to_its_thread(server, io, message, peer).await,
        Ok(Err(ReadError::Fatal(e))) => Err(e),
        Ok(Err(ReadError::Gone)) | Err(_) => Ok(()),
    };
    if let Err(e) = outcome {
        errors::write_error(&e, Severity::Fatal, &mut io.out);
    }
    io.close().await;
}

/// Ends a task when it is dropped.
struct EndsWith(tokio::task::AbortHandle);

impl Drop for EndsWith {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Runs a session on one of the session threads, to its end.
async fn to_its_thread(server: &Arc<Server>, io: Io, message: StartupMessage, peer: std::net::SocketAddr) {
    let (handle, place) = server.threads.place();
    let detached = match io.detach() {
        Ok(detached) => detached,
        Err(e) => return tracing::warn!("a socket could not be handed over: {e}"),
    };
    let here = Arc::clone(server);
    let task = handle.spawn(async move {
        let _place = place;
        let mut io = match detached.attach() {
            Ok(io) => io,
            Err(e) => return tracing::warn!("a socket could not be taken over: {e}"),
        };
        if let Err(e) = session(&here, &mut io, message, peer).await {
            errors::write_error(&e, Severity::Fatal, &mut io.out);
        }
        io.close().await;
    });
    // Ended with this task, should that be given up.
    let _ends = EndsWith(task.abort_handle());
    if let Err(e) = task.await
        && e.is_panic()
    {
        tracing::error!("a session has panicked");
    }
}

/// A session from its startup message to its end; an error is FATAL and still to be sent.
async fn session(
    server: &Server,
    io: &mut Io,
    message: StartupMessage,
    peer: std::net::SocketAddr,
) -> Result<(), Error> {
    startup::write_negotiation(&message, &mut io.out);
    let registered = server.registry.register(server.config.max_connections)?;
    let statements = Arc::new(StatementStore::default());
    let params = ConnectParams {
        user: message.user,
        database: message.database,
        application_name: message.application_name,
        options: message.options,
        pid: registered.pid,
        peer: Some(peer),
        statements: Arc::clone(&statements),
    };
    let session = connection::caught(server.backend.connect(params, registered.cancel.clone())).await?;
    let mut connection =
        Connection::new(io, session, registered.cancel.clone(), statements, server.shutdown.clone());
    connection.greet(registered.pid, registered.secret);
    let end = connection.run().await;
    connection.close().await;
    end
}
