//! Floods of connections, half-open ones, too many.

use std::time::Duration;

use crate::Fresh;
use crate::common::eventually;
use crate::common::wire::Wire;
use crate::raw::{Raw, startup};

#[test]
fn a_thousand_connections_opened_and_dropped_leave_the_server_well() {
    let fresh = Fresh::start(&[]);
    let packet = startup();
    for i in 0..1000 {
        let mut raw = Raw::open(&fresh.server.address);
        // Nothing, a part of the startup packet, all of it, all of it and a statement.
        match i % 4 {
            0 => {}
            1 => raw.send(&packet[..i % packet.len()]),
            2 => raw.send(&packet),
            _ => {
                raw.send(&packet);
                raw.send(&crate::raw::message(b'Q', b"SELECT 1\0"));
            }
        }
    }
    eventually(Duration::from_secs(30), || {
        let mut session =
            Wire::connect(&fresh.server.address, "freshet", "freshet").map_err(|e| e.to_string())?;
        let open = session.value("SELECT count(*) FROM freshet.sessions").map_err(|e| e.to_string())?;
        if open == "1" { Ok(()) } else { Err(format!("{open} sessions")) }
    });
    fresh.is_well();
}

#[test]
fn connections_that_say_nothing_do_not_keep_others_out() {
    let fresh = Fresh::start(&["--max-connections", "20"]);
    let silent: Vec<Raw> = (0..60).map(|_| Raw::open(&fresh.server.address)).collect();
    let half: Vec<Raw> = (0..20)
        .map(|_| {
            let mut raw = Raw::open(&fresh.server.address);
            raw.send(&startup()[..7]);
            raw
        })
        .collect();
    fresh.is_well();
    drop((silent, half));
    fresh.is_well();
}

#[test]
fn too_many_sessions_are_refused_until_one_ends() {
    let fresh = Fresh::start(&["--max-connections", "5"]);
    let mut sessions: Vec<Wire> = (0..5).map(|_| fresh.server.connect()).collect();
    for _ in 0..50 {
        let refused = Wire::connect(&fresh.server.address, "freshet", "freshet").expect_err("a refusal");
        assert_eq!((refused.code(), refused.message()), ("53300", "sorry, too many clients already"));
    }
    sessions.pop();
    eventually(Duration::from_secs(5), || {
        Wire::connect(&fresh.server.address, "freshet", "freshet").map(drop).map_err(|e| e.to_string())
    });
}

#[test]
fn the_statements_of_clients_that_vanish_end() {
    let fresh = Fresh::start(&[]);
    for i in 0..30 {
        let mut session = fresh.server.connect();
        session
            .start(match i % 3 {
                0 => "SELECT count(*) FROM generate_series(1, 100000) a, generate_series(1, 100000) b",
                1 => "SELECT pg_sleep(600)",
                _ => "SELECT count(*) FROM pg_attribute a, pg_attribute b, pg_attribute c WHERE a.attnum = -b.attnum",
            })
            .expect("sent");
        drop(session);
    }
    eventually(Duration::from_secs(30), || {
        let open = fresh.server.connect().value("SELECT count(*) FROM freshet.sessions");
        let open = open.map_err(|e| e.to_string())?;
        if open == "1" { Ok(()) } else { Err(format!("{open} sessions")) }
    });
    fresh.is_well();
}

#[test]
fn a_client_that_is_silent_for_too_long_is_told_and_closed() {
    let fresh = Fresh::start(&[]);
    let mut idle = fresh.server.connect();
    idle.exec("SET idle_session_timeout = '300ms'");
    let mut block = fresh.server.connect();
    block.exec("SET idle_in_transaction_session_timeout = '300ms'; BEGIN");
    let mut quiet = fresh.server.connect();
    quiet.exec("SET idle_in_transaction_session_timeout = '300ms'");
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(idle.next_row().expect_err("closed").code(), "57P05");
    assert_eq!(block.next_row().expect_err("closed").code(), "25P03");
    assert_eq!(quiet.value("SELECT 1").expect("an answer"), "1");
}
