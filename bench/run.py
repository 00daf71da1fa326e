#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Measures FlexiConnect beside its peers on one machine in one run, and prints ratios. `make bench` runs it.

Every figure is the median of rounds, because absolute figures drift with the machine.
"""
import argparse, os, pathlib, shutil, sys, tempfile

import embedded, logins, logs_mongodb, mails, transports, users

PARTS = {"embedded": embedded.measure, "transports": transports.measure, "rabbitmq": transports.measure_rabbitmq, "logins": logins.measure,
         "postgresql": users.measure, "mongodb": logs_mongodb.measure, "mails": mails.measure}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", type=pathlib.Path, help="the build folder")
    parser.add_argument("parts", nargs="*", default=list(PARTS), help="which of: " + ", ".join(PARTS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=4, help="of each measurement")
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(PARTS):
        sys.exit(f"there is no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    print(f"{arguments.rounds} rounds of {arguments.seconds} s, {os.cpu_count()} cores shared by load and servers, medians\n")
    folder = pathlib.Path(tempfile.mkdtemp(prefix="flexi-bench-", dir=".")).resolve()
    try:
        for part in arguments.parts:
            PARTS[part](folder, arguments.build.resolve(), arguments.rounds, arguments.seconds)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
