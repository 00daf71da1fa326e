-- SPDX-License-Identifier: Apache-2.0
-- The mails that SMTP servers took, and those that somebody is sending: shared by all replicas of the mail service.
CREATE TABLE public.flexi_sent_mails (
  seq bigint GENERATED ALWAYS AS IDENTITY,
  id text PRIMARY KEY,
  digest bytea NOT NULL,
  state smallint NOT NULL, -- 0 claimed until lease_until, 1 sent, 2 given back
  at timestamptz NOT NULL,
  lease_until timestamptz NOT NULL,
  token bigint NOT NULL,
  attempts integer NOT NULL,
  accepted_at timestamptz NOT NULL,
  via text NOT NULL,
  published boolean NOT NULL,
  trace_id bytea NOT NULL,
  hops text NOT NULL,
  sender text NOT NULL,
  recipients text NOT NULL, -- one a line
  subject text NOT NULL
);
CREATE INDEX flexi_sent_mails_by_time ON public.flexi_sent_mails (accepted_at, seq) WHERE state < 2;
CREATE INDEX flexi_sent_mails_by_age ON public.flexi_sent_mails (at);
