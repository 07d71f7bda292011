-- Carriers: how much they fly and how late they are.

CREATE MATERIALIZED VIEW carrier_delays AS
SELECT f.carrier,
       a.name,
       count(*)                                            AS scheduled,
       count(f.dep_time)                                   AS departed,
       avg(f.dep_delay)                                    AS mean_delay,
       max(f.dep_delay)                                    AS worst_delay,
       sum(CASE WHEN f.dep_delay > 15 THEN 1 ELSE 0 END)   AS late
FROM flights f
JOIN airlines a ON a.carrier = f.carrier
GROUP BY f.carrier, a.name;

CREATE MATERIALIZED VIEW cancellations AS
SELECT origin,
       carrier,
       count(*)       AS cancelled,
       min(time_hour) AS first_hour,
       max(time_hour) AS last_hour
FROM flights
WHERE dep_time IS NULL
GROUP BY origin, carrier;

-- Which carrier serves which airport of New York.
CREATE MATERIALIZED VIEW carriers_at_origin AS
SELECT DISTINCT origin, carrier
FROM flights;
