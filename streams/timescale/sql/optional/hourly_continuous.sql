DROP VIEW IF EXISTS rewards_hourly;
DROP VIEW IF EXISTS experiences_hourly;
CREATE MATERIALIZED VIEW experiences_hourly
WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS
SELECT time_bucket(INTERVAL '1 hour', decision_time) AS hour,
       game, archetype, domain, policy_version, reward_version, status,
       count(*) AS n_rows,
       sum(immediate) AS immediate,
       sum(long_term) AS long_term,
       sum(total) AS total
FROM experiences
GROUP BY 1, 2, 3, 4, 5, 6, 7
WITH NO DATA;
SELECT add_continuous_aggregate_policy(
    'experiences_hourly',
    start_offset => NULL,
    end_offset => INTERVAL '1 hour',
    schedule_interval => INTERVAL '10 minutes',
    if_not_exists => true
);
