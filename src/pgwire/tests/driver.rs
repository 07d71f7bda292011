//! What a driver sees.

use std::time::{Duration, Instant};

use futures::{SinkExt, StreamExt, pin_mut};
use tokio_postgres::types::Type;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use super::mock::{Server, start};

async fn connect(server: &Server) -> Client {
    let config = format!("host=127.0.0.1 port={} user=me dbname=db options='-c a=b'", server.addr.port());
    let (client, connection) = tokio_postgres::connect(&config, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

#[tokio::test]
async fn a_query_string_gives_rows_and_tags_in_order() {
    let server = start().await;
    let client = connect(&server).await;
    let messages = client.simple_query("series 11; insert").await.unwrap();
    let rows: Vec<_> = messages
        .iter()
        .filter_map(|m| if let SimpleQueryMessage::Row(r) = m { Some(r) } else { None })
        .collect();
    assert_eq!(rows.len(), 11);
    assert_eq!((rows[3].get(0), rows[3].get(1)), (Some("3"), Some("row 3")));
    assert_eq!(rows[9].get(1), None);
    assert!(server.log().contains(&"a=b".to_string()));
    assert!(server.log().ends_with(&["(", "series 11", "insert", ")"].map(String::from)));
}

#[tokio::test]
async fn prepared_statements_carry_binary_values_both_ways() {
    let server = start().await;
    let client = connect(&server).await;
    let s = client.prepare_typed("param", &[Type::INT8]).await.unwrap();
    assert_eq!(client.query_one(&s, &[&(-5i64)]).await.unwrap().get::<_, i64>(0), -5);
    assert_eq!(client.query_one(&s, &[&None::<i64>]).await.unwrap().get::<_, Option<i64>>(0), None);
    let s = client.prepare("param").await.unwrap();
    assert_eq!(s.params(), [Type::TEXT]);
    assert_eq!(client.query_one(&s, &[&"héé"]).await.unwrap().get::<_, String>(0), "héé");
    let s = client.prepare_typed("param", &[Type::INT4_ARRAY]).await.unwrap();
    assert_eq!(client.query_one(&s, &[&vec![1, 2]]).await.unwrap().get::<_, Vec<i32>>(0), [1, 2]);
    let s = client.prepare("series 3").await.unwrap();
    assert_eq!(s.columns()[0].table_oid(), Some(16384));
    let rows = client.query(&s, &[]).await.unwrap();
    assert_eq!(rows.iter().map(|r| r.get::<_, i32>(0)).collect::<Vec<_>>(), [0, 1, 2]);
}

#[tokio::test]
async fn errors_carry_their_fields_and_leave_the_connection_usable() {
    let server = start().await;
    let client = connect(&server).await;
    let e = client.simple_query("syntax!").await.unwrap_err();
    let e = e.as_db_error().unwrap();
    assert_eq!((e.code().code(), e.severity(), e.hint()), ("42601", "ERROR", Some("No.")));
    assert_eq!(e.position(), Some(&tokio_postgres::error::ErrorPosition::Original(7)));
    for text in ["panic", "fail"] {
        let e = client.execute(text, &[]).await.unwrap_err();
        let code = if text == "panic" { "XX000" } else { "22012" };
        assert_eq!(e.code().unwrap().code(), code);
        let e = client.simple_query(text).await.unwrap_err();
        assert_eq!(e.code().unwrap().code(), code);
    }
    assert_eq!(client.execute("insert", &[]).await.unwrap(), 1);
}

#[tokio::test]
async fn a_running_statement_is_cancelled_and_an_idle_session_is_not() {
    let server = start().await;
    let client = connect(&server).await;
    for text in ["sleep", "hang", "live"] {
        let cancel = client.cancel_token();
        let started = Instant::now();
        let (result, ()) = tokio::join!(client.simple_query(text), async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            cancel.cancel_query(NoTls).await.unwrap();
        });
        assert_eq!(result.unwrap_err().code().unwrap().code(), "57014", "{text}");
        assert!(started.elapsed() < Duration::from_secs(1));
        // Now nothing runs.
        client.cancel_token().cancel_query(NoTls).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert_eq!(client.execute("insert", &[]).await.unwrap(), 1);
    }
}

#[tokio::test]
async fn copy_works_in_both_directions_through_the_extended_protocol() {
    let server = start().await;
    let client = connect(&server).await;
    let sink = client.copy_in("copy in").await.unwrap();
    pin_mut!(sink);
    sink.send(bytes::Bytes::from_static(b"1\ta\n2\tb\n")).await.unwrap();
    assert_eq!(sink.finish().await.unwrap(), 2);
    assert!(server.log().contains(&"1\ta\n2\tb\n".to_string()));
    let out = client.copy_out("copy out").await.unwrap();
    let text: Vec<u8> = out.map(|b| b.unwrap().to_vec()).concat().await;
    let text = String::from_utf8(text).unwrap();
    assert!(text.starts_with("0,row 0\n1,row 1\n"));
    assert_eq!(text.lines().nth(9), Some("9,"));
    // An abandoned COPY fails and keeps nothing.
    {
        let sink = client.copy_in::<_, bytes::Bytes>("copy in").await.unwrap();
        drop(sink);
    }
    assert_eq!(client.execute("insert", &[]).await.unwrap(), 1);
    assert!(server.log().iter().any(|l| l.starts_with("copy failed: COPY from stdin failed:")));
}

#[tokio::test]
async fn portals_give_rows_in_portions_inside_a_transaction() {
    let server = start().await;
    let mut client = connect(&server).await;
    let t = client.transaction().await;
    // tokio-postgres begins with "BEGIN"; the mock takes any word for a command.
    let t = t.unwrap();
    t.batch_execute("begin").await.unwrap();
    let portal = t.bind("series 25", &[]).await.unwrap();
    assert_eq!(t.query_portal(&portal, 10).await.unwrap().len(), 10);
    assert_eq!(t.query_portal(&portal, 10).await.unwrap().len(), 10);
    let last = t.query_portal(&portal, 10).await.unwrap();
    assert_eq!(last.iter().map(|r| r.get::<_, i32>(0)).collect::<Vec<_>>(), [20, 21, 22, 23, 24]);
    assert_eq!(t.query_portal(&portal, 10).await.unwrap().len(), 0);
}

#[tokio::test]
async fn live_rows_arrive_one_by_one() {
    let server = start().await;
    let client = connect(&server).await;
    let rows = client.query_raw("live", Vec::<String>::new()).await.unwrap();
    pin_mut!(rows);
    let started = Instant::now();
    for i in 0..4 {
        assert_eq!(rows.next().await.unwrap().unwrap().get::<_, i32>(0), i);
    }
    assert!(started.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn large_results_arrive_whole() {
    let server = start().await;
    let client = connect(&server).await;
    let rows = client.query("series 200000", &[]).await.unwrap();
    assert_eq!(rows.len(), 200_000);
    assert_eq!(rows[199_998].get::<_, &str>(1), "row 199998");
}
