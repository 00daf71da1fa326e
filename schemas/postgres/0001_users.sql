-- SPDX-License-Identifier: Apache-2.0
-- The contract's table, where there is none. One that is there is used as it is: nothing of it is changed or renamed.
DO $$
BEGIN
  IF to_regclass('public.users') IS NULL THEN
    CREATE SEQUENCE IF NOT EXISTS public.user_id_seq;
    CREATE TABLE public.users (
      id integer NOT NULL DEFAULT nextval('public.user_id_seq'::regclass) PRIMARY KEY,
      email character varying(255),
      first_name character varying(255),
      last_name character varying(255),
      password character varying(60),
      user_active integer DEFAULT 0,
      created_at timestamp without time zone,
      updated_at timestamp without time zone
    );
  END IF;
END
$$;
