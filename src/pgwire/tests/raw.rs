//! What a strict or hostile client sees: bytes.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::super::Config;
use super::mock::*;

#[tokio::test]
async fn encryption_requests_get_one_byte_each() {
    let server = start().await;
    let mut raw = Raw::open(&server).await;
    for code in [80_877_103, 80_877_104] {
        raw.send(&startup(code, b"")).await;
        assert_eq!(raw.stream.read_u8().await.unwrap(), b'N');
    }
    raw.send(&startup(196_608, b"user\0me\0TimeZone\0UTC\0\0")).await;
    assert_eq!(raw.kinds().await, "R S S S K ZI");
    assert!(server.log().contains(&"TimeZone=UTC".to_string()));
}

#[tokio::test]
async fn newer_minor_versions_and_unknown_options_are_negotiated() {
    let server = start().await;
    let mut raw = Raw::open(&server).await;
    raw.send(&startup(196_610, b"user\0me\0_pq_.x\01\0\0")).await;
    let all = raw.until_ready().await;
    assert_eq!(kinds(&all), "v R S S S K ZI");
    assert_eq!(all[0].1, b"\0\x03\0\0\0\0\0\x01_pq_.x\0");
}

#[tokio::test]
async fn refused_startups_are_fatal() {
    let server = start().await;
    for (bytes, code) in [
        (startup(4 << 16, b"user\0me\0\0"), "0A000"),
        (startup(196_608, b"\0"), "28000"),
        (startup(196_608, b"user\0me"), "08P01"),
        (startup(196_608, b"user\0me\0database\0missing\0\0"), "3D000"),
        (startup(196_608, b"user\0me\0options\0-x\0\0"), "42601"),
        (startup(196_608, b"user\0\xff\xfe\0\0"), "22021"),
    ] {
        let mut raw = Raw::open(&server).await;
        raw.send(&bytes).await;
        let all = raw.rest().await;
        assert_eq!(kinds(&all), format!("E{code}"));
        assert_eq!((field(&all[0].1, b'S'), field(&all[0].1, b'V')), ("FATAL".into(), "FATAL".into()));
    }
}

#[tokio::test]
async fn garbage_instead_of_a_startup_is_closed_without_a_byte() {
    let server = start().await;
    for bytes in [&b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..], &[0xff; 64], &[0, 0, 0, 4, 0, 0, 0, 0], &[0; 8]]
    {
        let mut raw = Raw::open(&server).await;
        raw.send(bytes).await;
        let mut rest = Vec::new();
        // A reset is a close as well: our bytes were not all read.
        let _ = raw.stream.read_to_end(&mut rest).await;
        assert!(rest.is_empty());
    }
}

#[tokio::test]
async fn a_silent_client_is_closed_after_the_startup_timeout() {
    let config = Config { startup_timeout: Duration::from_millis(50), ..Config::default() };
    let server = start_with(config).await;
    let mut raw = Raw::open(&server).await;
    assert!(raw.next().await.is_none());
}

#[tokio::test]
async fn too_many_clients_are_told_so_and_places_are_given_back() {
    let server = start_with(Config { max_connections: 2, ..Config::default() }).await;
    let a = Raw::ready(&server).await;
    let _b = Raw::ready(&server).await;
    let mut c = Raw::open(&server).await;
    c.send(&startup(196_608, b"user\0me\0\0")).await;
    assert_eq!(kinds(&c.rest().await), "E53300");
    drop(a);
    tokio::time::sleep(Duration::from_millis(100)).await;
    Raw::ready(&server).await;
}

#[tokio::test]
async fn empty_query_strings_and_several_statements_give_one_ready() {
    let server = start().await;
    let mut raw = Raw::ready(&server).await;
    raw.send(&query("")).await;
    assert_eq!(raw.kinds().await, "I ZI");
    raw.send(&query("insert; series 2; notice; set")).await;
    assert_eq!(raw.kinds().await, "C T D D C N C C S ZI");
    // Earlier results are kept when a later statement fails, and the string is one transaction.
    server.log.lock().clear();
    raw.send(&query("series 1; fail; insert")).await;
    assert_eq!(raw.kinds().await, "T D C E22012 ZI");
    assert_eq!(server.log(), ["(", "series 1", "fail", "X"]);
}

#[tokio::test]
async fn a_pipeline_up_to_sync_is_one_transaction_and_errors_skip_to_its_end() {
    let server = start().await;
    let mut raw = Raw::ready(&server).await;
    let step = |text: &str| [parse("", text), bind("", ""), message(b'D', b"P\0"), execute("", 0)].concat();
    raw.send(&[step("insert"), step("series 1"), sync()].concat()).await;
    assert_eq!(raw.kinds().await, "1 2 n C 1 2 T D C ZI");
    assert_eq!(server.log(), ["(", "insert", "series 1", ")"]);
    server.log.lock().clear();
    raw.send(&[step("insert"), step("fail"), step("insert"), sync(), step("insert"), sync()].concat()).await;
    assert_eq!(raw.kinds().await, "1 2 n C 1 2 n E22012 ZI");
    assert_eq!(raw.kinds().await, "1 2 n C ZI");
    assert_eq!(server.log(), ["(", "insert", "fail", "X", "(", "insert", ")"]);
}

#[tokio::test]
async fn the_last_tag_is_sent_after_the_commit_or_an_error_instead() {
    let server = start().await;
    let mut raw = Raw::ready(&server).await;
    raw.send(&query("insert; doomed")).await;
    assert_eq!(raw.kinds().await, "C E23505 ZI");
    raw.send(&query("doomed; series 1")).await;
    assert_eq!(raw.kinds().await, "C T D E23505 ZI");
    let step = |text: &str| [parse("", text), bind("", ""), execute("", 0)].concat();
    let close = message(b'C', b"P\0");
    raw.send(&[step("insert"), step("doomed"), close.clone(), sync()].concat()).await;
    assert_eq!(raw.kinds().await, "1 2 C 1 2 E23505 ZI");
    raw.send(&[step("insert"), close, sync()].concat()).await;
    assert_eq!(raw.kinds().await, "1 2 C 3 ZI");
    // Whoever asks for a flush before the sync gets the tag before the commit.
    raw.send(&[step("doomed"), message(b'H', b"")].concat()).await;
    raw.send(&sync()).await;
    assert_eq!(raw.kinds().await, "1 2 C E23505 ZI");
}

#[tokio::test]
async fn a_cycle_is_answered_although_messages_without_reply_follow_it() {
    let server = start().await;
    let mut raw = Raw::ready(&server).await;
    raw.send(&[query("fail"), message(b'd', b"1\n"), message(b'c', b"")].concat()).await;
    assert_eq!(raw.kinds().await, "E22012 ZI");
    raw.send(&[query("insert"), parse("", "insert")].concat()).await;
    assert_eq!(raw.kinds().await, "C ZI");
}

#[tokio::test]
async fn flush_delivers_without_sync() {
    let server = start().await;
    let mut raw = Raw::ready(&server).await;
    raw.send(&[parse("s", "series 1"), message(b'H', b"")].concat()).await;
    assert_eq!(raw.next().await.unwrap().0, b'1');
    raw.send(&[bind("", "s"), execute("", 0), message(b'H', b"")].concat()).await;
    for kind in [b'2', b'D', b'C'] {
        assert_eq!(raw.next().await.unwrap().0, kind);
    }
    raw.send(&[bind("", "nope"), message(b'H', b"")].concat()).await;
    assert_eq!(raw.next().await.unwrap().0, b'E');
    raw.send(&sync()).await;
    assert_eq!(raw.kinds().await, "ZI");
}

#[tokio::test]
async fn names_of_statements_and_portals_are_guarded() {
    let server = start().await;
    let mut raw = Raw::ready(&server).await;
    for (bytes, expected) in [
        (parse("s", "series 30"), "1 ZI"),
        (parse("s", "insert"), "E42P05 ZI"),
        (parse("t", "insert; insert"), "E42601 ZI"),
        (bind("", "zz"), "E26000 ZI"),
        (message(b'D', b"Szz\0"), "E26000 ZI"),
        (message(b'D', b"Pzz\0"), "E34000 ZI"),
        (execute("zz", 0), "E34000 ZI"),
        ([bind("p", "s"), bind("p", "s")].concat(), "2 E42P03 ZI"),
        (message(b'C', b"Szz\0"), "3 ZI"),
        (message(b'C', b"Ss\0"), "3 ZI"),
        (parse("s", "insert"), "1 ZI"),
        (parse("", ""), "1 ZI"),
        ([bind("", ""), message(b'D', b"P\0"), execute("", 0)].concat(), "2 n I ZI"),
        (message(b'D', b"X\0"), "E08P01 ZI"),
        ([bind("", "s"), execute("", 0), execute("", 0)].concat(), "2 C E55000 ZI"),
    ] {
        raw.send(&[bytes, sync()].concat()).await;
        assert_eq!(raw.kinds().await, expected);
    }
}

#[tokio::test]
async fn portals_suspend_at_exactly_their_limit_and_die_with_their_transaction() {
    let server = start().await;
    let mut raw = Raw::ready(&server).await;
    raw.send(
        &[parse("s", "series 4"), bind("p", "s"), execute("p", 2), execute("p", 2), execute("p", 2), sync()]
            .concat(),
    )
    .await;
    let all = raw.until_ready().await;
    assert_eq!(kinds(&all), "1 2 D D s D D s C ZI");
    assert_eq!(all[8].1, b"SELECT 0\0");
    raw.send(&[execute("p", 2), sync()].concat()).await;
    assert_eq!(raw.kinds().await, "E34000 ZI");
    // In a block they live across Sync and die at its end.
    raw.send(&query("begin")).await;
    assert_eq!(raw.kinds().await, "C ZT");
    raw.send(&[bind("p", "s"), execute("p", 1), sync()].concat()).await;
    assert_eq!(raw.kinds().await, "2 D s ZT");
    raw.send(
        &[execute("p", 1), parse("", "commit"), bind("", ""), execute("", 0), execute("p", 1), sync()]
            .concat(),
    )
    .await;
    assert_eq!(raw.kinds().await, "D s 1 2 C E34000 ZI");
}

#[tokio::test]
async fn an_error_fails_the_block_whoever_found_it() {
    let server = start().await;
    let mut raw = Raw::ready(&server).await;
    raw.send(&query("begin")).await;
    assert_eq!(raw.kinds().await, "C ZT");
    raw.send(&[bind("", "zz"), sync()].concat()).await;
    assert_eq!(raw.kinds().await, "E26000 ZE");
    raw.send(&query("insert")).await;
    assert_eq!(raw.kinds().await, "E25P02 ZE");
    raw.send(&query("rollback")).await;
    assert_eq!(raw.kinds().await, "C ZI");
}

fn bind_counts(formats: &[i16], params: &[&[u8]], results: &[i16]) -> Vec<u8> {
    let mut b = b"\0s\0".to_vec();
    let shorts = |v: &[i16]| {
        let mut out = (v.len() as i16).to_be_bytes().to_vec();
        out.extend(v.iter().flat_map(|f| f.to_be_bytes()));
        out
    };
    b.extend(shorts(formats));
    b.extend((params.len() as i16).to_be_bytes());
    for p in params {
        b.extend((p.len() as i32).to_be_bytes());
        b.extend_from_slice(p);
    }
    b.extend(shorts(results));
    message(b'B', &b)
}

#[tokio::test]
async fn counts_and_values_of_bind_are_checked() {
    let server = start().await;
    let mut raw = Raw::ready(&server).await;
    // A statement with one int4 parameter.
    let mut p = b"s\0param\0".to_vec();
    p.extend([0, 1, 0, 0, 0, 23]);
    raw.send(&[message(b'P', &p), message(b'D', b"Ss\0"), sync()].concat()).await;
    assert_eq!(raw.kinds().await, "1 t T ZI");
    for (bytes, expected) in [
        (bind_counts(&[], &[b"7"], &[]), "2 D C ZI"),
        (bind_counts(&[1], &[b"\0\0\0\x07"], &[1]), "2 D C ZI"),
        (bind_counts(&[], &[], &[]), "E08P01 ZI"),
        (bind_counts(&[], &[b"1", b"2"], &[]), "E08P01 ZI"),
        (bind_counts(&[0, 0], &[b"1"], &[]), "E08P01 ZI"),
        (bind_counts(&[], &[b"1"], &[0, 0]), "E08P01 ZI"),
        (bind_counts(&[5], &[b"1"], &[]), "E22023 ZI"),
        (bind_counts(&[1], &[b"1"], &[]), "E22P03 ZI"),
        (bind_counts(&[], &[b"x"], &[]), "E22P02 ZI"),
        (bind_counts(&[], &[b"99999999999"], &[]), "E22003 ZI"),
        (bind_counts(&[], &[b"\xff"], &[]), "E22021 ZI"),
        (message(b'B', b"\0s\0\0\0\0\x01\x7f\xff\xff\xff1\0\0"), "E08P01 ZI"),
        (message(b'B', b"\0s\0\xff\xff"), "E08P01 ZI"),
        (message(b'B', b"\0s"), "E08P01 ZI"),
        (message(b'P', b"x\0insert\0\xff\xff"), "E08P01 ZI"),
        (message(b'E', b"\0"), "E08P01 ZI"),
    ] {
        raw.send(&[bytes, execute("", 0), sync()].concat()).await;
        assert_eq!(raw.kinds().await, expected);
    }
}

#[tokio::test]
async fn text_that_is_not_utf8_is_refused_and_never_repaired() {
    let server = start().await;
    let mut raw = Raw::ready(&server).await;
    raw.send(&message(b'Q', b"insert \xff\0")).await;
    let all = raw.until_ready().await;
    assert_eq!(kinds(&all), "E22021 ZI");
    assert_eq!(field(&all[0].1, b'M'), "invalid byte sequence for encoding \"UTF8\": 0xff");
    raw.send(&[message(b'P', b"\0insert \xc3\x28\0\0\0"), sync()].concat()).await;
    assert_eq!(raw.kinds().await, "E22021 ZI");
    raw.send(&message(b'Q', b"no terminator")).await;
    assert_eq!(raw.kinds().await, "E08P01 ZI");
    raw.send(&message(b'Q', b"a\0b\0")).await;
    assert_eq!(raw.kinds().await, "E08P01 ZI");
}

#[tokio::test]
async fn malformed_frames_end_the_connection_with_08p01() {
    let server = start().await;
    for bytes in [
        &b"!\0\0\0\x04"[..],
        b"Q\0\0\0\x03",
        b"Q\xff\xff\xff\xff",
        b"Q\x7f\xff\xff\xff",
        b"S\0\0\x80\0",
        b"p\0\0\0\x05x",
    ] {
        let mut raw = Raw::ready(&server).await;
        raw.send(bytes).await;
        let all = raw.rest().await;
        assert_eq!(kinds(&all), "E08P01", "{bytes:?}");
        assert_eq!(field(&all[0].1, b'S'), "FATAL");
    }
}

#[tokio::test]
async fn messages_beyond_the_limit_are_refused_and_the_connection_lives() {
    let server = start_with(Config { max_message: 100_000, ..Config::default() }).await;
    let mut raw = Raw::ready(&server).await;
    let long = "x".repeat(200_000);
    raw.send(&query(&long)).await;
    assert_eq!(raw.kinds().await, "E54000 ZI");
    raw.send(&[parse("", &long), bind("", ""), sync()].concat()).await;
    assert_eq!(raw.kinds().await, "E54000 ZI");
    raw.send(&query("insert")).await;
    assert_eq!(raw.kinds().await, "C ZI");
}

#[tokio::test]
async fn a_slow_reader_holds_up_only_its_own_result() {
    let server = start().await;
    let mut slow = Raw::ready(&server).await;
    // Some four gigabytes, if they were made.
    slow.send(&query("series 100000000")).await;
    for kind in [b'T', b'D', b'D'] {
        assert_eq!(slow.next().await.unwrap().0, kind);
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let made = server.batches.load(Ordering::SeqCst);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(server.batches.load(Ordering::SeqCst), made);
    assert!(made < 1_000, "{made} batches were made");
    let mut other = Raw::ready(&server).await;
    other.send(&query("insert")).await;
    assert_eq!(other.kinds().await, "C ZI");
    // It can still be cancelled.
    let mut cancel = Raw::open(&server).await;
    cancel.send(&startup(80_877_102, &[slow.pid.to_be_bytes(), slow.secret.to_be_bytes()].concat())).await;
    assert!(cancel.rest().await.is_empty());
    assert!(slow.kinds().await.ends_with("D E57014 ZI"));
}

#[tokio::test]
async fn function_calls_are_answered() {
    let server = start().await;
    let mut raw = Raw::ready(&server).await;
    raw.send(&message(b'F', &[0; 10])).await;
    assert_eq!(raw.kinds().await, "E0A000 ZI");
}

#[tokio::test]
async fn deep_pipelines_without_reading_do_not_dead_lock() {
    let server = start().await;
    let mut raw = Raw::ready(&server).await;
    let step = [parse("", "series 50"), bind("", ""), execute("", 0)].concat();
    let all = [step.repeat(3000), sync()].concat();
    tokio::time::timeout(Duration::from_secs(20), raw.send(&all)).await.expect("writing was held up");
    let messages = raw.until_ready().await;
    assert_eq!(messages.iter().filter(|(k, _)| *k == b'D').count(), 150_000);
}

#[tokio::test]
async fn cancel_requests_need_the_right_secret_and_get_no_byte() {
    let server = start().await;
    let mut raw = Raw::ready(&server).await;
    raw.send(&query("sleep")).await;
    let cancel =
        |pid: i32, secret: i32| startup(80_877_102, &[pid.to_be_bytes(), secret.to_be_bytes()].concat());
    let mut wrong = Raw::open(&server).await;
    wrong.send(&cancel(raw.pid, raw.secret ^ 1)).await;
    assert!(wrong.rest().await.is_empty());
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!server.log().contains(&"sleep canceled".to_string()));
    let mut right = Raw::open(&server).await;
    right.send(&cancel(raw.pid, raw.secret)).await;
    assert!(right.rest().await.is_empty());
    assert_eq!(raw.kinds().await, "E57014 ZI");
}

#[tokio::test]
async fn a_vanished_client_ends_its_statement_within_a_second() {
    for text in ["sleep", "hang", "live"] {
        let server = start().await;
        let mut raw = Raw::ready(&server).await;
        // Bytes that were not read yet must not hide the end.
        raw.send(&[query(text), query("insert")].concat()).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        drop(raw);
        server
            .soon(text, |s| {
                s.log().contains(&"sleep canceled".into()) || s.stream_dropped.load(Ordering::SeqCst)
            })
            .await;
    }
}

#[tokio::test]
async fn live_rows_are_sent_as_they_come_also_before_a_sync() {
    let server = start().await;
    let mut raw = Raw::ready(&server).await;
    raw.send(&[parse("", "live"), bind("", ""), execute("", 0)].concat()).await;
    let started = Instant::now();
    for kind in [b'1', b'2', b'D', b'D', b'D'] {
        assert_eq!(raw.next().await.unwrap().0, kind);
    }
    assert!(started.elapsed() < Duration::from_secs(1));
}

#[tokio::test]
async fn copy_in_ignores_sync_and_reports_failures() {
    let server = start().await;
    let mut raw = Raw::ready(&server).await;
    raw.send(&query("copy in")).await;
    let (kind, body) = raw.next().await.unwrap();
    assert_eq!((kind, body.as_slice()), (b'G', &[0, 0, 2, 0, 0, 0, 0][..]));
    raw.send(
        &[message(b'd', b"1\tx\n"), sync(), message(b'H', b""), message(b'd', b"2\ty\n"), message(b'c', b"")]
            .concat(),
    )
    .await;
    assert_eq!(raw.kinds().await, "C ZI");
    raw.send(&[query("copy in"), message(b'd', b"1"), message(b'f', b"no more\0")].concat()).await;
    assert_eq!(raw.kinds().await, "G E57014 ZI");
    assert!(server.log().contains(&"copy failed: COPY from stdin failed: no more".to_string()));
    // The rest of the data of a failed COPY is drained.
    raw.send(
        &[query("copy in"), message(b'd', b"bad"), message(b'd', b"x"), message(b'c', b""), query("insert")]
            .concat(),
    )
    .await;
    assert_eq!(raw.kinds().await, "G E22P04 ZI");
    assert_eq!(raw.kinds().await, "C ZI");
    raw.send(&[query("copy in"), query("insert")].concat()).await;
    assert_eq!(raw.kinds().await, "G E08P01 ZI");
}

#[tokio::test]
async fn copy_out_frames_its_rows() {
    let server = start().await;
    let mut raw = Raw::ready(&server).await;
    raw.send(&query("copy out")).await;
    assert_eq!(raw.kinds().await, "H d d d d d d d d d d d d c C ZI");
}

#[tokio::test]
async fn a_shutdown_tells_idle_sessions_and_ends_running_statements() {
    let server = start().await;
    let mut idle = Raw::ready(&server).await;
    let mut busy = Raw::ready(&server).await;
    busy.send(&query("live")).await;
    busy.next().await;
    server.shutdown.cancel();
    assert_eq!(kinds(&idle.rest().await), "E57P01");
    let rest = busy.rest().await;
    assert!(kinds(&rest).ends_with("E57P01"), "{}", kinds(&rest));
}

#[tokio::test]
async fn random_bytes_after_startup_never_hang_the_server() {
    let server = start().await;
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..200 {
        let mut raw = Raw::ready(&server).await;
        let mut bytes = Vec::new();
        for _ in 0..40 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            bytes.push((seed >> 33) as u8);
        }
        let kind = b"QPBDECHSFdcf"[usize::from(bytes[0]) % 12];
        let _ =
            raw.stream.write_all(&[message(kind, &bytes[1..]), sync(), message(b'X', b"")].concat()).await;
        raw.rest().await;
    }
    let mut raw = Raw::ready(&server).await;
    raw.send(&query("insert")).await;
    assert_eq!(raw.kinds().await, "C ZI");
}
