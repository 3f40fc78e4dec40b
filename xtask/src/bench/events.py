"""Publishes COUNT messages from FIRST on to amq.topic with confirms: numbers that the broker has confirmed go to the file, one a line."""
import json
import sys
import time

import pika

url, first, count, path = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
kept = pika.BasicProperties(content_type="application/json", delivery_mode=2)
channel = None
with open(path, "w", encoding="ascii") as confirmed:
    for number in range(first, first + count):
        body = json.dumps({"state": "done", "name": "p", "nvr": f"p-1-{number}", "rule": number % 500, "id": number})
        kept.message_id = f"00000000-0000-4000-8000-{number:012}"
        while True:
            try:
                if channel is None:
                    channel = pika.BlockingConnection(pika.URLParameters(url)).channel()
                    channel.confirm_delivery()
                channel.basic_publish("amq.topic", f"org.bench.build.{number % 500}", body, kept, mandatory=True)
                break
            except (pika.exceptions.AMQPError, OSError):
                channel = None
                time.sleep(0.1)
        confirmed.write(f"{number}\n")
        confirmed.flush()
