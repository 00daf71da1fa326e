-- SPDX-License-Identifier: Apache-2.0
-- What is counted of messages, in the transactions that store them. One book for all processes that use this database.
CREATE TABLE public.flexi_ledger_book (one integer PRIMARY KEY CHECK (one = 1), id text NOT NULL);
INSERT INTO public.flexi_ledger_book VALUES (1, left(md5(random()::text || clock_timestamp()::text), 16));
CREATE TABLE public.flexi_ledger_lines (
  action text NOT NULL,
  way text NOT NULL,
  accepted bigint NOT NULL DEFAULT 0,
  stored bigint NOT NULL DEFAULT 0,
  duplicates bigint NOT NULL DEFAULT 0,
  PRIMARY KEY (action, way)
) WITH (fillfactor = 50);
CREATE TABLE public.flexi_ledger_repeats (
  action text NOT NULL,
  id text NOT NULL,
  count integer NOT NULL,
  via text NOT NULL,
  accepted_at timestamptz NOT NULL,
  last_at timestamptz NOT NULL,
  PRIMARY KEY (action, id)
);
CREATE INDEX flexi_ledger_repeats_by_time ON public.flexi_ledger_repeats (last_at);
