//! A connection to a server as the commands use it.
//!
//! Boundary: tokio-postgres stays behind this file; errors of a server and of the network become [`Error`].

use std::future::poll_fn;
use std::str::FromStr;

use tokio_postgres::config::Host;
use tokio_postgres::{AsyncMessage, Client, Config, NoTls, SimpleQueryMessage};

use crate::error::{Error, ErrorKind, Result};

/// Connects. Notices of the server go to standard error where they are wanted.
pub(super) async fn connect(url: &str, name: &str, show_notices: bool) -> Result<Client> {
    let mut config = Config::from_str(url).map_err(|e| {
        Error::new(ErrorKind::InvalidParameter, format!("invalid connection string: {}", reason(&e)))
            .with_hint(format!("It looks like {}.", super::DEFAULT_URL))
    })?;
    if config.get_user().is_none() {
        config.user("freshet");
    }
    config.application_name(name);
    let (client, mut connection) =
        config.connect(NoTls).await.map_err(|e| unreachable_server(&config, &e))?;
    tokio::spawn(async move {
        // An error here shows as "connection closed" in the statement that is running.
        while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
            if let AsyncMessage::Notice(notice) = message
                && show_notices
            {
                eprintln!("{}:  {}", notice.severity(), notice.message());
                if let Some(detail) = notice.detail() {
                    eprintln!("DETAIL:  {detail}");
                }
                if let Some(hint) = notice.hint() {
                    eprintln!("HINT:  {hint}");
                }
            }
        }
    });
    Ok(client)
}

fn unreachable_server(config: &Config, e: &tokio_postgres::Error) -> Error {
    if e.as_db_error().is_some() {
        return error(e);
    }
    let host = match config.get_hosts().first() {
        Some(Host::Tcp(host)) => host.clone(),
        #[cfg(unix)]
        Some(Host::Unix(path)) => path.display().to_string(),
        None => "an address that was not given".into(),
    };
    let port = config.get_ports().first().map_or_else(String::new, |p| format!(":{p}"));
    Error::new(
        ErrorKind::ConnectionFailure,
        format!("could not reach a server at {host}{port}: {}", reason(e)),
    )
    .with_hint("Is the server running? Start it with \"freshet serve\", or give its address with --url.")
}

/// The innermost reason of a failure: the client library's own words say little.
fn reason(e: &tokio_postgres::Error) -> String {
    std::error::Error::source(e).map_or_else(|| e.to_string(), ToString::to_string)
}

/// What the server (or the network) said, as an error of ours.
pub(super) fn error(e: &tokio_postgres::Error) -> Error {
    let Some(db) = e.as_db_error() else {
        return Error::new(ErrorKind::ConnectionFailure, format!("lost the connection: {}", reason(e)));
    };
    let kind = ErrorKind::from_sqlstate(db.code().code()).unwrap_or(ErrorKind::Internal);
    let mut error = Error::new(kind, db.message());
    if let Some(detail) = db.detail() {
        error = error.with_detail(detail);
    }
    if let Some(hint) = db.hint() {
        error = error.with_hint(hint);
    }
    if let Some(tokio_postgres::error::ErrorPosition::Original(position)) = db.position() {
        error = error.with_position(*position as usize);
    }
    error
}

/// Runs statements whose rows do not matter.
pub(super) async fn execute(client: &Client, sql: &str) -> Result<()> {
    client.batch_execute(sql).await.map_err(|e| error(&e))
}

/// The rows of a query as text, NULL as none.
pub(super) async fn rows(client: &Client, sql: &str) -> Result<Vec<Vec<Option<String>>>> {
    let messages = client.simple_query(sql).await.map_err(|e| error(&e))?;
    Ok(messages
        .iter()
        .filter_map(|m| match m {
            SimpleQueryMessage::Row(row) => {
                Some((0..row.len()).map(|i| row.get(i).map(str::to_string)).collect())
            }
            _ => None,
        })
        .collect())
}

/// The one number that a query gives; NULL and no row are 0.
pub(super) async fn number(client: &Client, sql: &str) -> Result<u64> {
    let rows = rows(client, sql).await?;
    Ok(rows.first().and_then(|r| r.first()?.as_ref()?.parse().ok()).unwrap_or(0))
}
