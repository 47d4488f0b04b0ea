-- Decisions and rewards by the hour, each decision counted once, as it stands now: all rows (which a
-- continuous aggregate may hold ready) less those that were superseded, which are few.
CREATE OR REPLACE VIEW rewards_hourly AS
SELECT hour, game, archetype, domain, policy_version, reward_version, status,
       sum(n)::bigint AS n_decisions,
       sum(immediate) AS immediate,
       sum(long_term) AS long_term,
       sum(total) AS total,
       sum(total) / sum(n) AS mean_total
FROM (
    SELECT hour, game, archetype, domain, policy_version, reward_version, status,
           n_rows AS n, immediate, long_term, total
    FROM experiences_hourly
    UNION ALL
    SELECT date_bin(INTERVAL '1 hour', decision_time, TIMESTAMPTZ '2000-01-01 00:00:00+00'),
           game, archetype, domain, policy_version, reward_version, status,
           -1, -immediate, -long_term, -total
    FROM experiences_superseded
) AS counted
GROUP BY 1, 2, 3, 4, 5, 6, 7
HAVING sum(n) > 0;
