# SPDX-License-Identifier: Apache-2.0
"""Mails by SMTP over kept connections beside a new one each, and CSS inlining."""
import statistics, subprocess

from processes import table


def measure(_folder, build, rounds, seconds):
    def figures(*arguments):
        return statistics.median(float(subprocess.check_output([build / "mail_bench", *arguments, str(seconds)])) for _ in range(rounds))

    smtp = {(how, count): [] for count in (1, 4) for how in ("kept", "new")}
    for _ in range(rounds):  # one after the other in each round: the machine drifts
        for (how, count), rows in smtp.items():
            rows.append(float(subprocess.check_output([build / "mail_bench", "smtp", how, str(count), str(seconds)])))
    rate = {key: statistics.median(rows) for key, rows in smtp.items()}
    print("### Mails\n")
    table(["SMTP to a server on this machine that keeps nothing, 4 KiB a mail", "mails/s"],
          [[f"{'kept connections' if how == 'kept' else 'a new session and connection for each mail'}, {count} at once", value] for (how, count), value in rate.items()])
    table(["", "measured", "aim"], [["kept / new connections, one at a time", rate["kept", 1] / rate["new", 1], "≥ 3"],
                                    ["kept / new connections, 4 at once", rate["kept", 4] / rate["new", 4], "≥ 3"]])
    table(["CSS inlined", "µs a document"], [["the default template", figures("css", "default")], ["a newsletter: 28 rules, 207 elements", figures("css", "newsletter")]])
