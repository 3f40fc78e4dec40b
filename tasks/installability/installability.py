#!/usr/bin/python3
"""Installs, upgrades and removes each package in a system of its own, below a folder.

For each package: install it with what it needs; if there is a build before, install that first and upgrade; remove it.
A step fails if dnf refuses, or if a scriptlet does. Files may belong to users that there are not in the namespace of
this task: fakeroot takes care of that.
"""
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

# What rpm says of scriptlets, also where the transaction goes on.
SCRIPTLET = re.compile(r"^.*(?:scriptlet failed|%(?:pre|post|preun|postun|pretrans|posttrans|trigger\w+)\(.*\) .*failed|Error in .* scriptlet).*$", re.M | re.I)


def query(path, what):
    return subprocess.run(["rpm", "-qp", "--qf", what, path], check=True, capture_output=True, text=True).stdout


def repository(given, name, packages):
    """A repository of these packages."""
    path = os.path.join(given["workdir"], name)
    os.makedirs(path)
    for package in packages:
        os.link(package["path"], os.path.join(path, os.path.basename(package["path"])))
    subprocess.run(["createrepo_c", "--quiet", path], check=True)
    return f"file://{path}"


class System:
    """An empty system below a folder."""

    def __init__(self, given, name, log):
        self.root = os.path.join(given["workdir"], f"root-{name}")
        self.cache = os.path.join(given["workdir"], "cache")
        self.arch = given["arch"]
        self.log = log
        for folder in ("dev", "proc", "tmp", "var/tmp"):
            os.makedirs(os.path.join(self.root, folder))
        # Scriptlets write to it.
        for device in ("null", "zero", "random", "urandom"):
            path = os.path.join(self.root, "dev", device)
            pathlib.Path(path).touch()
            subprocess.run(["mount", "--bind", f"/dev/{device}", path], check=True)
        self.repositories = {entry["name"]: entry["url"] for entry in given["repositories"]}

    def dnf(self, what, *names, **more):
        """Why it did not work; nothing if it did."""
        command = ["fakeroot", "dnf", "--assumeyes", "--noplugins", f"--installroot={self.root}", "--releasever=0", f"--forcearch={self.arch}",
                   "--setopt=reposdir=/nonexistent", f"--setopt=cachedir={self.cache}", "--setopt=install_weak_deps=False", "--nogpgcheck",
                   "--setopt=keepcache=True", "--setopt=tsflags=nodocs"]
        for name, url in {**self.repositories, **more}.items():
            command.append(f"--repofrompath={name},{url}")
        ended = subprocess.run([*command, what, *names], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.log.write(f"$ dnf {what} {' '.join(names)}\n{ended.stdout}exit code {ended.returncode}\n\n")
        scriptlets = SCRIPTLET.findall(ended.stdout)
        if scriptlets:
            return scriptlets[0].strip()
        if "Config error" in ended.stdout:
            sys.exit(ended.stdout)
        if ended.returncode:
            said = [line.strip() for line in ended.stdout.splitlines() if re.search("nothing provides|conflict|error", line, re.I)]
            return "; ".join(dict.fromkeys(said[:3])) or f"dnf ended with {ended.returncode}"
        return None

    def end(self):
        for device in ("null", "zero", "random", "urandom"):
            subprocess.run(["umount", os.path.join(self.root, "dev", device)], check=False)
        shutil.rmtree(self.root, ignore_errors=True)


def check(given, log, package, new, old, before):
    """What goes wrong with one package."""
    name = query(package["path"], "%{NAME}")
    faults = []

    def step(system, word, *arguments, **more):
        why = system.dnf(*arguments, **more)
        print(f"{word} {name}: {why or 'ok'}")
        if why:
            faults.append(f"{word} {name}: {why}")
        return why is None

    system = System(given, f"{name}-install", log)
    if step(system, "install", "install", query(package["path"], "%{NAME}-%{VERSION}-%{RELEASE}.%{ARCH}"), new=new):
        step(system, "remove", "remove", name)
    system.end()
    if name in before:
        system = System(given, f"{name}-upgrade", log)
        # That the build before can be installed is not in question here.
        if system.dnf("install", query(before[name], "%{NAME}-%{VERSION}-%{RELEASE}.%{ARCH}"), old=old) is None:
            step(system, "upgrade", "upgrade", name, new=new)
        system.end()
    return faults


def main():
    given = json.load(sys.stdin)
    packages = [package for package in given["packages"] if package["kind"] == "binary"]
    new = repository(given, "new", packages)
    before, old = {}, None
    if given["baseline"]:
        older = [package for package in given["baseline"]["packages"] if package["kind"] == "binary"]
        before = {query(package["path"], "%{NAME}"): package["path"] for package in older}
        old = repository(given, "old", older)
    log_name = "installability.txt"
    faults, counts = {}, {}
    with open(os.path.join(given["artifacts"], log_name), "w", buffering=1) as log:
        for package in packages:
            build = package["build"] or given["item"]
            counts[build] = counts.get(build, 0) + 1
            faults.setdefault(build, []).extend(check(given, log, package, new, old, before))
    results = []
    for build, found in sorted(faults.items()):
        note = "; ".join(found) or f"{counts[build]} packages installed, {'upgraded, ' if before else ''}and removed"
        results.append({"testcase": given["testcase"], "item": build, "type": "koji_build", "arch": given["arch"],
                        "outcome": "FAILED" if found else "PASSED", "note": note[:2000], "artifact": log_name})
    pathlib.Path(given["results"], "installability.yaml").write_text(json.dumps({"results": results}))


main()
