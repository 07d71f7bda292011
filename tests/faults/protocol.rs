//! Nonsense in every state of the protocol. The seed of each case is in its failure.

use std::time::Duration;

use crate::common::Random;
use crate::raw::{Raw, message, sqlstate, startup};
use crate::{Fresh, no_panic};

fn random_bytes(random: &mut Random, most: u64) -> Vec<u8> {
    (0..random.below(most)).map(|_| random.below(256) as u8).collect()
}

/// A message that is well-formed from outside, of any kind and with any body.
fn random_message(random: &mut Random) -> Vec<u8> {
    let kinds = b"QPBDECHSXFdcfp\0Zz";
    let kind = kinds[random.below(kinds.len() as u64) as usize];
    let mut body = match random.below(3) {
        0 => random_bytes(random, 40),
        // Names, counts and lengths as real messages have them.
        1 => [b"\0SELECT $1::int\0".to_vec(), random_bytes(random, 12)].concat(),
        _ => [b"\0\0\0\x01\0\x01".to_vec(), random_bytes(random, 30)].concat(),
    };
    if random.below(8) == 0 {
        body.extend(vec![0; random.below(70_000) as usize]);
    }
    message(kind, &body)
}

#[test]
fn random_bytes_in_every_state_close_the_connection_or_are_answered() {
    let fresh = Fresh::start(&[]);
    fresh.server.connect().exec("CREATE TABLE t (a int, b text)");
    for seed in 0..160 {
        let mut random = Random::new(seed);
        let mut raw = Raw::open(&fresh.server.address);
        let state = seed % 6;
        if state > 0 {
            raw.send(&startup());
            raw.read_until(b'Z').unwrap_or_else(|| panic!("seed {seed}: no session"));
        }
        match state {
            2 => raw.send(&message(b'P', b"s\0SELECT $1::text\0\0\0")),
            3 => raw.send(&message(b'Q', b"COPY t FROM STDIN\0")),
            4 => raw.send(&message(b'Q', b"COPY t FROM STDIN (FORMAT binary)\0")),
            5 => raw.send(&message(b'Q', b"BEGIN; SELECT nosuch\0")),
            _ => {}
        }
        if random.below(2) == 0 {
            raw.send(&random_bytes(&mut random, 300));
        } else {
            for _ in 0..random.below(12) {
                raw.send(&random_message(&mut random));
            }
        }
        // The end of what the client says: whatever it was, the server must notice.
        drop(raw.0.shutdown(std::net::Shutdown::Write));
        assert!(raw.is_closed_within(Duration::from_secs(20)), "seed {seed}: the connection stays open");
        let log = fresh.server.log();
        assert!(!log.contains("panicked"), "seed {seed}:\n{log}");
    }
    fresh.is_well();
}

#[test]
fn lengths_that_lie_are_refused_without_memory() {
    let fresh = Fresh::start(&[]);
    for length in [0_u32, 1, 3, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff] {
        for kind in *b"QPBDECHSdf" {
            let mut raw = Raw::session(&fresh.server.address);
            raw.send(&[&[kind][..], &length.to_be_bytes()].concat());
            let body =
                raw.read_until(b'E').unwrap_or_else(|| panic!("no answer to {length} bytes of {kind}"));
            assert_eq!(sqlstate(&body), "08P01", "{length} bytes of {kind}");
            assert!(raw.is_closed_within(Duration::from_secs(5)));
        }
        let mut raw = Raw::open(&fresh.server.address);
        raw.send(&length.to_be_bytes());
        raw.send(&[0; 4]);
        drop(raw.0.shutdown(std::net::Shutdown::Write));
        assert!(raw.is_closed_within(Duration::from_secs(5)), "a startup packet of {length} bytes");
    }
    fresh.is_well();
}

#[test]
fn unknown_messages_end_the_connection_with_a_word() {
    let fresh = Fresh::start(&[]);
    for kind in [b'?', b'\0', b'q', 0xff] {
        let mut raw = Raw::session(&fresh.server.address);
        raw.send(&message(kind, b"x"));
        let body = raw.read_until(b'E').expect("an answer");
        assert_eq!(sqlstate(&body), "08P01");
        assert!(raw.is_closed_within(Duration::from_secs(5)));
    }
    let mut http = Raw::open(&fresh.server.address);
    http.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(http.is_closed_within(Duration::from_secs(5)));
    no_panic(&fresh.server);
}

#[test]
fn messages_beyond_the_limit_are_refused_and_the_session_goes_on() {
    let fresh = Fresh::start(&["--max-message-size", "1MB"]);
    let mut session = fresh.server.connect();
    let long = format!("SELECT '{}'", "x".repeat(2 << 20));
    assert_eq!(session.run(&long).expect_err("a refusal").code(), "54000");
    assert_eq!(session.value("SELECT 1").expect("an answer"), "1");
    session.exec("CREATE TABLE t (a text)");
    let copy = format!("COPY t FROM STDIN;\n{}\n", "x".repeat(2 << 20));
    assert_eq!(session.run(&copy).expect_err("a refusal").code(), "54000");
    assert_eq!(session.value("SELECT count(*) FROM t").expect("an answer"), "0");
}
