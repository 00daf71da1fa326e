# SPDX-License-Identifier: Apache-2.0
"""Everything in one process, beside nginx and bare SQLite."""
import json, os, pathlib, re, statistics, subprocess, threading, time, urllib.error, urllib.request

from processes import flexiconnect, log_body, median, nginx, table, wrk

STORED = log_body(via="inproc")


def login_load(url, stop):
    body = json.dumps({"action": "auth", "auth": {"email": "admin@example.com", "password": "wrong"}}).encode()
    while not stop.is_set():
        request = urllib.request.Request(url + "/handle", data=body, headers={"Content-Type": "application/json"})
        try:
            urllib.request.urlopen(request, timeout=30).read()
        except urllib.error.HTTPError:
            pass


def hit_beside_logins(folder, url, seconds, logins):
    """p99 of the constant answer at about 1,800 requests/s; `logins` clients fill the hashing pool."""
    stop = threading.Event()
    threads = [threading.Thread(target=login_load, args=(url, stop)) for _ in range(logins)]
    for thread in threads:
        thread.start()
    try:
        return wrk(folder, url, "/", "", 4, seconds, pause_ms=2)
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def wrk_and_cpu(folder, server, path, body, connections, seconds):
    """As wrk(), and the server's CPU time of a request in µs: what is left to say where the load takes the cores, too."""
    before = server.cpu_seconds()
    rate, p50, p99 = wrk(folder, server.url, path, body, connections, seconds)
    return rate, p50, p99, (server.cpu_seconds() - before) / (rate * seconds) * 1e6


def measure(folder, build, rounds, seconds):
    binary = build / "flexiconnect"
    results = {name: [] for name in ("nginx", "hit", "log64", "log1", "sqlite1", "sqlite64", "hit_calm", "hit_logins")}
    with flexiconnect(binary, folder / "data") as ours:
        time.sleep(1)  # idle figures want an idle process
        idle = int(re.search(r"VmRSS:\s+(\d+)", pathlib.Path(f"/proc/{ours.process.pid}/status").read_text()).group(1)) / 1024
        answer = urllib.request.urlopen(urllib.request.Request(ours.url + "/", data=b"", method="POST")).read().decode()
        with nginx(folder, answer) as peer:
            for number in range(rounds):
                results["nginx"].append(wrk_and_cpu(folder, peer, "/", "", 64, seconds))
                # Each in a process of its own: full text is indexed behind the writes, which must not run into the next figure.
                for name, path, body, connections in (("hit", "/", "", 64), ("log64", "/handle", STORED, 64), ("log1", "/handle", STORED, 1)):
                    with flexiconnect(binary, folder / f"data-{name}-{number}") as fresh:
                        results[name].append(wrk_and_cpu(folder, fresh, path, body, connections, seconds))
                for batch in (1, 64):
                    rate = subprocess.check_output([build / "sqlite_commit_bench", folder / f"bare-{number}-{batch}.db", str(batch), str(seconds)])
                    results[f"sqlite{batch}"].append((float(rate),))
            for _ in range(rounds):
                results["hit_calm"].append(hit_beside_logins(folder, ours.url, seconds, 0))
                results["hit_logins"].append(hit_beside_logins(folder, ours.url, seconds, 8))
    starts = []
    for _ in range(5):
        with flexiconnect(binary, folder / "data") as again:
            starts.append(again.ready_ms)
    report({name: median(rows) for name, rows in results.items()}, idle, statistics.median(starts))


def report(m, idle, start):
    print("### One process, embedded\n")
    titles = (("nginx", "nginx, constant of the same size, 64 connections"), ("hit", "(a) `POST /`, 64 connections"),
              ("log64", "(b) log `stored`, 64 connections"), ("log1", "(c) log `stored`, one at a time"),
              ("hit_calm", "`POST /` with pauses"), ("hit_logins", "`POST /` with pauses while log-ins queue up"))
    rows = [[title, *m[name], *[""] * (4 - len(m[name]))] for name, title in titles]
    rows += [["bare SQLite, one insert a commit", *m["sqlite1"], "", "", ""], ["bare SQLite, 64 inserts a commit", *m["sqlite64"], "", "", ""]]
    table(["", "per second", "p50 ms", "p99 ms", "server's CPU µs"], rows)
    table(["", "measured", "aim"], [
        ["(a) / nginx", m["hit"][0] / m["nginx"][0], "≥ 0.9"],
        ["nginx's CPU time of a request / (a)'s", m["nginx"][3] / m["hit"][3], ""],
        ["(b) / (a)", m["log64"][0] / m["hit"][0], "≥ 0.4"],
        ["(b) / bare SQLite, one insert a commit", m["log64"][0] / m["sqlite1"][0], "≥ 10"],
        ["(b) / (c)", m["log64"][0] / m["log1"][0], ""],
        ["(c) / bare SQLite, one insert a commit", m["log1"][0] / m["sqlite1"][0], ""],
        ["p99 of `POST /` during log-ins / without", m["hit_logins"][2] / m["hit_calm"][2], "≤ 3"],
        ["idle resident memory, MiB", idle, "≤ 30"],
        ["ready after start, ms", start, "≤ 150"]])
