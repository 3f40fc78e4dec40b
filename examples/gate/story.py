#!/usr/bin/env python3
"""Three changes at one gate, two of which merge without a conflict and do not work together.

    story.py begin GERRIT.json DIR          the repository; before the gate starts
    story.py GERRIT.json ASSAY DIR          the changes

GERRIT.json is what `assay staging gerrit --ready-file` wrote, ASSAY the program, DIR a folder for clones. The server
is the one of $ASSAY_DATA. Exit code 0: the right changes landed, each with a receipt, and the wrong one did not.
"""
import base64
import json
import os
import pathlib
import subprocess
import sys
import time
import urllib.request

begins = sys.argv[1] == "begin"
gerrit = json.loads(pathlib.Path(sys.argv[2 if begins else 1]).read_text())
assay, work = sys.argv[2], pathlib.Path(sys.argv[3])
clone = work / "tools"

FILES = {
    "run-tests": '#!/bin/sh -e\n# Every tool says hello. A test of a real project takes longer.\nsleep 1\nfor tool in tools/*; do\n  . ./greet.sh; . "$tool"\ndone\n',
    "greet.sh": "greet() { echo \"hello from $1\"; }\n",
    "tools/alpha": "greet alpha\n",
}


def say(text):
    print(f"== {text}", file=sys.stderr, flush=True)


def git(*words, at=clone):
    env = dict(os.environ, GIT_TERMINAL_PROMPT="0", GIT_CONFIG_GLOBAL="/dev/null", GIT_CONFIG_SYSTEM="/dev/null")
    for who in ("AUTHOR", "COMMITTER"):
        env |= {f"GIT_{who}_NAME": "Alice", f"GIT_{who}_EMAIL": "alice@fake.example"}
    done = subprocess.run(["git", *words], cwd=at, env=env, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"git {' '.join(words)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout.strip()


def ask(path, body=None):
    """The Gerrit's REST API as alice, who may approve."""
    request = urllib.request.Request(gerrit["url"].rstrip("/") + "/a" + path)
    request.add_header("Authorization", "Basic " + base64.b64encode(b"alice:alice").decode())
    if body is not None:
        request.data = json.dumps(body).encode()
        request.add_header("Content-Type", "application/json")
    with urllib.request.urlopen(request, timeout=30) as answer:
        text = answer.read().decode()
    return json.loads(text.removeprefix(")]}'\n") or "null")


def write(files):
    for name, text in files.items():
        path = clone / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        if text.startswith("#!"):
            path.chmod(0o755)
    git("add", "--all")


def start():
    """The repository, with a test that passes."""
    url = gerrit["url"].replace("://", "://alice:alice@").rstrip("/") + "/a/tools"
    work.mkdir(parents=True, exist_ok=True)
    git("clone", "--quiet", url, str(clone), at=work)
    write(FILES)
    git("commit", "--quiet", "-m", "Tools that greet")
    git("push", "--quiet", "origin", "HEAD:refs/heads/master")


def upload(subject, number, files):
    """A change on the branch as it is: none of them knows of the others."""
    git("checkout", "--quiet", "--detach", "origin/master")
    write(files)
    git("commit", "--quiet", "-m", f"{subject}\n\nChange-Id: I{number:040x}")
    git("push", "--quiet", "origin", "HEAD:refs/for/master")
    change = ask(f"/changes/?q=change:I{number:040x}")[0]["_number"]
    say(f"change {change}: {subject}")
    return change


def status(change):
    return ask(f"/changes/{change}/detail")


def verified(change):
    votes = status(change)["labels"]["Verified"].get("all", [])
    return max((vote.get("value") or 0 for vote in votes), key=abs, default=0)


def until(what, holds, seconds=120):
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            sys.exit(f"after {seconds} s still waiting for: {what}")
        time.sleep(0.1)


def tell(change):
    for message in status(change).get("messages", []):
        text = message["message"].strip()
        print(f"   {change} | " + text.replace("\n", f"\n   {change} | "), file=sys.stderr)


def verify(trust):
    """A plain clone, checked without the server. A receipt follows its landing by a moment."""
    target = work / "plain"
    command = [assay, "verify", str(target), "master", "--trust", str(trust)]
    git("clone", "--quiet", gerrit["url"].rstrip("/") + "/tools", str(target), at=work)

    def covered():
        git("fetch", "--quiet", "origin", "+refs/assay/*:refs/assay/*", at=target)
        return subprocess.run(command, capture_output=True).returncode == 0

    until("a receipt for every landing", covered, 30)
    return subprocess.run(command).returncode


def main():
    base = git("rev-parse", "HEAD")
    rename = upload("Say hello by its name", 1, {
        "greet.sh": "hello() { echo \"hello from $1\"; }\n",
        "tools/alpha": "hello alpha\n",
    })
    caller = upload("A second tool", 2, {"tools/beta": "greet beta\n"})
    words = upload("Words for readers", 3, {"README": "Tools that greet.\n"})
    changes = [rename, caller, words]

    say("each of them passes its check, for each is right on the branch as it is")
    until("Verified +1 on every change", lambda: all(verified(change) == 1 for change in changes))

    say("all three are approved at once")
    for change in changes:
        ask(f"/changes/{change}/revisions/current/review", {"labels": {"Code-Review": 2, "Workflow": 1}})
    until("the gate's verdicts", lambda: status(rename)["status"] == status(words)["status"] == "MERGED"
          and verified(caller) == -2)
    for change in changes:
        tell(change)

    say("the branch, walked without the server: every commit since the gate began has a receipt")
    key = subprocess.run([assay, "key", "show"], capture_output=True, text=True, check=True).stdout
    trust = work / "trust"
    trust.write_text(f"{key}start tools master {base}\n")
    if status(caller)["status"] != "NEW":
        sys.exit(f"change {caller} landed, although it does not work with {rename}")
    return verify(trust)


if __name__ == "__main__":
    sys.exit(start() if begins else main())
