-- What an SQLite file of duly holds. A shard (one queue of one namespace) is a number; times are epoch milliseconds of
-- the machine's clock. STRICT is taken away where SQLite is older than 3.37.
-- All of it is run where a table is missing: on a new file, and on one that an older duly of this format has made.

CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;

-- One row per shard: its switches, the gap guard, the counts (so that `sizes` counts nothing), the token.
CREATE TABLE IF NOT EXISTS shards (
  shard INTEGER PRIMARY KEY,
  namespace TEXT NOT NULL,
  queue TEXT NOT NULL,
  fence INTEGER NOT NULL DEFAULT 0,
  turn INTEGER NOT NULL DEFAULT 0,
  seen INTEGER NOT NULL DEFAULT 0,
  hold INTEGER NOT NULL DEFAULT 0,
  held_at INTEGER NOT NULL DEFAULT 0,
  timer_node TEXT,
  timer_at INTEGER NOT NULL DEFAULT 0,
  paused INTEGER NOT NULL DEFAULT 0,
  cap INTEGER,
  token INTEGER NOT NULL DEFAULT 0,
  pending INTEGER NOT NULL DEFAULT 0,
  leased INTEGER NOT NULL DEFAULT 0,
  dead INTEGER NOT NULL DEFAULT 0,
  schedules INTEGER NOT NULL DEFAULT 0,
  UNIQUE (namespace, queue)
) STRICT;

-- Since when a shard is paused.
CREATE TABLE IF NOT EXISTS pauses (shard INTEGER PRIMARY KEY, since INTEGER NOT NULL) STRICT;

-- All of a job in one row. state: 0 pending, 1 leased, 2 dead; at: due time, lease end, time of death.
CREATE TABLE IF NOT EXISTS jobs (
  shard INTEGER NOT NULL,
  id TEXT NOT NULL,
  state INTEGER NOT NULL DEFAULT 0,
  at INTEGER NOT NULL,
  priority INTEGER NOT NULL,
  named INTEGER NOT NULL,
  enqueued_at INTEGER NOT NULL,
  uniq TEXT,
  attempts INTEGER NOT NULL DEFAULT 0,
  crashes INTEGER NOT NULL DEFAULT 0,
  unfit_since INTEGER NOT NULL DEFAULT 0,
  fence INTEGER NOT NULL DEFAULT 0,
  node TEXT NOT NULL DEFAULT '',
  started INTEGER NOT NULL DEFAULT 0,
  cancel INTEGER NOT NULL DEFAULT 0,
  reason TEXT NOT NULL DEFAULT '',
  error TEXT NOT NULL DEFAULT '',
  trace TEXT NOT NULL DEFAULT '',
  progress BLOB,
  body BLOB NOT NULL,
  PRIMARY KEY (shard, id)
) STRICT;
CREATE INDEX IF NOT EXISTS jobs_pending ON jobs (shard, priority, at, id) WHERE state = 0;
CREATE INDEX IF NOT EXISTS jobs_leased ON jobs (shard, at, id) WHERE state = 1;
CREATE INDEX IF NOT EXISTS jobs_dead ON jobs (shard, at, id) WHERE state = 2;

-- Ids given by users, known for a time after their end.
CREATE TABLE IF NOT EXISTS ended (
  shard INTEGER NOT NULL, id TEXT NOT NULL, until INTEGER NOT NULL, PRIMARY KEY (shard, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS ended_until ON ended (shard, until);

-- scope: end, start or time; until counts for time alone.
CREATE TABLE IF NOT EXISTS unique_keys (
  shard INTEGER NOT NULL, key TEXT NOT NULL, id TEXT NOT NULL, scope TEXT NOT NULL, until INTEGER NOT NULL,
  PRIMARY KEY (shard, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS unique_until ON unique_keys (shard, until) WHERE scope = 'time';

CREATE TABLE IF NOT EXISTS results (
  shard INTEGER NOT NULL, id TEXT NOT NULL, until INTEGER NOT NULL, value BLOB NOT NULL, PRIMARY KEY (shard, id)
) STRICT;
CREATE INDEX IF NOT EXISTS results_until ON results (shard, until);

-- The last call of each caller (kind: enqueue, claim, settle), so that a repeat is answered as before.
CREATE TABLE IF NOT EXISTS calls (
  shard INTEGER NOT NULL, kind TEXT NOT NULL, caller TEXT NOT NULL, n INTEGER NOT NULL, at INTEGER NOT NULL,
  fence INTEGER NOT NULL, answer BLOB,
  PRIMARY KEY (shard, kind, caller)
) STRICT;

-- next 0: not planned yet, NULL: no more; look NULL: never; live and skipped are packed.
CREATE TABLE IF NOT EXISTS schedules (
  shard INTEGER NOT NULL, id TEXT NOT NULL, definition BLOB NOT NULL, revision INTEGER NOT NULL, mark INTEGER NOT NULL,
  anchor INTEGER NOT NULL, next INTEGER, app TEXT NOT NULL, buffer INTEGER NOT NULL, paused TEXT,
  live BLOB NOT NULL, fired INTEGER NOT NULL, skipped BLOB NOT NULL, last INTEGER NOT NULL, late INTEGER NOT NULL,
  ended INTEGER NOT NULL, outcome TEXT NOT NULL, failures INTEGER NOT NULL, look INTEGER,
  PRIMARY KEY (shard, id)
) STRICT;
CREATE INDEX IF NOT EXISTS schedules_look ON schedules (shard, look, id) WHERE look IS NOT NULL;

-- The history and the tick log, bounded; an entry's id is "ms-n".
CREATE TABLE IF NOT EXISTS entries (
  shard INTEGER NOT NULL, stream TEXT NOT NULL, seq INTEGER NOT NULL, ms INTEGER NOT NULL, n INTEGER NOT NULL,
  fields BLOB NOT NULL,
  PRIMARY KEY (shard, stream, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS nodes (
  namespace TEXT NOT NULL, node TEXT NOT NULL, record BLOB NOT NULL, until INTEGER NOT NULL,
  PRIMARY KEY (namespace, node)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS queues (
  namespace TEXT NOT NULL, queue TEXT NOT NULL, PRIMARY KEY (namespace, queue)
) STRICT, WITHOUT ROWID;

-- What was counted of runs: by minute since the epoch and by task, packed.
CREATE TABLE IF NOT EXISTS measures (
  namespace TEXT NOT NULL, minute INTEGER NOT NULL, task TEXT NOT NULL, counts BLOB NOT NULL,
  PRIMARY KEY (namespace, minute, task)
) STRICT, WITHOUT ROWID;

-- The last fence of each lock, which outlives its holders; owner: of a file that has no lock_places yet.
CREATE TABLE IF NOT EXISTS locks (
  namespace TEXT NOT NULL, name TEXT NOT NULL, owner TEXT NOT NULL, fence INTEGER NOT NULL, until INTEGER NOT NULL,
  PRIMARY KEY (namespace, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS locks_until ON locks (namespace, until);

-- Who holds a lock (ticket 0), and who waits for it, in the order of their tickets.
CREATE TABLE IF NOT EXISTS lock_places (
  namespace TEXT NOT NULL, name TEXT NOT NULL, owner TEXT NOT NULL, ticket INTEGER NOT NULL, fence INTEGER NOT NULL,
  until INTEGER NOT NULL,
  PRIMARY KEY (namespace, name, owner)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS lock_places_until ON lock_places (namespace, until);
INSERT OR IGNORE INTO lock_places SELECT namespace, name, owner, 0, fence, until FROM locks WHERE owner <> '';
