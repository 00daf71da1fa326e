# SPDX-License-Identifier: Apache-2.0
"""Servers and loads of a benchmark: started on free ports, stopped at the end of their block."""
import json, os, re, signal, socket, statistics, subprocess, sys, time, urllib.request

LUA = """
wrk.method = "POST"
wrk.body = [[%s]]
wrk.headers["Content-Type"] = "application/json"
%s
function done(summary, latency)
  io.write(string.format("RESULT %%d %%f %%f %%d\\n", summary.requests, latency:percentile(50), latency:percentile(99),
    summary.errors.status + summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout))
end
"""


def log_body(ack="stored", **more):
    return json.dumps({"action": "log", "ack": ack, **more, "log": {"name": "event", "data": "x" * 100}})


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Server:
    """A process with a URL, stopped at the end of the block."""

    def __init__(self, command, env=None, ready=None):
        self.start = time.monotonic()
        self.process = subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL if ready is None else subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.DEVNULL, text=True)
        if ready:
            for line in self.process.stdout:
                if match := re.search(ready, line):
                    self.url = match.group(1)
                    break
            else:
                sys.exit(f"{' '.join(map(str, command))} did not start")
            self.ready_ms = (time.monotonic() - self.start) * 1000

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.stdin:
            self.process.stdin.close()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(20)

    def cpu_seconds(self):
        """CPU time that it and its workers have used so far."""
        with open(f"/proc/{self.process.pid}/task/{self.process.pid}/children") as children:
            pids = [self.process.pid, *children.read().split()]
        ticks = 0
        for pid in pids:
            with open(f"/proc/{pid}/stat") as stat:
                fields = stat.read().rsplit(")", 1)[1].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")


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


def wrk(folder, url, path, body, connections, seconds, pause_ms=0):
    """Closed loop: requests/s, p50 and p99 in ms. Any error ends the benchmark: a refusal is quick, and no result.

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


def table(head, rows):
    """A Markdown table whose source can be read, too: the first column to the left, figures to the right."""
    rows = [[cell if isinstance(cell, str) else figure(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    line = lambda cells: "| " + " | ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(cells, widths))) + " |"
    rule = "|" + "|".join("-" * (w + 2) if i == 0 else "-" * (w + 1) + ":" for i, w in enumerate(widths)) + "|"
    print("\n".join([line(head), rule, *map(line, rows)]) + "\n", flush=True)


def figure(value):
    return f"{value:,.0f}" if value >= 1000 else f"{value:.2f}"
