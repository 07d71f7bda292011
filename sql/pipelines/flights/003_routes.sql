-- Routes and airports. Destinations missing from the list of airports (BQN, PSE, SJU, STT) have no route here.

CREATE MATERIALIZED VIEW busiest_routes AS
SELECT f.origin,
       o.name          AS origin_name,
       f.dest,
       d.name          AS dest_name,
       count(*)        AS flights,
       avg(f.air_time) AS mean_air_time
FROM flights f
JOIN airports o ON o.faa = f.origin
JOIN airports d ON d.faa = f.dest
GROUP BY f.origin, o.name, f.dest, d.name
HAVING count(*) >= 100;

-- Departures and arrivals of every airport, in one count.
CREATE MATERIALIZED VIEW airport_traffic AS
SELECT airport, count(*) AS movements
FROM (
  SELECT origin AS airport FROM flights WHERE dep_time IS NOT NULL
  UNION ALL
  SELECT dest AS airport FROM flights WHERE arr_time IS NOT NULL
) AS movements
GROUP BY airport;

-- Flights that left three hours late or more, with everything a desk wants to know of them.
CREATE MATERIALIZED VIEW worst_delays AS
SELECT f.time_hour,
       a.name       AS airline,
       f.flight,
       f.origin,
       f.dest,
       f.dep_delay,
       f.arr_delay,
       p.model,
       p.seats
FROM flights f
JOIN airlines a ON a.carrier = f.carrier
JOIN planes p ON p.tailnum = f.tailnum
WHERE f.dep_delay >= 180;
