#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Measures FlexiConnect beside nginx and bare SQLite on one machine in one run, and prints ratios.

Every figure is the median of interleaved rounds, because absolute figures drift with the machine. `make bench` runs it.
"""
import argparse, json, os, pathlib, re, shutil, signal, socket, statistics, subprocess, sys, tempfile, threading, time, urllib.request

LUA = """
wrk.method = "POST"
wrk.body = [[%s]]
wrk.headers["Content-Type"] = "application/json"
%s
function response(status) if status >= 300 then bad = (bad or 0) + 1 end end
function done(summary, latency)
  io.write(string.format("RESULT %%d %%f %%f %%d\\n", summary.requests, latency:percentile(50), latency:percentile(99),
    summary.errors.status + summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout))
end
"""
HIT = ""
LOG = json.dumps({"action": "log", "via": "inproc", "ack": "stored", "log": {"name": "event", "data": "x" * 100}})


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Server:
    """A process with a URL, stopped at the end of the block."""

    def __init__(self, command, env=None, ready=None):
        self.start = time.monotonic()
        self.process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        if ready:
            for line in self.process.stdout:
                if match := re.search(ready, line):
                    self.url = match.group(1)
                    break
            else:
                sys.exit(f"{command[0]} did not start")
            self.ready_ms = (time.monotonic() - self.start) * 1000

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(20)


def flexiconnect(binary, data):
    env = {**os.environ, "FLEXI_HTTP_LISTEN": "127.0.0.1:0", "FLEXI_GRPC_LISTEN": "127.0.0.1:0", "FLEXI_RPC_LISTEN": "127.0.0.1:0", "FLEXI_DATA_DIR": str(data)}
    return Server([binary], env, r"ready at (http://\S+)")


def nginx(folder, body):
    port = free_port()
    (folder / "nginx.conf").write_text(
        f"worker_processes {os.cpu_count()};\ndaemon off;\npid {folder}/nginx.pid;\nerror_log /dev/null;\n"
        "events { worker_connections 1024; }\n"
        f"http {{ access_log off; keepalive_requests 1000000000; server {{ listen 127.0.0.1:{port} reuseport;\n"
        f"location / {{ default_type application/json; return 200 '{body}'; }} }} }}\n")
    server = Server(["nginx", "-c", str(folder / "nginx.conf"), "-p", str(folder)])
    server.url = f"http://127.0.0.1:{port}"
    for _ in range(200):
        try:
            urllib.request.urlopen(server.url, data=b"").read()
            return server
        except OSError:
            time.sleep(0.02)
    sys.exit("nginx did not start")


def load(folder, url, path, body, connections, seconds, pause_ms=0):
    """One wrk run: requests/s, p50 and p99 in ms. Any error ends the benchmark: a refusal is quick, and no result.

    With a pause before each request the load generator leaves the cores free, so that p99 is the server's, not the scheduler's.
    """
    script = folder / "load.lua"
    script.write_text(LUA % (body, f"function delay() return {pause_ms} end" if pause_ms else ""))
    out = subprocess.run(["wrk", f"-t{1 if connections < 2 else 2}", f"-c{connections}", f"-d{seconds}s", "-s", str(script), url + path],
                         capture_output=True, text=True, check=True).stdout
    requests, p50, p99, errors = re.search(r"RESULT (\d+) (\S+) (\S+) (\d+)", out).groups()
    if int(errors):
        sys.exit(f"{errors} of {requests} requests to {path} failed")
    length = float(re.search(r"requests in ([\d.]+)s", out).group(1))
    return int(requests) / length, float(p50) / 1000, float(p99) / 1000


def median(rows):
    return [statistics.median(column) for column in zip(*rows)]


def login_load(url, stop):
    body = json.dumps({"action": "auth", "auth": {"email": "admin@example.com", "password": "wrong"}}).encode()
    while not stop.is_set():
        request = urllib.request.Request(url + "/handle", data=body, headers={"Content-Type": "application/json"})
        try:
            urllib.request.urlopen(request, timeout=30).read()
        except urllib.error.HTTPError:
            pass


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--binary", required=True)
    parser.add_argument("--sqlite-bench", required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=4)
    arguments = parser.parse_args()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="flexi-bench-", dir=".")).resolve()
    results = {name: [] for name in ("nginx", "hit", "log64", "log1", "sqlite1", "sqlite64", "hit_calm", "hit_logins")}
    try:
        with flexiconnect(arguments.binary, folder / "data") as ours:
            time.sleep(1)  # idle figures want an idle process
            idle = int(re.search(r"VmRSS:\s+(\d+)", pathlib.Path(f"/proc/{ours.process.pid}/status").read_text()).group(1)) / 1024
            answer = urllib.request.urlopen(urllib.request.Request(ours.url + "/", data=b"", method="POST")).read().decode()
            with nginx(folder, answer) as peer:
                for number in range(arguments.rounds):
                    results["nginx"].append(load(folder, peer.url, "/", HIT, 64, arguments.seconds))
                    # Each in a process of its own: full text is indexed behind the writes, which must not run into the next figure.
                    for name, path, body, connections in (("hit", "/", HIT, 64), ("log64", "/handle", LOG, 64), ("log1", "/handle", LOG, 1)):
                        with flexiconnect(arguments.binary, folder / f"data-{name}-{number}") as fresh:
                            results[name].append(load(folder, fresh.url, path, body, connections, arguments.seconds))
                    for batch in (1, 64):
                        rate = subprocess.check_output([arguments.sqlite_bench, str(folder / f"bare-{number}-{batch}.db"), str(batch), str(arguments.seconds)])
                        results[f"sqlite{batch}"].append((float(rate),))
                # p99 of the constant answer at about 1,800 requests/s, without and with logins that fill the hashing pool
                for name in ("hit_calm", "hit_logins") * arguments.rounds:
                    stop, threads = threading.Event(), []
                    if name == "hit_logins":
                        threads = [threading.Thread(target=login_load, args=(ours.url, stop)) for _ in range(8)]
                    for thread in threads:
                        thread.start()
                    results[name].append(load(folder, ours.url, "/", HIT, 4, arguments.seconds, pause_ms=2))
                    stop.set()
                    for thread in threads:
                        thread.join()
        starts = []
        for _ in range(5):
            with flexiconnect(arguments.binary, folder / "data") as again:
                starts.append(again.ready_ms)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    m = {name: median(rows) for name, rows in results.items()}
    print(f"{arguments.rounds} rounds of {arguments.seconds} s, {os.cpu_count()} cores shared by load and servers, medians\n")
    print(f"{'':44}{'req/s':>10}{'p50 ms':>9}{'p99 ms':>9}")
    for name, title in (("nginx", "nginx, constant of the same size, 64 conn."), ("hit", "(a) POST /, 64 connections"),
                        ("log64", "(b) log stored, 64 connections"), ("log1", "(c) log stored, one at a time"),
                        ("hit_calm", "POST / with pauses"), ("hit_logins", "POST / with pauses while logins queue up")):
        print(f"{title:44}{m[name][0]:10.0f}{m[name][1]:9.2f}{m[name][2]:9.2f}")
    print(f"{'bare SQLite, one insert a commit':44}{m['sqlite1'][0]:10.0f}\n{'bare SQLite, 64 inserts a commit':44}{m['sqlite64'][0]:10.0f}\n")
    for title, value, aim in (("(a) / nginx", m["hit"][0] / m["nginx"][0], ">= 0.9"), ("(b) / (a)", m["log64"][0] / m["hit"][0], ">= 0.4"),
                              ("(b) / bare SQLite, one insert a commit", m["log64"][0] / m["sqlite1"][0], ">= 10"),
                              ("(b) / (c)", m["log64"][0] / m["log1"][0], ""),
                              ("(c) / bare SQLite, one insert a commit", m["log1"][0] / m["sqlite1"][0], ""),
                              ("p99 of POST / during logins / without", m["hit_logins"][2] / m["hit_calm"][2], "<= 3"),
                              ("idle resident memory, MiB", idle, "<= 30"), ("ready after start, ms", statistics.median(starts), "<= 150")):
        print(f"{title:44}{value:10.2f}   {'aim ' + aim if aim else ''}")


if __name__ == "__main__":
    main()
