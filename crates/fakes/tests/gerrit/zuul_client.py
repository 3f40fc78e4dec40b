"""Talks to a Gerrit as Zuul 2 does: one connection for the event stream, one for commands, all through paramiko.

These are Zuul's calls, not its code: of the package `zuul` the Gerrit driver alone cannot be loaded without ZooKeeper,
Kafka, three clouds and some hundred other packages, and Zuul 2 is of Python 2.
"""

import json
import sys
import urllib.request

import paramiko

host, port, user, key, change_id, web = sys.argv[1:]


def connect():
    client = paramiko.SSHClient()
    client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
    client.connect(host, int(port), user, key_filename=key, allow_agent=False, look_for_keys=False, timeout=30)
    return client


def run(client, command):
    stdin, stdout, stderr = client.exec_command(command, timeout=30)
    out = stdout.read().decode()
    return stdout.channel.recv_exit_status(), out, stderr.read().decode()


def rows(client, query):
    status, out, err = run(client, "gerrit query --format json --commit-message --current-patch-set " + query)
    assert status == 0, err
    lines = [json.loads(line) for line in out.splitlines()]
    return lines[:-1], lines[-1]


streaming, commands = connect(), connect()
_, events, _ = streaming.exec_command("gerrit stream-events", timeout=30)

found, stats = rows(commands, '"change:%s"' % change_id)
assert stats["type"] == "stats" and stats["rowCount"] == 1, stats
pages, start = 0, 0
while True:
    page, stats = rows(commands, "-S %d 'project:demo status:open'" % start)
    pages, start = pages + 1, start + len(page)
    if not stats.get("moreChanges"):
        break

urllib.request.urlopen(web + "/fake/streams?at_least=1", timeout=30).read()
name = "%s,%s" % (found[0]["number"], found[0]["currentPatchSet"]["number"])
status, _, err = run(commands, 'gerrit review --project demo --message "Starting check jobs." --verified 1 ' + name)
assert status == 0, err
event = json.loads(events.readline())
status, _, err = run(commands, "gerrit review --project demo --submit " + name)
print(json.dumps({"found": found[0], "pages": pages, "event": event, "refused": status != 0}))
