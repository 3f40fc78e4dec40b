"""Zuul's own Gerrit driver and merger (PyPI `zuul`) against a Gerrit: events, queries, votes, comments, submits, git.

Zuul 3.19 is the last whose driver keeps its caches in memory and so loads without ZooKeeper. Not Zuul's are here: a
scheduler that only keeps what it is given, and three modules that the driver's imports name and this run never uses.

Usage: zuul_client.py WAY HOST PORT KEY PASSWORD WEB, where WAY is `ssh`, `http` (REST and git over HTTP, events over SSH)
or `poll` (all over HTTP). The server has a project `demo` with labels as usual, and `fake` switches. Prints one JSON object.
"""

import configparser
import json
import logging
import queue
import re
import sys
import types
import urllib.request

sys.modules["re2"] = re
for unused in ("jsonpath_rw", "pkg_resources"):
    sys.modules[unused] = types.ModuleType(unused)

from zuul import model  # noqa: E402
from zuul.driver.gerrit import GerritDriver, gerritconnection  # noqa: E402
from zuul.merger.merger import Merger  # noqa: E402

logging.basicConfig(level=logging.INFO)
way, host, port, key, password, web = sys.argv[1:]

# Zuul's own tests take these pauses away, too: they give a real, eventually consistent Gerrit time to catch up.
gerritconnection.GerritEventConnector.delay = 0
gerritconnection.GerritPoller.poll_interval = 0.1
gerritconnection.GerritConnection.ref_watcher_poll_interval = 0.1


class Scheduler:
    """Keeps the events; has one tenant that has every project."""

    statsd = None
    config = configparser.ConfigParser()

    def __init__(self):
        self.events, self.kept = queue.Queue(), []
        tenant = types.SimpleNamespace(getProject=lambda name: (True, name))
        self.abide = types.SimpleNamespace(tenants={"all": tenant})

    def addEvent(self, event):
        self.events.put(event)

    def onChangeUpdated(self, change, event):
        pass

    def wait(self, kind, **wanted):
        """The first event of a kind that nobody has waited for yet; in which order they come does not matter."""
        looked_at = 0
        while True:
            if looked_at == len(self.kept):
                self.kept.append(self.events.get(timeout=50))
            event = self.kept[looked_at]
            if event.type == kind and all(getattr(event, name) == value for name, value in wanted.items()):
                return self.kept.pop(looked_at)
            looked_at += 1


def fake(path, **body):
    data = json.dumps(body).encode() if body else None
    request = urllib.request.Request(web + "/fake/" + path, data, {"Content-Type": "application/json"})
    return json.load(urllib.request.urlopen(request, timeout=60))


def upload(subject, path, **more):
    return fake("upload", user="alice", project="demo", subject=subject, files={path: subject + "\n"}, **more)


settings = {"server": host, "port": port, "user": "zuul", "sshkey": key, "baseurl": web}
if way != "ssh":
    settings["password"] = password
if way == "poll":
    settings["stream_events"] = "false"
driver, scheduler = GerritDriver(), Scheduler()
connection = driver.getConnection("gerrit", settings)
source = connection.source
connection.registerScheduler(scheduler)
project = source.getProject("demo")
told = {"branches": sorted(source.getProjectBranches(project, None))}


def story():
    connection.onLoad()
    told["version"] = list(connection.version)

    # Events, and the changes that Zuul reads for them.
    first_made = upload("First", "a.txt")
    if way != "poll":
        fake("streams?at_least=1")
        parent = upload("Parent", "parent.txt")
        event = scheduler.wait("patchset-created", change_number=str(parent["number"]))
        told["event"] = [event.project_name, event.branch, event.ref, event.account["username"]]
    else:
        parent = upload("Parent", "parent.txt")
    footers = ["Depends-On: " + first_made["change_id"], "Depends-On: %s/%d" % (web, first_made["number"])]
    child_made = upload("Child", "child.txt", on=parent["revision"], footers=footers)

    def read(made):
        """What Zuul knows of a change when it asks again."""
        return connection._getChange(made["number"], made["patchset"], refresh=True)

    child, first = read(child_made), read(first_made)
    told["child"] = {
        "project": child.project.name,
        "branch": child.branch,
        "id": child.id == child_made["change_id"],
        "commit": child.commit == child_made["revision"],
        "ref": child.ref,
        "current": child.is_current_patchset,
        "open": child.open,
        "status": child.status,
        "files": sorted(child.files),
        "needs": [str(one.number) for one in child.git_needs_changes],
        "depends": [str(one.number) for one in child.compat_needs_changes],
        "missing": sorted(child.missing_labels),
        "may": source.canMerge(child, []),
    }
    told["needed_by"] = [str(one.number) for one in first.compat_needed_by_changes]
    told["git_needed_by"] = [str(one.number) for one in read(parent).git_needed_by_changes]
    told["depending"] = [str(one.number) for one in source.getChangesDependingOn(first, None, None)]
    told["by_url"] = [
        source.getChangeByURL("%s/%s" % (web, form % first.number)).number for form in ("%s", "#/c/%s", "c/demo/+/%s")
    ]
    # More than a page of them.
    for number in range(6):
        upload("More %d" % number, "more-%d.txt" % number)
    told["open"] = len(source.getProjectOpenChanges(project))

    # Approvals, as requirements and triggers of a pipeline read them.
    fake("review", user="carol", number=first_made["number"], labels={"Code-Review": 2, "Workflow": 1}, message="good")
    if way != "poll":
        event = scheduler.wait("comment-added", change_number=first.number)
        told["approvals"] = sorted((one["type"], one["value"]) for one in event.approvals)
        trigger = driver.getTrigger(connection, None)
        approved = {"event": "comment-added", "approval": [{"Workflow": 1}], "username": "^carol$", "comment": "good"}
        told["triggered"] = [bool(one.matches(event, first)) for one in trigger.getEventFilters(approved)]
    first = read(first_made)
    required = {"open": True, "current-patchset": True, "approval": [{"Code-Review": 2, "username": "carol", "newer-than": "1h"}]}
    told["required"] = [bool(one.matches(change)) for one in source.getRequireFilters(required) for change in (first, child)]
    told["may_after"] = [source.canMerge(first, []), source.canMerge(first, ["Verified"])]

    # Reports.
    tenant = model.Tenant("all")
    tenant.web_root = "https://zuul.example/"
    pipeline = model.Pipeline("gate", tenant)
    pipeline.start_message, pipeline.success_message = "Starting {pipeline.name} jobs.", "Build succeeded (it's \"quoted\" & 100 %)."
    line = model.ChangeQueue(pipeline)

    def report(change, action, comments=None, **config):
        item = line.enqueueChange(change, None)
        item.setReportedResult("SUCCESS")
        item.current_build_set.setConfiguration()
        if comments:
            build = model.Build(model.Job("lint"), "0" * 32)
            build.result_data["zuul"] = {"file_comments": comments}
            item.addBuild(build)
        reporter = driver.getReporter(connection, pipeline, config)
        reporter.setAction(action)
        return reporter.report(item)

    report(first, "start", Verified=1)
    if way != "poll":
        event = scheduler.wait("comment-added", change_number=first.number)
        told["started"] = [event.account["username"], event.comment]
    report(child, "start", {"child.txt": [{"line": 1, "message": "spelling"}], "gone.txt": [{"line": 1, "message": "?"}]})
    refused = False
    try:
        report(child, "success", Verified=2, submit=True)
    except Exception as error:
        refused = str(error)
    told["refused"] = bool(refused)
    told["merged_too_early"] = source.isMerged(child)

    # git: the merger makes what the gate would test, and the change lands.
    connections = types.SimpleNamespace(
        getSource=lambda name: source, connections={"gerrit": connection}, getSources=lambda: [source])
    url = source.getGitUrl(project)
    told["url"] = url
    merger = Merger("work", connections, "zuul@fake.example", "zuul", "1000", "30")
    items = [
        {"connection": "gerrit", "project": "demo", "branch": "master", "ref": change.ref, "url": url, "merge_mode": mode,
         "number": change.number, "patchset": change.patchset, "buildset_uuid": None}
        for change, mode in ((first, model.MERGER_MERGE_RESOLVE), (read(parent), model.MERGER_MERGE), (child, model.MERGER_CHERRY_PICK))
    ]
    merged = merger.mergeChanges(items, ["a.txt", "parent.txt", "child.txt"])
    told["files"] = {name: text for one in merged[1] for name, text in one["files"].items()}

    if way == "poll":
        # It tells what is different from what it has seen.
        connection.ref_watcher_thread._run()
    first = read(first_made)
    report(first, "success", Verified=2, submit=True)
    told["merged"] = source.isMerged(first, "master")
    scheduler.wait("change-merged", change_number=first.number)
    event = scheduler.wait("ref-updated", ref="refs/heads/master") if way == "poll" else None
    told["landed"] = source.getRefSha(project, "refs/heads/master") == first_made["revision"]
    if event:
        told["moved"] = event.newrev == first_made["revision"]


try:
    story()
finally:
    # Its threads would go on.
    connection.onStop()
print(json.dumps(told))
