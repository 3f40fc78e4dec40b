#!/usr/bin/python3
"""rpmlint of every build of the item, one result each.

A source package may bring NAME.rpmlintrc: lines addFilter("REGULAR EXPRESSION").
"""
import json
import os
import pathlib
import re
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
ERROR = re.compile(r"^\S+: E: (.*)$", re.M)
SUMMARY = re.compile(r"^ *(\d+ packages .* checked; .*), \d+ badness", re.M)


def filters(packages, work):
    """The rpmlintrc of a build's source package, if it has one."""
    for package in packages:
        if package["kind"] != "source":
            continue
        names = subprocess.run(["rpm", "-qpl", package["path"]], check=True, capture_output=True, text=True).stdout.split()
        for name in names:
            if name.endswith(".rpmlintrc"):
                unpack = subprocess.Popen(["rpm2cpio", package["path"]], stdout=subprocess.PIPE)
                subprocess.run(["cpio", "-idmu", "--quiet", "--no-absolute-filenames", name], stdin=unpack.stdout, cwd=work, check=True)
                return ["--rpmlintrc", os.path.join(work, name)]
    return []


def check(build, packages, given):
    work = os.path.join(given["workdir"], build)
    os.makedirs(work, exist_ok=True)
    command = ["rpmlint", "--config", str(HERE / "distribution.toml"), *filters(packages, work)]
    ended = subprocess.run(command + [package["path"] for package in packages], capture_output=True, text=True)
    log = f"rpmlint-{build}.txt"
    pathlib.Path(given["artifacts"], log).write_text(ended.stdout + ended.stderr)
    errors = ERROR.findall(ended.stdout)
    if ended.returncode not in (0, 64) or bool(errors) != (ended.returncode == 64):
        sys.exit(f"rpmlint ended with {ended.returncode}:\n{ended.stdout}{ended.stderr}")
    summary = SUMMARY.search(ended.stdout)
    note = "; ".join(errors[:3]) if errors else (summary.group(1) if summary else "no errors")
    if len(errors) > 3:
        note += f"; and {len(errors) - 3} more"
    print(f"{build}: {len(errors)} errors")
    return {"testcase": given["testcase"], "item": build, "type": "koji_build", "arch": given["arch"],
            "outcome": "FAILED" if errors else "PASSED", "note": note, "artifact": log}


def main():
    given = json.load(sys.stdin)
    builds = {}
    for package in given["packages"]:
        builds.setdefault(package["build"] or given["item"], []).append(package)
    results = [check(build, packages, given) for build, packages in sorted(builds.items())]
    pathlib.Path(given["results"], "rpmlint.yaml").write_text(json.dumps({"results": results}))


main()
