#!/usr/bin/python3
"""cppcheck of the sources of a build, compared with those of the build before: only new defects count.

Two defects are the same if file, kind and words are, wherever in the file they stand; lines move.
Patches of the source package are not applied.
"""
import collections
import json
import os
import pathlib
import subprocess
import sys
import tarfile
import xml.etree.ElementTree as tree
import zipfile

Defect = collections.namedtuple("Defect", "file id message severity")


def unpack(packages, to):
    """The source package and the archives in it."""
    os.makedirs(to)
    for package in packages:
        contents = subprocess.Popen(["rpm2cpio", package["path"]], stdout=subprocess.PIPE)
        subprocess.run(["cpio", "-idmu", "--quiet", "--no-absolute-filenames"], stdin=contents.stdout, cwd=to, check=True)
    for archive in sorted(pathlib.Path(to).iterdir()):
        if archive.is_file() and tarfile.is_tarfile(archive):
            subprocess.run(["tar", "-xf", archive, "--no-same-owner"], cwd=to, check=True)
        elif zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as opened:
                opened.extractall(to)


def plain(path, top):
    """The path without the folder that has the version in its name."""
    parts = pathlib.PurePath(os.path.relpath(path, top)).parts
    return "/".join(parts[1:] if len(parts) > 1 else parts)


def defects(top, report):
    command = ["cppcheck", "--enable=warning", "--inline-suppr", "--quiet", "--xml", f"--output-file={report}", "-j", "2", top]
    subprocess.run(command, check=True)
    found = collections.Counter()
    places = {}
    for error in tree.parse(report).iter("error"):
        location = error.find("location")
        if location is None or error.get("severity") not in ("error", "warning"):
            continue
        defect = Defect(plain(location.get("file"), top), error.get("id"), error.get("msg"), error.get("severity"))
        found[defect] += 1
        places.setdefault(defect, []).append(location.get("line"))
    return found, places


def main():
    given = json.load(sys.stdin)
    result = {"testcase": given["testcase"], "item": given["item"], "type": given["type"]}
    new_top, old_top = (os.path.join(given["workdir"], name) for name in ("new", "old"))
    unpack(given["packages"], new_top)
    found, places = defects(new_top, os.path.join(given["artifacts"], "cppcheck.xml"))
    before = collections.Counter()
    if given["baseline"]:
        unpack(given["baseline"]["packages"], old_top)
        before, _ = defects(old_top, os.path.join(given["artifacts"], "cppcheck-before.xml"))
    new = found - before
    lines = [f"{defect.file}:{'/'.join(places[defect])}: {defect.severity}: {defect.message} [{defect.id}]" for defect in sorted(new)]
    log = "new-defects.txt"
    pathlib.Path(given["artifacts"], log).write_text("".join(line + "\n" for line in lines))
    print("\n".join(lines) or "no new defects")
    told = f"{sum(new.values())} new, {sum((before - found).values())} mended, {sum(found.values())} in all"
    if not given["baseline"]:
        # With nothing to compare with they may all be old ones.
        outcome, note = "INFO", f"{told}; there is no build to compare with"
    elif any(defect.severity == "error" for defect in new):
        outcome, note = "FAILED", f"{told}: {lines[0]}"
    elif new:
        outcome, note = "NEEDS_INSPECTION", f"{told}: {lines[0]}"
    else:
        outcome, note = "PASSED", told
    results = [{**result, "outcome": outcome, "note": note, "artifact": log}]
    pathlib.Path(given["results"], "static-analysis.yaml").write_text(json.dumps({"results": results}))


main()
