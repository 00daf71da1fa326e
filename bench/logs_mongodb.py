# SPDX-License-Identifier: Apache-2.0
"""Logs in MongoDB: what the logger stores beside one insert per request, on the same server in the same run."""
import json, os, pathlib, statistics, subprocess, sys, time, urllib.request

from processes import Server, median, table, wrk

sys.path.append(str(pathlib.Path(__file__).parent.parent / "tests/support"))
import mongodb

IN_FLIGHT = 64
BODY = json.dumps({"name": "event", "data": "x" * 100})


def logger(build, folder, url, database, **settings):
    """The logger alone, on a database of its own; ready once MongoDB has been reached."""
    env = {**os.environ, "FLEXI_HTTP_LISTEN": "127.0.0.1:0", "FLEXI_GRPC_LISTEN": "", "FLEXI_RPC_LISTEN": "", "FLEXI_DATA_DIR": str(folder / "none"),
           "FLEXI_MONGO_URI": url, "FLEXI_MONGO_DATABASE": database, **settings}
    server = Server([build / "flexiconnect", "logger"], env, r"ready at (http://\S+)")
    for _ in range(200):
        try:
            urllib.request.urlopen(server.url + "/readyz").read()
            return server
        except OSError:
            time.sleep(0.05)
    sys.exit("the logger did not reach MongoDB")


def bare(build, url, database, threads, seconds, documents=1):
    return float(subprocess.check_output([build / "mongo_insert_bench", url, database, str(threads), str(seconds), str(documents)]))


def measure(folder, build, rounds, seconds):
    if reason := mongodb.why_not():
        print(f"### Logs in MongoDB\n\n{reason}\n")
        return
    results = {name: [] for name in ("bare64", "bare1", "bulk", "log64", "log1")}
    try:
        with mongodb.Server() as server:
            kind = "FerretDB 1.24 with SQLite" if server.is_ferretdb else "mongod"
            # A database of its own for each figure: FerretDB slows down as a collection grows, and so does a real server a little.
            for number in range(rounds):
                results["bulk"].append(bare(build, server.url, f"bulk-{number}", 1, seconds, IN_FLIGHT))
                for name, in_flight in (("64", IN_FLIGHT), ("1", 1)):
                    results["bare" + name].append(bare(build, server.url, f"bare{name}-{number}", in_flight, seconds))
                    with logger(build, folder, server.url, f"log{name}-{number}") as ours:
                        results["log" + name].append(wrk(folder, ours.url, "/log", BODY, in_flight, seconds)[:2])
    except mongodb.Unavailable as why:
        print(f"### Logs in MongoDB\n\n{why}\n")
        return
    log64, log1 = median(results["log64"]), median(results["log1"])
    bulk, bare64, bare1 = statistics.median(results["bulk"]), statistics.median(results["bare64"]), statistics.median(results["bare1"])
    print(f"### Logs in MongoDB ({kind})\n")
    table(["", "per second", "p50 ms"], [
        [f"(a) logger, {IN_FLIGHT} in flight", *log64], ["(b) logger, one at a time", *log1],
        [f"(c) bare libmongoc, one insert per request, {IN_FLIGHT} in flight", bare64, ""], ["(d) bare libmongoc, one insert per request, one at a time", bare1, ""],
        [f"(e) bare libmongoc, {IN_FLIGHT} in each insert: what the server takes", bulk, ""]])
    table(["", "measured", "aim"], [["(a) / (c)", log64[0] / bare64, "≥ 10"], ["(a) / (e)", log64[0] / bulk, ""], ["(a) / (d)", log64[0] / bare1, ""], ["(b) / (d)", log1[0] / bare1, ""]])
