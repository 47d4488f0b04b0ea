CREATE OR REPLACE VIEW experiences_hourly AS
SELECT date_bin(INTERVAL '1 hour', decision_time, TIMESTAMPTZ '2000-01-01 00:00:00+00') AS hour,
       game, archetype, domain, policy_version, reward_version, status,
       count(*) AS n_rows,
       sum(immediate) AS immediate,
       sum(long_term) AS long_term,
       sum(total) AS total
FROM experiences
GROUP BY 1, 2, 3, 4, 5, 6, 7;
