-- SPDX-License-Identifier: Apache-2.0
-- A data folder as the first format of every component left it: 10 logs and a mail in the queue, a dead log, 2 stored logs, a caught mail.
CREATE TABLE schema_versions(component TEXT PRIMARY KEY, version INTEGER NOT NULL);
INSERT INTO schema_versions VALUES('users', 1), ('logs', 1), ('queue', 1), ('mailbox', 1), ('idempotency', 1);
CREATE TABLE users(id INTEGER PRIMARY KEY AUTOINCREMENT, email TEXT NOT NULL UNIQUE, first_name TEXT NOT NULL DEFAULT '', last_name TEXT NOT NULL DEFAULT '', password TEXT NOT NULL, user_active INTEGER NOT NULL DEFAULT 0, created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL);
CREATE INDEX users_by_folded_email ON users(lower(email));
CREATE TABLE log_entries(seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, name TEXT NOT NULL, data TEXT NOT NULL, created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL);
CREATE INDEX log_entries_by_time ON log_entries(created_at);
CREATE VIRTUAL TABLE log_fts USING fts5(name, data, content='log_entries', content_rowid='seq', tokenize='unicode61 remove_diacritics 2');
CREATE TABLE log_index_state(only_row INTEGER PRIMARY KEY CHECK(only_row = 1), indexed_seq INTEGER NOT NULL, indexed_bytes INTEGER NOT NULL);
INSERT INTO log_index_state VALUES(1, 0, 0);
CREATE TABLE idempotency_keys(  action TEXT NOT NULL, id TEXT NOT NULL, digest BLOB NOT NULL, seen_at INTEGER NOT NULL,  PRIMARY KEY(action, id)) WITHOUT ROWID;
CREATE INDEX idempotency_keys_by_age ON idempotency_keys(seen_at);
CREATE TABLE queue_messages(
  seq INTEGER PRIMARY KEY, id TEXT NOT NULL, action TEXT NOT NULL, payload TEXT NOT NULL, accepted_at INTEGER NOT NULL,
  expires_at INTEGER NOT NULL, due_at INTEGER NOT NULL, attempts INTEGER NOT NULL, deliveries INTEGER NOT NULL,
  traceparent TEXT NOT NULL, caller TEXT NOT NULL, id_from_caller INTEGER NOT NULL);
CREATE INDEX queue_due ON queue_messages(due_at) WHERE due_at > 0;
CREATE TABLE queue_ids(seq INTEGER PRIMARY KEY, id TEXT NOT NULL, action TEXT NOT NULL, digest INTEGER NOT NULL, kept_since INTEGER NOT NULL,
  UNIQUE(id, action));
CREATE TABLE queue_dead(
  seq INTEGER PRIMARY KEY, id TEXT NOT NULL, action TEXT NOT NULL, payload TEXT NOT NULL, accepted_at INTEGER NOT NULL,
  attempts INTEGER NOT NULL, traceparent TEXT NOT NULL, caller TEXT NOT NULL, id_from_caller INTEGER NOT NULL,
  reason TEXT NOT NULL, dead_at INTEGER NOT NULL);
CREATE INDEX queue_dead_by_time ON queue_dead(dead_at, seq);
CREATE INDEX queue_dead_by_id ON queue_dead(id);
CREATE TABLE queue_ledger(
  action TEXT PRIMARY KEY, accepted INTEGER NOT NULL, stored INTEGER NOT NULL, dead_lettered INTEGER NOT NULL, discarded INTEGER NOT NULL,
  expired INTEGER NOT NULL, in_flight INTEGER NOT NULL, duplicates INTEGER NOT NULL, redelivered INTEGER NOT NULL, bytes INTEGER NOT NULL);
CREATE TABLE queue_mark(one INTEGER PRIMARY KEY CHECK(one = 1), fetched_to INTEGER NOT NULL);
INSERT INTO queue_mark VALUES(1, 0);
CREATE TABLE mails(
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  id TEXT NOT NULL UNIQUE,
  created_at INTEGER NOT NULL,
  bytes INTEGER NOT NULL,
  digest BLOB NOT NULL,
  sender TEXT NOT NULL,
  recipients TEXT NOT NULL,
  subject TEXT NOT NULL,
  html TEXT NOT NULL,
  plain TEXT NOT NULL,
  mime BLOB NOT NULL);
CREATE INDEX mails_by_time ON mails(created_at, seq);
CREATE TABLE mails_removed(id TEXT PRIMARY KEY, digest BLOB NOT NULL, removed_at INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX mails_removed_by_time ON mails_removed(removed_at);
CREATE TABLE mails_total(bytes INTEGER NOT NULL);
INSERT INTO mails_total VALUES(0);
CREATE TRIGGER mails_added AFTER INSERT ON mails BEGIN
  UPDATE mails_total SET bytes = bytes + new.bytes;
END;
CREATE TRIGGER mails_gone AFTER DELETE ON mails BEGIN
  UPDATE mails_total SET bytes = bytes - old.bytes;
  INSERT OR REPLACE INTO mails_removed VALUES(old.id, old.digest, unixepoch() * 1000000);
END;
INSERT INTO users VALUES(1, 'admin@example.com', 'Admin', 'User', '$2a$12$1zGLuYDDNvATh4RA4avbKuheAMpb1svexSzrQm7up.bnpwQHs0jNe', 1, 1795000000000000, 1795000000000000);
INSERT INTO log_entries VALUES(1, '01930000-0000-7000-8000-000000000001', 'stored', 'stored 0', 1795000000000000, 1795000000000000);
INSERT INTO log_entries VALUES(2, '01930000-0000-7000-8000-000000000002', 'stored', 'stored 1', 1795000000000001, 1795000000000001);
INSERT INTO queue_ids VALUES(1, '01930000-0000-7000-8000-000000000064', 'log', -754386000707774418, 1795000000001000);
INSERT INTO queue_messages VALUES(1, '01930000-0000-7000-8000-000000000064', 'log', '{"name":"queued","data":"queued 0"}', 1795000000001000, 0, 0, 0, 0, '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01', '', 0);
INSERT INTO queue_ids VALUES(2, '01930000-0000-7000-8000-000000000065', 'log', -2302048007267381992, 1795000000001001);
INSERT INTO queue_messages VALUES(2, '01930000-0000-7000-8000-000000000065', 'log', '{"name":"queued","data":"queued 1"}', 1795000000001001, 0, 0, 0, 0, '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01', '', 0);
INSERT INTO queue_ids VALUES(3, '01930000-0000-7000-8000-000000000066', 'log', -2362162872633133563, 1795000000001002);
INSERT INTO queue_messages VALUES(3, '01930000-0000-7000-8000-000000000066', 'log', '{"name":"queued","data":"queued 2"}', 1795000000001002, 0, 0, 0, 0, '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01', '', 0);
INSERT INTO queue_ids VALUES(4, '01930000-0000-7000-8000-000000000067', 'log', 86688258834012553, 1795000000001003);
INSERT INTO queue_messages VALUES(4, '01930000-0000-7000-8000-000000000067', 'log', '{"name":"queued","data":"queued 3"}', 1795000000001003, 0, 0, 0, 0, '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01', '', 0);
INSERT INTO queue_ids VALUES(5, '01930000-0000-7000-8000-000000000068', 'log', -2369005170149659413, 1795000000001004);
INSERT INTO queue_messages VALUES(5, '01930000-0000-7000-8000-000000000068', 'log', '{"name":"queued","data":"queued 4"}', 1795000000001004, 0, 0, 0, 0, '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01', '', 0);
INSERT INTO queue_ids VALUES(6, '01930000-0000-7000-8000-000000000069', 'log', -296944236432559974, 1795000000001005);
INSERT INTO queue_messages VALUES(6, '01930000-0000-7000-8000-000000000069', 'log', '{"name":"queued","data":"queued 5"}', 1795000000001005, 0, 0, 0, 0, '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01', '', 0);
INSERT INTO queue_ids VALUES(7, '01930000-0000-7000-8000-00000000006a', 'log', 7476408988323767650, 1795000000001006);
INSERT INTO queue_messages VALUES(7, '01930000-0000-7000-8000-00000000006a', 'log', '{"name":"queued","data":"queued 6"}', 1795000000001006, 0, 0, 0, 0, '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01', '', 0);
INSERT INTO queue_ids VALUES(8, '01930000-0000-7000-8000-00000000006b', 'log', -9139501905743002248, 1795000000001007);
INSERT INTO queue_messages VALUES(8, '01930000-0000-7000-8000-00000000006b', 'log', '{"name":"queued","data":"queued 7"}', 1795000000001007, 0, 0, 0, 0, '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01', '', 0);
INSERT INTO queue_ids VALUES(9, '01930000-0000-7000-8000-00000000006c', 'log', 1472728980968954440, 1795000000001008);
INSERT INTO queue_messages VALUES(9, '01930000-0000-7000-8000-00000000006c', 'log', '{"name":"queued","data":"queued 8"}', 1795000000001008, 0, 0, 0, 0, '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01', '', 0);
INSERT INTO queue_ids VALUES(10, '01930000-0000-7000-8000-00000000006d', 'log', 791415787024059691, 1795000000001009);
INSERT INTO queue_messages VALUES(10, '01930000-0000-7000-8000-00000000006d', 'log', '{"name":"queued","data":"queued 9"}', 1795000000001009, 0, 0, 0, 0, '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01', '', 0);
INSERT INTO queue_ids VALUES(11, '01930000-0000-7000-8000-00000000006e', 'log', -2265071980797964266, 1795000000001010);
INSERT INTO queue_dead VALUES(11, '01930000-0000-7000-8000-00000000006e', 'log', '{"name":"dead","data":"dead 10"}', 1795000000001010, 10, '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01', '', 0, 'unavailable: the store is down', 1795000060001010);
INSERT INTO queue_ids VALUES(12, '01930000-0000-7000-8000-000000000070', 'mail', -7965394436907965114, 1795000000002000);
INSERT INTO queue_messages VALUES(12, '01930000-0000-7000-8000-000000000070', 'mail', '{"from":"","to":"you@example.com","subject":"queued mail","message":"x"}', 1795000000002000, 0, 0, 0, 0, '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01', '', 0);
-- 90 more had been stored, 5 discarded: what was before the upgrade is not in the ledger that the upgrade begins.
INSERT INTO queue_ledger VALUES('log', 106, 90, 1, 5, 0, 10, 3, 7, 382), ('mail', 1, 0, 0, 0, 0, 1, 0, 0, 72);
INSERT INTO mails(id, created_at, bytes, digest, sender, recipients, subject, html, plain, mime) VALUES('01930000-0000-7000-8000-0000000000c8', 1795000000000000, 30, zeroblob(32), 'noreply@localhost', 'you@example.com', 'caught mail', '<p>caught</p>', 'caught', CAST('Subject: caught mail' AS BLOB));
