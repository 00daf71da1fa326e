# SPDX-License-Identifier: Apache-2.0
"""Look-ups of users by e-mail in PostgreSQL, beside pgbench with the same statement, prepared."""
import pathlib, re, subprocess, sys

from processes import median, table

sys.path.append(str(pathlib.Path(__file__).parent.parent / "tests/support"))
import postgresql  # noqa: E402

ACCOUNTS = 100_000
FLIGHTS = (1, 16, 64, 256)
STATEMENT = """\\set n random(1, %d)
SELECT id, email, first_name, last_name, password, user_active, created_at, updated_at FROM public.users
WHERE lower(email) = lower('User' || :n || '@example.com') ORDER BY (email = 'User' || :n || '@example.com') DESC, id LIMIT 2;
""" % ACCOUNTS


def ours(build, server, in_flight, seconds):
    return float(subprocess.check_output([build / "postgres_lookups", server.dsn_of("postgres"), str(ACCOUNTS), str(in_flight), str(seconds)]))


def make_tables(build, server):
    subprocess.check_call([build / "postgres_lookups", server.dsn_of("postgres"), "1", "1", "0"])


def pgbench(folder, server, clients, seconds):
    script = folder / "lookup.sql"
    script.write_text(STATEMENT)
    out = subprocess.run([postgresql.programs() / "pgbench", "-n", "-M", "prepared", "-f", script, "-c", str(clients), "-j", str(min(2, clients)), "-T", str(seconds),
                          server.dsn_of("postgres")], capture_output=True, text=True, check=True).stdout
    return float(re.search(r"tps = ([\d.]+)", out).group(1))


def measure(folder, build, rounds, seconds):
    if reason := postgresql.why_not():
        print(f"PostgreSQL was not measured: {reason}")
        return
    results = {(who, n): [] for who in ("ours", "pgbench") for n in FLIGHTS}
    with postgresql.Server(durable=True) as server:
        make_tables(build, server)
        server.run("postgres", "INSERT INTO users(email, first_name, last_name, password, user_active, created_at, updated_at) SELECT 'user' || n || '@example.com', 'First', "
                   f"'Last', '$2a$12$1zGLuYDDNvATh4RA4avbKuheAMpb1svexSzrQm7up.bnpwQHs0jNe', 1, now(), now() FROM generate_series(1, {ACCOUNTS}) n")
        server.run("postgres", "VACUUM ANALYZE users")
        for _ in range(rounds):
            for n in FLIGHTS:
                results["ours", n].append((ours(build, server, n, seconds),))
                results["pgbench", n].append((pgbench(folder, server, min(n, 64), seconds),))
    figures = {key: median(rows)[0] for key, rows in results.items()}
    best = max(figures["pgbench", n] for n in FLIGHTS)
    print("### PostgreSQL\n")
    table(["look-ups by e-mail in flight", "store, per second", "pgbench, per second"], [[str(n), figures["ours", n], figures["pgbench", n]] for n in FLIGHTS])
    table(["", "measured", "aim"], [["store, 256 in flight / pgbench's best", figures["ours", 256] / best, "≥ 0.7"]])
