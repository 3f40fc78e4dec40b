#!/usr/bin/python3
"""The order of versions over releases, as Koji's tags have them.

Inputs: `releases`, the main tags of all releases, the oldest first ("f43 f44 f45"); `tag`, where the builds go
("f44-updates", or "f45" itself). RELEASE-updates and RELEASE-updates-pending are tags, too.

A build that goes to RELEASE has to be no older than what older releases have, and no newer than what newer releases
have. If only a build that is still pending in the newer release is new enough, both have to be pushed together.
"""
import json
import pathlib
import sys
import xmlrpc.client

import rpm


class Koji:
    def __init__(self, hub):
        self.hub = xmlrpc.client.ServerProxy(hub, allow_none=True)

    def build(self, nvr):
        build = self.hub.getBuild(nvr)
        if build is None:
            sys.exit(f"Koji has no build {nvr}")
        return build

    def latest(self, tags, name):
        """The newest build of a package in one of the tags."""
        builds = []
        for tag in tags:
            try:
                builds += self.hub.getLatestBuilds(tag, None, name)
            except xmlrpc.client.Fault as fault:
                # A release need not have updates that wait; a misspelt one must not pass.
                if not tag.endswith("-pending"):
                    sys.exit(f"Koji refuses {tag}: {fault.faultString}")
        newest = None
        for build in builds:
            if newest is None or rpm.labelCompare(evr(build), evr(newest)) > 0:
                newest = build
        return newest


def evr(build):
    return (str(build.get("epoch") or 0), build["version"], build["release"])


def check(koji, build, tag, releases):
    """What is wrong, and what has to go along with it."""
    name = build.get("package_name") or build["name"]
    release = tag[:-len("-updates")] if tag.endswith("-updates") else tag
    if release not in releases:
        sys.exit(f"{tag} belongs to none of the releases {' '.join(releases)}")
    at = releases.index(release)
    faults, together = [], []
    for older in releases[:at]:
        # An update may not be older than updates; a release has to be no older than what the one before shipped with.
        tags = [older, f"{older}-updates"] if tag != release else [older]
        there = koji.latest(tags, name)
        if there and rpm.labelCompare(evr(there), evr(build)) > 0:
            faults.append(f"{older} has {there['nvr']}, which is newer")
    for newer in releases[at + 1:]:
        tags = [newer, f"{newer}-updates"] if tag != release else [newer]
        there = koji.latest(tags, name)
        if there is None or rpm.labelCompare(evr(there), evr(build)) >= 0:
            continue
        pending = koji.latest([f"{newer}-updates-pending"], name)
        if pending and rpm.labelCompare(evr(pending), evr(build)) >= 0:
            together.append(f"{pending['nvr']} has to be pushed to {newer} together with it")
        else:
            faults.append(f"{newer} has {there['nvr']}, which is older")
    return faults, together


def main():
    given = json.load(sys.stdin)
    inputs = given["inputs"]
    hub = inputs.get("hub") or given["koji"]["hub"]
    releases = inputs.get("releases", "").split()
    tag = inputs.get("tag") or (given["item"] if given["type"] == "koji_tag" else "")
    tag = tag[:-len("-pending")] if tag.endswith("-pending") else tag
    if not hub or not releases or not tag:
        sys.exit("give the inputs releases, tag and hub (or koji-hub in [tasks] of assay.toml)")
    koji = Koji(hub)
    results = []
    for nvr in given["builds"]:
        faults, together = check(koji, koji.build(nvr), tag, releases)
        outcome = "FAILED" if faults else "INFO" if together else "PASSED"
        note = "; ".join(faults + together) or f"in order from {releases[0]} to {releases[-1]}"
        print(f"{nvr} to {tag}: {outcome}: {note}")
        results.append({"testcase": given["testcase"], "item": nvr, "type": "koji_build", "outcome": outcome, "note": note, "tag": tag})
    pathlib.Path(given["results"], "upgradepath.yaml").write_text(json.dumps({"results": results}))


main()
