-- Time: what happens in each hour, now and finally.

-- Kept up to date while rows of the hour still come.
CREATE MATERIALIZED VIEW hourly_departures AS
SELECT window_start,
       window_end,
       origin,
       count(*)        AS scheduled,
       count(dep_time) AS departed,
       avg(dep_delay)  AS mean_delay
FROM TUMBLE(flights, time_hour, INTERVAL '1 hour')
GROUP BY window_start, window_end, origin;

-- One final row per hour and airport, once the watermark says that the hour is complete.
CREATE MATERIALIZED VIEW hourly_departures_final AS
SELECT window_start,
       window_end,
       origin,
       count(*)        AS scheduled,
       count(dep_time) AS departed,
       max(dep_delay)  AS worst_delay
FROM TUMBLE(flights, time_hour, INTERVAL '1 hour')
GROUP BY window_start, window_end, origin
EMIT ON WINDOW CLOSE;
