# SPDX-License-Identifier: Apache-2.0
"""What tests over RabbitMQ share: a foreign client (pika), and instances that know a RabbitMQ."""

import json
import time

import pika
import services
from conftest import all_logs, eventually

FAST = services.QUICK


def settings(url, **more):
    return {"FLEXI_AMQP_URL": url} | FAST | more


class Foreign:
    """Somebody else's AMQP client."""

    def __init__(self, url):
        self.connection = pika.BlockingConnection(pika.URLParameters(url))
        self.channel = self.connection.channel()
        self.channel.confirm_delivery()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.connection.is_open:
            self.connection.close()

    def publish(self, exchange, key, body, **properties):
        body = body if isinstance(body, (bytes, str)) else json.dumps(body)
        self.channel.basic_publish(exchange, key, body, pika.BasicProperties(**properties), mandatory=True)

    def depth(self, queue):
        return self.channel.queue_declare(queue, passive=True).method.message_count

    def get(self, queue, seconds=20):
        """The next message of a queue, taken: (method, properties, body)."""
        return eventually(lambda: next((got for got in [self.channel.basic_get(queue, auto_ack=True)] if got[0]), None), f"a message in {queue}", seconds)

    def all(self, queue):
        """Everything that is in a queue now, taken."""
        got = []
        while True:
            method, properties, body = self.channel.basic_get(queue, auto_ack=True)
            if not method:
                return got
            got.append((method, properties, body))

    def call(self, body, seconds=20, **properties):
        """As a caller of flexi.requests: (properties, envelope)."""
        if not hasattr(self, "answers"):
            self.answers = self.channel.queue_declare("", exclusive=True).method.queue
        correlation = str(time.monotonic_ns())
        self.publish("", "flexi.requests", body, reply_to=self.answers, correlation_id=correlation, **properties)
        _, got, answer = self.get(self.answers, seconds)
        assert got.correlation_id == correlation
        return got, json.loads(answer)


def ready(instance):
    """RabbitMQ is connected and everything is declared."""
    with instance.client() as client:
        eventually(lambda: client.get("/readyz").status_code == 200, "it is ready", 60)
    return instance


def stored(instance, **query):
    """How often each `data` is stored."""
    with instance.client() as client:
        counts = {}
        for entry in all_logs(client, **query):
            counts[entry["data"]] = counts.get(entry["data"], 0) + 1
        return counts
