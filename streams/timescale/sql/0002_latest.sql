-- Each decision as it stands now: its newest revision.
CREATE VIEW decisions_latest AS
SELECT e.*
FROM experiences e
WHERE NOT EXISTS (
    SELECT 1
    FROM experiences newer
    WHERE newer.decision_id = e.decision_id
      AND newer.decision_time = e.decision_time
      AND newer.revision > e.revision
      AND newer.revision > 0
);

-- Rows that a later revision has replaced.
CREATE VIEW experiences_superseded AS
SELECT old.*
FROM experiences newer
JOIN experiences old
  ON old.decision_id = newer.decision_id
 AND old.decision_time = newer.decision_time
 AND old.revision = newer.revision - 1
WHERE newer.revision > 0;
