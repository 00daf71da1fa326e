# SPDX-License-Identifier: Apache-2.0
"""PostgreSQL keeps the users: the contract's database as it is, an empty one, and one that is away, slow, cut or refuses."""

import datetime
import json
import re
import threading
import time

import postgresql as postgres
import psycopg2
import pytest
from conftest import EXAMPLE_USER, Instance, envelope, eventually, post_log, run_cli

# What the reference's dump makes: the sequence belongs to nobody, and nothing is unique but the id.
CONTRACT = """
CREATE SEQUENCE public.user_id_seq START WITH 1 INCREMENT BY 1 NO MINVALUE NO MAXVALUE CACHE 1;
CREATE TABLE public.users (
    id integer DEFAULT nextval('public.user_id_seq'::regclass) NOT NULL,
    email character varying(255), first_name character varying(255), last_name character varying(255), password character varying(60),
    user_active integer DEFAULT 0, created_at timestamp without time zone, updated_at timestamp without time zone);
ALTER TABLE ONLY public.users ADD CONSTRAINT users_pkey PRIMARY KEY (id);
INSERT INTO public.users (email, first_name, last_name, password, user_active, created_at, updated_at) VALUES
    ('admin@example.com', 'Admin', 'User', '$2a$12$1zGLuYDDNvATh4RA4avbKuheAMpb1svexSzrQm7up.bnpwQHs0jNe', 1, '2022-03-14 00:00:00', '2022-03-14 00:00:00');
"""
MORE = """
INSERT INTO public.users (email, first_name, last_name, password, user_active) SELECT 'Same@example.com', 'One', 'Same', password, 1 FROM users WHERE id = 1;
INSERT INTO public.users (email, first_name, last_name, password, user_active) SELECT 'same@example.com', 'Two', 'Same', password, 1 FROM users WHERE id = 1;
INSERT INTO public.users (email, first_name, last_name, password, user_active) SELECT 'twin@example.com', 'One', 'Twin', password, 1 FROM users WHERE id = 1;
INSERT INTO public.users (email, first_name, last_name, password, user_active) SELECT 'twin@example.com', 'Two', 'Twin', password, 1 FROM users WHERE id = 1;
INSERT INTO public.users (email) VALUES (NULL), (NULL);
INSERT INTO public.users (user_active) VALUES (NULL);
"""
TABLE = """SELECT (SELECT string_agg(concat_ws(' ', column_name, data_type, character_maximum_length, is_nullable, column_default), ';' ORDER BY ordinal_position)
    FROM information_schema.columns WHERE table_schema = 'public' AND table_name = 'users'),
  (SELECT string_agg(conname || ' ' || pg_get_constraintdef(oid), ';' ORDER BY conname) FROM pg_constraint WHERE conrelid = 'public.users'::regclass),
  (SELECT string_agg(u::text, ';' ORDER BY id) FROM public.users u), (SELECT count(*) FROM pg_trigger WHERE tgrelid = 'public.users'::regclass)"""
OBJECTS = "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'S', 'i', 'v') ORDER BY relname"
INDEX_READY = "SELECT 1 FROM pg_index WHERE indexrelid = to_regclass('public.flexi_users_by_lower_email') AND indisvalid"


def authentication(make_instance, dsn, **more):
    return make_instance(role="authentication", settings={"DSN": dsn, "FLEXI_EXAMPLE_USER": "no"} | more)


def ready(instance, seconds=20):
    with instance.client() as client:
        eventually(lambda: client.get("/readyz").status_code == 200, "ready", seconds)
    return instance


def part(client):
    return client.get("/readyz").json()["parts"]["postgresql"]


def log_in(client, email=EXAMPLE_USER["email"], password=EXAMPLE_USER["password"], **options):
    return client.post("/authenticate", json={"email": email, "password": password}, **options)


def test_the_contracts_database_is_served_as_it_is(pg_database, make_instance):
    pg_database.run(CONTRACT + MORE)
    before = pg_database.run(TABLE)
    instance = ready(authentication(make_instance, pg_database.dsn).start())
    with instance.client() as client:
        for email in ("admin@example.com", "Admin@Example.COM"):
            body = envelope(log_in(client, email), 202)
            assert body["message"] == "Logged in user admin@example.com"
            assert body["data"] == {"id": 1, "email": "admin@example.com", "first_name": "Admin", "last_name": "User", "active": 1,
                                    "created_at": "2022-03-14T00:00:00Z", "updated_at": "2022-03-14T00:00:00Z"} | {
                                        key: body["data"][key] for key in ("created_at", "updated_at")}
            for key in ("created_at", "updated_at"):
                assert datetime.datetime.fromisoformat(body["data"][key]) == datetime.datetime(2022, 3, 14, tzinfo=datetime.timezone.utc)
        assert envelope(log_in(client, "Same@example.com"), 202)["data"]["first_name"] == "One"
        assert envelope(log_in(client, "same@example.com"), 202)["data"]["first_name"] == "Two"
        for nobody in ("SAME@example.com", "twin@example.com", "unknown@example.com"):
            assert envelope(log_in(client, nobody), 401)["message"] == "invalid credentials"
        listed = envelope(client.get("/users"), 200)["data"]
        assert [user["id"] for user in listed if user["email"] == ""] == [6, 7, 8]
    eventually(lambda: pg_database.run(INDEX_READY), "the index is made")
    assert pg_database.run(TABLE) == before
    assert [name for (name,) in pg_database.run(OBJECTS)] == ["flexi_migrations", "flexi_migrations_pkey", "flexi_users_by_lower_email", "user_id_seq", "users", "users_pkey"]
    assert not instance.data_dir.exists(), "nothing is embedded"
    said = [json.loads(line) for line in instance.log().splitlines() if "share an e-mail" in line]
    assert len(said) == 1 and said[0]["emails_of_several_accounts"] == 1 and said[0]["emails_that_differ_by_case_only"] == 1
    assert "twin@" not in instance.log()


def test_what_is_written_is_as_the_contract_has_it(pg_database, make_instance):
    pg_database.run(CONTRACT)
    settings = {"DSN": pg_database.dsn}
    added = run_cli("users", "add", "ada@example.com", "--first-name", "Ada", "--last-name", "Lovelace", stdin="a long secret\n", settings=settings)
    assert added.returncode == 0, added.stderr
    assert "Lovelace" in run_cli("users", "list", settings=settings).stdout
    [(number, password, active, created, updated)] = pg_database.run("SELECT id, password, user_active, created_at, updated_at FROM users WHERE email = 'ada@example.com'")
    assert number == 2 and active == 1 and re.fullmatch(r"\$2b\$12\$.{53}", password) and created == updated
    assert abs(datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None) - created) < datetime.timedelta(minutes=2)
    twice = run_cli("users", "add", "ada@example.com", stdin="a long secret\n", settings=settings)
    assert twice.returncode != 0 and "exists already" in twice.stderr
    with ready(authentication(make_instance, pg_database.dsn).start()).client() as client:
        envelope(log_in(client, "ADA@example.com", "a long secret"), 202)
        assert run_cli("users", "disable", "ada@example.com", settings=settings).returncode == 0
        envelope(log_in(client, "ada@example.com", "a long secret"), 401)
        # What others write is served, too.
        pg_database.run("UPDATE users SET email = 'moved@example.com', user_active = 1 WHERE id = 2")
        envelope(log_in(client, "moved@example.com", "a long secret"), 202)
    assert pg_database.run("SELECT user_active, first_name FROM users WHERE id = 1") == [(1, "Admin")]


def test_two_processes_may_start_at_once_on_an_empty_database(pg_database, make_instance):
    both = [authentication(make_instance, pg_database.dsn, FLEXI_EXAMPLE_USER="yes") for _ in range(2)]
    threads = [threading.Thread(target=instance.start) for instance in both]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for instance in both:
        with ready(instance).client() as client:
            eventually(lambda: log_in(client).status_code == 202, "the example user is there")
    assert pg_database.run("SELECT id, email, first_name, last_name, user_active FROM users") == [(1, "admin@example.com", "Admin", "User", 1)]
    assert pg_database.run("SELECT component, version FROM flexi_migrations WHERE component = 'users'") == [("users", 1)]
    eventually(lambda: pg_database.run(INDEX_READY), "the index is made")


def test_a_url_with_tls_serves_the_whole_process(pg_database, postgresql, make_instance):
    url = f"postgresql://postgres:{postgres.PASSWORD}@localhost:{postgresql.port}/{pg_database.name}?sslmode=verify-full&sslrootcert={postgresql.tls('ca.pem')}&timezone=UTC"
    instance = ready(make_instance(settings={"FLEXI_POSTGRES_DSN": url, "FLEXI_EXAMPLE_USER": "yes"}).start())
    with instance.client() as client:
        eventually(lambda: log_in(client).status_code == 202, "the example user is there")
        envelope(client.post("/handle", json={"action": "auth", "auth": EXAMPLE_USER}), 202)
        envelope(post_log(client, "n", "embedded beside it"), 202)
    assert pg_database.run("SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = 'flexiconnect' AND datname = %s",
                           pg_database.name) == [(True,)]
    assert postgres.PASSWORD not in instance.log()
    printed = run_cli("print-config", settings={"DSN": url})
    assert printed.returncode == 0 and postgres.PASSWORD not in printed.stdout


def test_starts_before_its_database_and_recovers(own_postgresql, make_instance):
    own_postgresql.stop()
    instance = authentication(make_instance, own_postgresql.dsn_of("postgres"), FLEXI_EXAMPLE_USER="yes").start()
    with instance.client() as client:
        eventually(lambda: part(client) == "the database can't be reached", "says what is missing")
        assert client.get("/readyz").status_code == 503 and client.get("/healthz").status_code == 200
        refused = log_in(client)
        assert envelope(refused, 503)["message"] == "the database can't be reached"
        assert int(refused.headers["retry-after"]) >= 1
        own_postgresql.start()
        eventually(lambda: part(client) == "ok", "recovers without a restart")
        eventually(lambda: log_in(client).status_code == 202, "the example user was made then")


class Load:
    """Reads users until it is stopped; what was answered, and how long the slowest took."""

    def __init__(self, instance, clients=4):
        self.instance, self.statuses, self.slowest, self.stopping = instance, {}, 0, threading.Event()
        self.threads = [threading.Thread(target=self.run) for _ in range(clients)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        for thread in self.threads:
            thread.join()

    def run(self):
        with self.instance.client() as client:
            while not self.stopping.is_set():
                start = time.monotonic()
                status = client.get("/users", headers={"X-Flexi-Timeout-Ms": "1000"}).status_code
                self.slowest = max(self.slowest, time.monotonic() - start)
                self.statuses[status] = self.statuses.get(status, 0) + 1

    def wait_for(self, status, more=20):
        wanted = self.statuses.get(status, 0) + more
        eventually(lambda: self.statuses.get(status, 0) >= wanted, f"{more} more answers {status}")


@pytest.mark.parametrize("outage", ["stop", "kill", "freeze"])
def test_an_outage_under_load_is_said_and_survived(own_postgresql, make_instance, outage):
    own_postgresql.run("postgres", CONTRACT)
    instance = ready(authentication(make_instance, own_postgresql.dsn_of("postgres"), FLEXI_POSTGRES_CONNECT_TIMEOUT="500ms").start())
    with Load(instance) as load:
        load.wait_for(200)
        getattr(own_postgresql, outage)()
        load.wait_for(504 if outage == "freeze" else 503, more=4)
        assert instance.running()
        getattr(own_postgresql, "thaw" if outage == "freeze" else "start")()
        load.wait_for(200)
    assert set(load.statuses) <= {200, 503, 504}, load.statuses
    assert load.slowest < 3, "nobody waited for longer than the deadline"
    ready(instance)


def test_connections_cut_in_mid_statement_are_503_and_made_again(pg_database, make_instance):
    pg_database.run(CONTRACT)
    instance = ready(authentication(make_instance, pg_database.dsn).start())
    holder = psycopg2.connect(pg_database.dsn)
    with instance.client() as client, holder:
        holder.cursor().execute("LOCK TABLE users IN ACCESS EXCLUSIVE MODE")
        answers = []
        readers = [threading.Thread(target=lambda: answers.append(instance.client().get("/users"))) for _ in range(3)]
        for reader in readers:
            reader.start()
        eventually(lambda: pg_database.run("SELECT 1 FROM pg_locks WHERE NOT granted AND relation = 'users'::regclass"), "they wait for the lock")
        pg_database.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'flexiconnect' AND datname = current_database()")
        # Those whose statement had not left yet wait for the lock over a new connection.
        eventually(lambda: len(answers) > 0, "an answer")
        assert {answer.status_code for answer in answers} == {503}
        holder.rollback()
        for reader in readers:
            reader.join()
        assert {answer.status_code for answer in answers} <= {200, 503}
        envelope(client.get("/users"), 200)
    holder.close()


def test_a_slow_server_costs_the_deadline_and_nothing_else(pg_database, make_instance):
    pg_database.run(CONTRACT)
    instance = ready(make_instance(settings={"DSN": pg_database.dsn}).start())
    holder = psycopg2.connect(pg_database.dsn)
    with instance.client() as client:
        with holder:
            holder.cursor().execute("LOCK TABLE users IN ACCESS EXCLUSIVE MODE")
            for _ in range(3):
                start = time.monotonic()
                late = log_in(client, headers={"X-Flexi-Timeout-Ms": "500"})
                assert envelope(late, 504) and time.monotonic() - start < 2
                envelope(post_log(client, "n", "meanwhile", via="inproc"), 202)
        assert envelope(log_in(client), 202), "at once"
    holder.close()


def test_a_wrong_password_is_said_in_words_and_mended_without_a_restart(pg_database, make_instance):
    pg_database.run(CONTRACT)
    role = pg_database.name + "_role"
    pg_database.run(f"CREATE ROLE {role} LOGIN SUPERUSER PASSWORD 'another'")
    try:
        instance = authentication(make_instance, pg_database.dsn_with(user=role, password="hidden-secret")).start()
        with instance.client() as client:
            eventually(lambda: part(client).startswith("the database refuses the login"), "says why")
            assert envelope(log_in(client), 503)["message"].startswith("the database refuses the login")
            pg_database.run(f"ALTER ROLE {role} PASSWORD 'hidden-secret'")
            eventually(lambda: part(client) == "ok", "mended")
            envelope(log_in(client), 202)
        assert "hidden-secret" not in instance.log() and "28P01" in instance.log()
        instance.terminate()
    finally:
        pg_database.run(f"DROP OWNED BY {role} CASCADE; DROP ROLE {role}")


def test_too_many_connections_are_said_and_survived(pg_database, make_instance):
    pg_database.run(CONTRACT)
    role = pg_database.name + "_role"
    pg_database.run(f"CREATE ROLE {role} LOGIN CONNECTION LIMIT 0 PASSWORD 'p'; GRANT ALL ON SCHEMA public TO {role}; ALTER TABLE users OWNER TO {role}")
    try:
        instance = authentication(make_instance, pg_database.dsn_with(user=role, password="p")).start()
        with instance.client() as client:
            eventually(lambda: part(client) == "the database has too many connections", "says why")
            envelope(log_in(client), 503)
            pg_database.run(f"ALTER ROLE {role} CONNECTION LIMIT -1")
            eventually(lambda: part(client) == "ok", "mended")
            envelope(log_in(client), 202)
        instance.terminate()
    finally:
        pg_database.run(f"DROP OWNED BY {role} CASCADE; DROP ROLE {role}")


def test_a_full_pool_is_429_and_heals(pg_database, make_instance):
    pg_database.run(CONTRACT)
    instance = ready(authentication(make_instance, pg_database.dsn, FLEXI_POSTGRES_QUEUE_LIMIT="2").start())
    holder = psycopg2.connect(pg_database.dsn)
    with instance.client() as client:
        with holder:
            holder.cursor().execute("LOCK TABLE users IN ACCESS EXCLUSIVE MODE")
            answers = []

            def read():
                while (answer := instance.client().get("/users")).status_code == 429:
                    pass  # the one below was in its place
                answers.append(answer)

            readers = [threading.Thread(target=read) for _ in range(2)]
            for reader in readers:
                reader.start()
            eventually(lambda: client.get("/users", headers={"X-Flexi-Timeout-Ms": "100"}).status_code == 429, "one more is refused")
        for reader in readers:
            reader.join()
        assert [answer.status_code for answer in answers] == [200, 200]
        envelope(client.get("/users"), 200)
    holder.close()


def test_a_service_alone_wants_its_database_or_to_be_told(tmp_path):
    refused = run_cli("authentication", settings={"FLEXI_HTTP_LISTEN": "127.0.0.1:0"}, cwd=tmp_path)
    assert refused.returncode != 0 and "postgres.dsn" in refused.stderr
    wrong = run_cli("check-config", settings={"DSN": "host=postgres pasword=hidden"}, cwd=tmp_path)
    assert wrong.returncode != 0 and "postgres.dsn" in wrong.stderr and "hidden" not in wrong.stderr + wrong.stdout
