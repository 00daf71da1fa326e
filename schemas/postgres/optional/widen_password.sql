-- SPDX-License-Identifier: Apache-2.0
-- Makes room for Argon2id in the contract's table: its hashes have about 100 characters, bcrypt's 60.
-- Run it once, then set authentication.wide_password_column = true and authentication.passwords.algorithm = "argon2id":
--   psql "$DSN" -f schemas/postgres/optional/widen_password.sql
-- PostgreSQL changes no row for it. Safe to run twice. Readers of the table that take a varchar(60) only must be told first.
ALTER TABLE public.users ALTER COLUMN password TYPE varchar(255);
