#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A service of your own behind FlexiConnect, with nothing but Python's standard library: counts the words of a text.

    python3 examples/custom-action/words.py --port 9000 --database words.db
    FLEXI_ACTIONS_WORDS_URL=http://127.0.0.1:9000/words flexiconnect
    flexiconnect send words text="to be or not to be"

FlexiConnect queues, retries, falls back and keeps dead letters. What is left to do here: answer 2xx only for what is done, 4xx for what
can never be done, 5xx for what may work later; and remember the ids, because whoever lost an answer asks again.
"""

import argparse
import http.server
import json
import sqlite3
import threading

MAX_BODY_BYTES = 1 << 20


class Words:
    """Counts, kept with the message's id in one transaction: the same message again gets the same answer and changes nothing."""

    def __init__(self, path):
        self.lock = threading.Lock()
        self.database = sqlite3.connect(path, check_same_thread=False)
        self.database.execute("CREATE TABLE IF NOT EXISTS counted(id TEXT PRIMARY KEY, answer TEXT NOT NULL)")

    def count(self, message_id, text):
        """The answer, and whether the message had been counted before."""
        with self.lock, self.database:
            known = self.database.execute("SELECT answer FROM counted WHERE id = ?", (message_id,)).fetchone()
            if known:
                return json.loads(known[0]), True
            answer = {"words": len(text.split()), "characters": len(text)}
            self.database.execute("INSERT INTO counted VALUES(?, ?)", (message_id, json.dumps(answer)))
            return answer, False


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # kept connections: FlexiConnect uses them again
    words: Words

    def do_POST(self):
        size = int(self.headers.get("Content-Length", 0))
        if size > MAX_BODY_BYTES:
            self.close_connection = True
            return self.answer(413, {"error": True, "message": "the text is too long"})
        body = self.rfile.read(size)
        if self.path != "/words":
            return self.answer(404, {"error": True, "message": "there is nothing at this path"})
        try:
            text = json.loads(body)["text"]
            if not isinstance(text, str):
                raise TypeError
        except (ValueError, KeyError, TypeError):
            # 4xx: trying again can't help. From the queue it becomes a dead letter with these words as its reason.
            return self.answer(400, {"error": True, "message": "text is required and must be a string"})
        answer, again = self.words.count(self.headers["X-Flexi-Id"], text)
        self.answer(200, answer, {"X-Flexi-Duplicate": "true"} if again else {})

    def answer(self, status, value, headers=None):
        body = json.dumps(value).encode()
        self.send_response(status)
        for name, text in {"Content-Type": "application/json", "Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def main():
    parser = argparse.ArgumentParser(description="Counts words for FlexiConnect")
    parser.add_argument("--port", type=int, default=9000, help="0 picks a free one")
    parser.add_argument("--database", default="words.db")
    arguments = parser.parse_args()
    Handler.words = Words(arguments.database)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", arguments.port), Handler)
    print(f"listening at http://127.0.0.1:{server.server_port}/words", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
