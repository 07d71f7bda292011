-- Where the data come from: dimensions from files, flights from whoever writes to the table.
-- Paths are relative to the directory in which the server runs.

CREATE SOURCE airlines (
  carrier TEXT NOT NULL,
  name    TEXT NOT NULL
) WITH (connector = 'file', path = 'sql/pipelines/flights/data/airlines.csv.gz')
FORMAT PLAIN ENCODE CSV (header = true, null = 'NA');

CREATE SOURCE airports (
  faa   TEXT NOT NULL,
  name  TEXT NOT NULL,
  lat   DOUBLE PRECISION,
  lon   DOUBLE PRECISION,
  alt   INT,
  tzone TEXT
) WITH (connector = 'file', path = 'sql/pipelines/flights/data/airports.csv.gz')
FORMAT PLAIN ENCODE CSV (header = true, null = 'NA');

CREATE SOURCE planes (
  tailnum      TEXT NOT NULL,
  year         INT,
  manufacturer TEXT,
  model        TEXT,
  seats        INT
) WITH (connector = 'file', path = 'sql/pipelines/flights/data/planes.csv.gz')
FORMAT PLAIN ENCODE CSV (header = true, null = 'NA');

-- One row per scheduled flight. A cancelled one has no dep_time. Rows come up to 18 hours out of order,
-- because the cancelled flights of a day stand at its end.
CREATE TABLE flights (
  time_hour      TIMESTAMPTZ NOT NULL,
  carrier        TEXT NOT NULL,
  flight         INT NOT NULL,
  tailnum        TEXT,
  origin         TEXT NOT NULL,
  dest           TEXT NOT NULL,
  sched_dep_time INT NOT NULL,
  dep_time       INT,
  dep_delay      INT,
  sched_arr_time INT NOT NULL,
  arr_time       INT,
  arr_delay      INT,
  air_time       INT,
  distance       INT NOT NULL,
  WATERMARK FOR time_hour AS time_hour - INTERVAL '1 day'
) APPEND ONLY;
