"""Consumes messages with fedora-messaging itself: each one as a line of JSON [topic, id, body, headers] on stdout.

The queue is durable: what comes while nobody consumes waits in it. The first line is "ready".
"""
import json
import sys

import pika
from fedora_messaging import api, config

queue, binding = sys.argv[1:3]
config.conf.load_config()
connection = pika.BlockingConnection(pika.URLParameters(config.conf["amqp_url"]))
channel = connection.channel()
channel.queue_declare(queue, durable=True)
channel.queue_bind(queue, "amq.topic", binding)
connection.close()
print(json.dumps("ready"), flush=True)


def heard(message):
    headers = {key: str(value) for key, value in message._headers.items()}
    print(json.dumps([message.topic, message.id, message.body, headers]), flush=True)


config.conf["queues"] = {queue: {"durable": True, "auto_delete": False, "exclusive": False, "arguments": {}}}
api.consume(
    heard,
    bindings=[{"exchange": "amq.topic", "queue": queue, "routing_keys": [binding]}],
    queues=config.conf["queues"],
)
