"""What an application does with psycopg 3: typed values both ways, transactions, COPY, server-side cursors, errors,
a live subscription. Argument: a connection string. Ends with an exception at the first surprise."""

import datetime
import decimal
import sys
import threading
import uuid

import psycopg

url = sys.argv[1]

with psycopg.connect(url, autocommit=True) as db:
    db.execute(
        "CREATE TABLE t (id int PRIMARY KEY, s text, n numeric(12,3), d date, ts timestamptz, f float8, b bool,"
        " u uuid, y bytea, i interval, j jsonb)"
    )
    db.execute("CREATE MATERIALIZED VIEW v AS SELECT b, count(*) AS n, sum(n) AS total FROM t GROUP BY b")
    now = datetime.datetime(2024, 2, 29, 12, 30, 15, 123456, tzinfo=datetime.timezone.utc)
    row = (
        1, "x'y", decimal.Decimal("12345678.125"), datetime.date(1999, 12, 31), now, 0.1, True,
        uuid.UUID("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"), b"\x00\xff", datetime.timedelta(days=2, seconds=3.5), None,
    )
    marks = ", ".join(["%s"] * len(row))
    db.execute(f"INSERT INTO t VALUES ({marks})", row)
    db.execute(f"INSERT INTO t VALUES ({marks})", (2,) + (None,) * 10, prepare=True)
    for binary in (False, True):
        with db.cursor(binary=binary) as cur:
            got = cur.execute("SELECT * FROM t WHERE id = %s", (1,)).fetchone()
            assert got == row, f"binary={binary}: {got}"
            assert cur.execute("SELECT * FROM t WHERE id = %s", (2,)).fetchone() == (2,) + (None,) * 10
    names = [c.name for c in db.execute("SELECT id, n AS number FROM t").description]
    assert names == ["id", "number"], names
    views = set(db.execute("SELECT b, n, total FROM v").fetchall())
    assert views == {(True, 1, decimal.Decimal("12345678.125")), (None, 1, None)}, views

    try:
        with db.transaction():
            db.execute("DELETE FROM t")
            raise RuntimeError
    except RuntimeError:
        pass
    assert db.execute("SELECT count(*) FROM t").fetchone() == (2,)
    with db.transaction():
        db.execute("UPDATE t SET f = f + 1 WHERE id = 1")
        try:
            with db.transaction():
                db.execute("SELECT 1 / 0")
        except psycopg.errors.DivisionByZero:
            pass
    assert db.execute("SELECT f FROM t WHERE id = 1").fetchone() == (1.1,)
    try:
        db.execute("INSERT INTO t (id) VALUES (1)")
        raise AssertionError("a duplicate key was taken")
    except psycopg.errors.UniqueViolation as e:
        assert e.diag.constraint_name == "t_pkey", e.diag.constraint_name

    with db.cursor() as cur:
        with cur.copy("COPY t (id, s) FROM STDIN") as copy:
            for i in range(100, 1100):
                copy.write_row((i, f"row {i}"))
        with cur.copy("COPY (SELECT id FROM t WHERE id >= 100) TO STDOUT") as copy:
            assert sum(1 for _ in copy.rows()) == 1000
        cur.executemany("UPDATE t SET s = %s WHERE id = %s", [(f"new {i}", i) for i in range(100, 150)])
    assert db.execute("SELECT count(*) FROM t WHERE s LIKE 'new%'").fetchone() == (50,)

with psycopg.connect(url) as db:
    with db.cursor(name="c") as cur:
        cur.execute("SELECT id FROM t ORDER BY id")
        assert cur.fetchmany(3) == [(1,), (2,), (100,)]
        assert len(cur.fetchall()) == 999
    with db.pipeline():
        first, second = db.cursor(), db.cursor()
        first.execute("SELECT %s::int", (1,))
        second.execute("SELECT %s::text", ("b",))
        assert (first.fetchone(), second.fetchone()) == ((1,), ("b",))

with psycopg.connect(url, autocommit=True) as db, psycopg.connect(url, autocommit=True) as other:
    def later():
        other.execute("INSERT INTO t (id, b, n) VALUES (5000, false, 7)")

    threading.Timer(0.3, later).start()
    seen = []
    for r in db.cursor().stream("SUBSCRIBE (SELECT count(*) AS n FROM t WHERE b = false)"):
        seen.append(r[1:])
        if len(seen) == 3:
            db.cancel()
            break
    assert seen[0] == (1, 0) and set(seen[1:]) == {(-1, 0), (1, 1)}, seen

print("psycopg", psycopg.__version__, "is content")
