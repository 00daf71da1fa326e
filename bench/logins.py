# SPDX-License-Identifier: Apache-2.0
"""Log-ins beside bare bcrypt on as many threads, and what other requests wait meanwhile."""
import json, os, subprocess, threading

from processes import flexiconnect, median, table, wrk

LOGIN = json.dumps({"email": "admin@example.com", "password": "verysecret"})
LEAST_SECONDS = 15  # a check takes a fifth of a second: fewer would be a handful


def measure(folder, build, rounds, seconds):
    seconds = max(seconds, LEAST_SECONDS)
    threads = max(2, os.cpu_count()) - 1  # what the program takes by itself: a core is left to other requests
    results = {"bare": [], "logins": [], "calm": [], "beside": []}
    with flexiconnect(build / "flexiconnect", folder / "data-logins") as ours:
        for _ in range(rounds):
            results["bare"].append((float(subprocess.check_output([build / "bcrypt_bench", str(threads), str(seconds)])),))
            results["logins"].append(wrk(folder, ours.url, "/authenticate", LOGIN, 4, seconds))
            results["calm"].append(wrk(folder, ours.url, "/", "", 4, 4, pause_ms=2))
            beside = threading.Thread(target=subprocess.run, args=(["wrk", "-t1", "-c4", "-d6s", "-s", str(login_script(folder)), ours.url + "/authenticate"],),
                                      kwargs={"capture_output": True})
            beside.start()
            results["beside"].append(wrk(folder, ours.url, "/", "", 4, 4, pause_ms=2))
            beside.join()
    m = {name: median(rows) for name, rows in results.items()}
    print("### Log-ins\n")
    table([f"passwords checked at once: {threads}, bcrypt cost 12", "per second", "p50 ms", "p99 ms"],
          [["bare crypt(3)", *m["bare"], "", ""], ["`POST /authenticate`, 4 connections", *m["logins"]], ["`POST /` with pauses", *m["calm"]],
           ["`POST /` with pauses, beside the log-ins", *m["beside"]]])
    table(["", "measured", "aim"], [["log-ins / bare crypt(3)", m["logins"][0] / m["bare"][0], "≥ 0.95"],
                                    ["p99 of `POST /` beside log-ins / without", m["beside"][2] / m["calm"][2], "≤ 3"]])


def login_script(folder):
    script = folder / "login.lua"
    script.write_text(f"wrk.method = 'POST'\nwrk.body = [[{LOGIN}]]\nwrk.headers['Content-Type'] = 'application/json'\n")
    return script
