# SPDX-License-Identifier: Apache-2.0
"""The package on a machine with a running systemd: installed, started, restarted under load, upgraded, removed. The tests follow one another."""

import json
import re
import subprocess
import time

import booted
import pytest
from deb_package import package  # noqa: F401  a fixture

TOKEN = "/etc/flexiconnect/admin-token"
ASK = ("flexiconnect", "status", "--token-file", TOKEN)

# One new connection every 5 ms, whether the last was answered or not, until told to stop: what a restart would refuse shows.
LOAD = r"""
import concurrent.futures, http.client, json, sys, time
def ask(number):
    try:
        connection = http.client.HTTPConnection("127.0.0.1", 8080, timeout=30)
        connection.request("POST", "/handle", json.dumps({"action": "log", "log": {"name": "load", "data": str(number)}}), {"Content-Type": "application/json"})
        return connection.getresponse().status
    except OSError as error:
        return repr(error)
seconds, answers, began = float(sys.argv[1]), [], time.monotonic()
with concurrent.futures.ThreadPoolExecutor(400) as pool:
    while time.monotonic() < began + seconds:
        answers.append(pool.submit(ask, len(answers)))
        time.sleep(max(0, began + len(answers) * 0.005 - time.monotonic()))
counts = {}
for answer in answers:
    counts[str(answer.result())] = counts.get(str(answer.result()), 0) + 1
print(json.dumps(counts))
"""


@pytest.fixture(scope="module")
def machine(package):
    if why := booted.why_not():
        pytest.skip(why)
    with booted.Machine() as made:
        made.put("/root/flexiconnect.deb", package.file)
        made.put("/root/load.py", LOAD)
        yield made


@pytest.fixture(scope="module")
def installed(machine):
    machine.run("dpkg", "-i", "/root/flexiconnect.deb")
    return machine


def log(machine, data, *more):
    return machine.run("flexiconnect", "send", "log", "name=test", f"data={data}", "--ack", "stored", *more)


def entries(machine):
    token = machine.run("cat", TOKEN).stdout.strip()
    answer = machine.run("curl", "-s", "-H", f"Authorization: Bearer {token}", "http://127.0.0.1:8080/logs?name=test&limit=500").stdout
    return [entry["data"] for entry in json.loads(answer)["data"]]


def restart_under_load(machine, unit, seconds=4):
    load = subprocess.Popen(machine.command("python3", "/root/load.py", str(seconds)), stdout=subprocess.PIPE, text=True)
    time.sleep(1)  # load before, during and after
    machine.run("systemctl", "restart", unit)
    return json.loads(load.communicate(timeout=120)[0])


def test_installing_starts_it_ready_and_at_each_boot(installed):
    assert installed.run("systemctl", "is-active", "flexiconnect").stdout == "active\n"  # Type=notify: it said so
    assert installed.run("systemctl", "is-enabled", "flexiconnect").stdout == "enabled\n"
    assert installed.show("flexiconnect", "StatusText") == "Serving http://127.0.0.1:8080"
    log(installed, "first")
    assert entries(installed) == ["first"]
    assert '"event":"ready"' in installed.journal("-u", "flexiconnect")


def test_the_units_are_valid(installed):
    units = ("flexiconnect.service", "flexiconnect.socket", "flexiconnect@broker.service", "flexiconnect@broker.socket", "flexiconnect@authentication.service")
    assert installed.run("systemd-analyze", "verify", *units).stderr == ""


def test_no_outgoing_connection_takes_a_services_port(installed):
    reserved = installed.run("cat", "/proc/sys/net/ipv4/ip_local_reserved_ports").stdout
    assert reserved == "50001,50082-50084\n"
    installed.run("sh", "-c", "echo 7000 > /proc/sys/net/ipv4/ip_local_reserved_ports")
    installed.run("dpkg-reconfigure", "flexiconnect")
    assert installed.run("cat", "/proc/sys/net/ipv4/ip_local_reserved_ports").stdout == "7000\n", "what an administrator reserved stays"
    installed.run("sh", "-c", f"echo {reserved.strip()} > /proc/sys/net/ipv4/ip_local_reserved_ports")


def test_secrets_are_read_by_root_alone_and_differ(installed):
    listed = installed.run("stat", "-c", "%a %U %n", TOKEN, "/etc/flexiconnect/token-key").stdout.splitlines()
    assert listed == [f"600 root {TOKEN}", "600 root /etc/flexiconnect/token-key"]
    secrets = installed.run("cat", TOKEN, "/etc/flexiconnect/token-key").stdout.split()
    assert len(set(secrets)) == 2 and all(re.fullmatch("[0-9a-f]{64}", secret) for secret in secrets)
    assert not any(secret in installed.journal() for secret in secrets)


def test_another_user_of_the_machine_administers_nothing(installed):
    answer = installed.run("setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "http://127.0.0.1:8080/logs")
    assert answer.stdout in ("401", "403")
    assert installed.run("setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "ls", "/var/lib/flexiconnect", check=False).returncode != 0
    assert "admin@example.com" not in installed.run("flexiconnect", "users", "list", "--data-dir", "/var/lib/flexiconnect").stdout


def test_the_process_is_confined(installed):
    pid = installed.show("flexiconnect", "MainPID")
    status = dict(re.findall(r"^(\w+):\s+(.*)$", installed.run("cat", f"/proc/{pid}/status").stdout, re.M))
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    assert {status[name] for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb")} == {"0" * 16}
    assert status["Uid"].split()[0] == installed.run("id", "-u", "flexiconnect").stdout.strip() != "0"
    # As its own mounts have it: nothing but its state can be written.
    mounts = installed.run("cat", f"/proc/{pid}/mountinfo").stdout
    writable = {line.split()[4] for line in mounts.splitlines() if line.split()[5].split(",")[0] == "rw"}
    assert "/var/lib/flexiconnect" in writable
    assert not writable & {"/", "/etc", "/usr", "/home", "/root", "/var", "/var/lib"}


def test_with_the_sockets_a_restart_refuses_no_connection(installed):
    installed.run("systemctl", "stop", "flexiconnect")
    installed.run("systemctl", "start", "flexiconnect.socket")
    log(installed, "starts it")
    before = installed.show("flexiconnect", "MainPID")
    assert before != "0"
    counts = restart_under_load(installed, "flexiconnect")
    print(f"restart with the sockets: {counts}")
    assert set(counts) == {"202"} and counts["202"] > 200, counts
    assert installed.show("flexiconnect", "MainPID") != before


def test_without_them_it_would(installed):
    installed.run("systemctl", "stop", "flexiconnect.socket", "flexiconnect")
    installed.run("systemctl", "start", "flexiconnect")
    counts = restart_under_load(installed, "flexiconnect", seconds=3)
    assert set(counts) > {"202"}, counts


def test_a_socket_that_nobody_serves_is_named(installed):
    installed.run("mkdir", "-p", "/run/systemd/system/flexiconnect.socket.d")
    installed.put("/run/systemd/system/flexiconnect.socket.d/more.conf", "[Socket]\nListenStream=127.0.0.1:8099\n")
    installed.run("systemctl", "daemon-reload")
    installed.run("systemctl", "stop", "flexiconnect")
    installed.run("systemctl", "start", "flexiconnect.socket")
    assert installed.run("systemctl", "start", "flexiconnect", check=False).returncode != 0
    assert "127.0.0.1:8099 was handed over" in installed.journal("-u", "flexiconnect")
    installed.run("systemctl", "stop", "flexiconnect.socket", "flexiconnect")
    installed.run("rm", "-r", "/run/systemd/system/flexiconnect.socket.d")
    installed.run("systemctl", "daemon-reload")
    installed.run("systemctl", "start", "flexiconnect")


def test_a_wrong_setting_fails_the_start_and_says_which(installed):
    installed.put("/etc/flexiconnect/flexiconnect.env", "FLEXI_HTTP_LISTEN=nowhere:1\n")
    assert installed.run("systemctl", "restart", "flexiconnect", check=False).returncode != 0
    assert "http.listen" in installed.journal("-u", "flexiconnect")
    installed.put("/etc/flexiconnect/flexiconnect.env", "FLEXI_LOG_LEVEL=debug\n")
    installed.run("systemctl", "restart", "flexiconnect")


def test_an_upgrade_keeps_data_settings_and_secrets_and_runs_the_new_version(installed, package, tmp_path):
    token, pid = installed.run("cat", TOKEN).stdout, installed.show("flexiconnect", "MainPID")
    before = entries(installed)
    installed.put("/root/newer.deb", package.newer(tmp_path))
    installed.run("dpkg", "-i", "/root/newer.deb")
    assert installed.show("flexiconnect", "MainPID") not in ("0", pid)
    assert installed.run("cat", TOKEN).stdout == token
    assert installed.run("cat", "/etc/flexiconnect/flexiconnect.env").stdout == "FLEXI_LOG_LEVEL=debug\n"
    assert entries(installed) == before != []
    installed.run("systemctl", "disable", "--now", "flexiconnect")
    installed.run("dpkg", "-i", "/root/newer.deb")
    assert installed.run("systemctl", "is-active", "flexiconnect", check=False).stdout == "inactive\n", "what was disabled stays so"


def test_services_run_each_as_a_user_of_its_own(installed):
    installed.put("/etc/flexiconnect/logger.env", "FLEXI_STORAGE=embedded\n")
    installed.put("/etc/flexiconnect/authentication.env", "DSN='host=127.0.0.1 port=1 user=flexi password=hidden dbname=users'\n")
    units = [f"flexiconnect@{service}" for service in ("logger", "authentication", "front-end", "broker")]
    installed.run("systemctl", "start", *units)  # the authentication's database is away: it serves all the same
    pids = [installed.show(unit, "MainPID") for unit in units]
    users = {re.search(r"^Uid:\s+(\d+)", installed.run("cat", f"/proc/{pid}/status").stdout, re.M).group(1) for pid in pids}
    assert len(users) == 4 and "0" not in users
    logged = log(installed, "through the broker", "--via", "grpc")
    assert "way grpc" in logged.stdout
    assert entries(installed) == ["through the broker"]
    front_end = users_of(installed, "front-end")
    assert installed.run("setpriv", f"--reuid={front_end}", "--clear-groups", "cat", f"/proc/{pids[1]}/environ", check=False).returncode != 0
    assert "hidden" not in installed.journal()
    code = installed.run("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "http://127.0.0.1:8081/").stdout
    assert code == "200"
    installed.run("systemctl", "stop", *units)


def users_of(machine, service):
    return re.search(r"\d+", machine.run("stat", "-L", "-c", "%u", f"/var/lib/flexiconnect-{service}").stdout).group()


def test_removing_keeps_settings_and_data_and_purging_keeps_the_data(installed):
    installed.run("systemctl", "start", "flexiconnect", "flexiconnect@front-end")
    installed.run("dpkg", "-r", "flexiconnect")
    assert installed.run("pgrep", "-x", "flexiconnect", check=False).stdout == ""
    installed.run("test", "-e", TOKEN, "-a", "-e", "/etc/flexiconnect/flexiconnect.toml", "-a", "-e", "/var/lib/flexiconnect/flexiconnect.db")
    said = installed.run("dpkg", "-P", "flexiconnect")
    assert "/var/lib/flexiconnect" in said.stderr + said.stdout
    installed.run("test", "!", "-e", "/etc/flexiconnect")
    installed.run("test", "-e", "/var/lib/flexiconnect/flexiconnect.db")
    left = installed.run("sh", "-c", "find /etc/systemd /lib/systemd/system /usr/bin /var/lib/systemd/deb-systemd-helper-* -name '*flexiconnect*' 2>/dev/null; true").stdout
    assert left == ""
    installed.run("dpkg", "-i", "/root/flexiconnect.deb")
    assert "first" in entries(installed), "what was stored is there again"
