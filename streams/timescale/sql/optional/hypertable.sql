SELECT create_hypertable(
    'experiences', 'decision_time',
    chunk_time_interval => INTERVAL '1 day',
    create_default_indexes => false,
    if_not_exists => true,
    migrate_data => true
);
