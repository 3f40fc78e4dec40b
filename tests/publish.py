"""Publishes messages with fedora-messaging itself: lines of JSON [topic, body, id] on stdin, `ok ID` for each confirmed."""
import json
import sys

from fedora_messaging import api, config, exceptions, message

config.conf.load_config()
for line in sys.stdin:
    topic, body, ident = json.loads(line)
    sent = message.Message(topic=topic, body=body)
    if ident:
        sent.id = ident
    while True:
        try:
            api.publish(sent, timeout=60)
            break
        except (exceptions.PublishException, exceptions.ConnectionException) as error:
            print("again", sent.id, error, file=sys.stderr, flush=True)
    print("ok", sent.id, flush=True)
