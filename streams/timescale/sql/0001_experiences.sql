-- Settled experience, one row a revision. The key holds the time, as unique keys of hypertables must.
CREATE TABLE experiences (
    decision_id       text NOT NULL,
    revision          bigint NOT NULL,
    origin_partition  bigint NOT NULL,
    origin_offset     bigint NOT NULL,
    origin_index      bigint NOT NULL,
    game              text NOT NULL,
    world             text NOT NULL,
    episode           text NOT NULL,
    actor_id          text NOT NULL,
    archetype         text NOT NULL,
    domain            text NOT NULL,
    opponent_id       text,
    step              bigint NOT NULL,
    decision_time     timestamptz NOT NULL,
    settled_time      timestamptz NOT NULL,
    observation       bytea NOT NULL,
    legal             bytea,
    action            bigint NOT NULL,
    propensity        double precision NOT NULL,
    probabilities     bytea,
    policy_version    text NOT NULL,
    explored          boolean NOT NULL,
    next_observation  bytea,
    next_legal        bytea,
    terminated        boolean NOT NULL,
    truncated         boolean NOT NULL,
    success           boolean,
    facts             jsonb,
    outcome_facts     jsonb,
    outcome_time      timestamptz,
    signals           jsonb,
    outcome_details   jsonb,
    next_facts        jsonb,
    player_id         text,
    related           jsonb,
    game_time         double precision,
    action_type       text,
    details           jsonb,
    continuous        bytea,
    confidence        double precision,
    arm               text,
    language_prompt_type  text,
    language_variant_id   text,
    language_prompt       text,
    language_response     text,
    language_reasoning    text,
    standing_before   double precision,
    standing_after    double precision,
    credit            double precision,
    retaliation       double precision,
    immediate         double precision NOT NULL,
    long_term         double precision NOT NULL,
    total             double precision NOT NULL,
    reward_version    text NOT NULL,
    status            text NOT NULL,
    language_used     boolean NOT NULL,
    exact             bytea,
    PRIMARY KEY (decision_id, revision, decision_time)
);

COMMENT ON TABLE experiences IS
    'One row for each decision, and one for each later revision of it; see docs/storage.md';
COMMENT ON COLUMN experiences.exact IS
    'The row''s own bytes, where a column cannot hold a value of it (a NUL in text, say)';

CREATE INDEX experiences_by_archetype ON experiences (game, archetype, decision_time DESC);
CREATE INDEX experiences_by_player ON experiences (player_id, decision_time DESC)
    WHERE player_id IS NOT NULL;
-- Few rows are revisions: what is superseded is found through this small index
CREATE INDEX experiences_revised ON experiences (decision_id, decision_time, revision)
    WHERE revision > 0;

-- How far each partition is stored; written in the transaction that writes its rows.
CREATE TABLE sink_offsets (
    topic             text NOT NULL,
    partition         bigint NOT NULL,
    next_offset       bigint NOT NULL DEFAULT 0,
    last_offset       bigint,
    last_index        bigint,
    watermark         timestamptz,
    n_rows            bigint NOT NULL DEFAULT 0,
    updated_at        timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (topic, partition)
);
COMMENT ON COLUMN sink_offsets.last_offset IS
    'With last_index the origin of the last row: one that does not rise came twice';

-- What this database can do beyond plain SQL, and why not where it cannot.
CREATE TABLE capabilities (
    name              text PRIMARY KEY,
    state             text NOT NULL CHECK (state IN ('on', 'plain', 'off')),
    reason            text NOT NULL DEFAULT '',
    server            text NOT NULL,
    tried_at          timestamptz NOT NULL DEFAULT now()
);
