#!/usr/bin/python3
"""abipkgdiff of every package with the one of its name in the build before, with symbols where there are some."""
import json
import pathlib
import subprocess
import sys

# Bits of abipkgdiff's exit code.
ERROR, USAGE, CHANGE, INCOMPATIBLE = 1, 2, 4, 8


def name_and_arch(path):
    query = ["rpm", "-qp", "--qf", "%{NAME} %{ARCH}", path]
    return tuple(subprocess.run(query, check=True, capture_output=True, text=True).stdout.split())


def named(packages, kind):
    return {name_and_arch(package["path"]): package["path"] for package in packages if package["kind"] == kind}


def main():
    given = json.load(sys.stdin)
    result = {"testcase": given["testcase"], "item": given["item"], "type": given["type"], "arch": given["arch"]}
    baseline = given["baseline"]
    if baseline is None:
        write(given, [{**result, "outcome": "INFO", "note": "there is no build to compare with"}])
        return
    old, new = named(baseline["packages"], "binary"), named(given["packages"], "binary")
    old_debug, new_debug = (list(named(packages, "debug").values()) for packages in (baseline["packages"], given["packages"]))
    bits, notes = 0, []
    for key in sorted(old):
        if key not in new:
            if any(".so" in line for line in provides(old[key])):
                notes.append(f"{key[0]} is gone, and it had libraries")
                bits |= CHANGE
            continue
        debug = [part for path in old_debug for part in ("--d1", path)] + [part for path in new_debug for part in ("--d2", path)]
        ended = subprocess.run(["abipkgdiff", "--no-default-suppression", *debug, old[key], new[key]], capture_output=True, text=True)
        log = f"abidiff-{key[0]}.txt"
        pathlib.Path(given["artifacts"], log).write_text(ended.stdout + ended.stderr)
        print(f"{key[0]}: exit code {ended.returncode}")
        if ended.returncode & (ERROR | USAGE) or ended.returncode < 0:
            sys.exit(f"abipkgdiff of {key[0]} ended with {ended.returncode}:\n{ended.stdout}{ended.stderr}")
        if ended.returncode:
            bits |= ended.returncode
            how = "changes incompatibly" if ended.returncode & INCOMPATIBLE else "changes"
            notes.append(f"what {key[0]} offers {how}")
            result["artifact"] = log
    outcome = "FAILED" if bits & INCOMPATIBLE else "NEEDS_INSPECTION" if bits else "PASSED"
    write(given, [{**result, "outcome": outcome, "note": "; ".join(notes) or f"nothing that {baseline['build']} offers has changed"}])


def provides(path):
    return subprocess.run(["rpm", "-qp", "--provides", path], check=True, capture_output=True, text=True).stdout.splitlines()


def write(given, results):
    pathlib.Path(given["results"], "abicheck.yaml").write_text(json.dumps({"results": results}))


main()
