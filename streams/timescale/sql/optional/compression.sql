ALTER TABLE experiences SET (
    timescaledb.compress,
    timescaledb.compress_segmentby = 'game, archetype',
    timescaledb.compress_orderby = 'decision_time, decision_id, revision'
);
SELECT add_compression_policy('experiences', INTERVAL '7 days', if_not_exists => true);
