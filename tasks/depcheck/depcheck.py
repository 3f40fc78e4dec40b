#!/usr/bin/python3
"""Dependencies with libsolv, by the rules of RPM: the repositories are the world before; with the new packages in place
of those they replace it is the world after.

- a new package that cannot be installed in the world after fails its build;
- a package of the repositories that loses what it needs fails the build that it lost it to;
- what was broken before is no fault of the new ones.
"""
import collections
import glob
import json
import os
import pathlib
import sys

import solv


def rpmmd(repo, path):
    """Reads the lists of a repository, those of files too: packages require files."""
    def lists(kind):
        return sorted(glob.glob(os.path.join(path, "repodata", f"*{kind}.xml*")))
    def read(name, *more):
        file = solv.xfopen(name)
        if file is None or not repo.add_rpmmd(file, *more):
            sys.exit(f"{name} cannot be read")

    if not lists("primary"):
        sys.exit(f"{path} has no list of packages")
    for name in lists("primary"):
        read(name, None)
    for name in lists("filelists"):
        read(name, "FL", solv.Repo.REPO_EXTEND_SOLVABLES)


class World:
    """Packages that may be installed."""

    def __init__(self, given, new_packages):
        self.pool = solv.Pool()
        self.pool.setdisttype(solv.Pool.DISTTYPE_RPM)
        self.pool.setarch(given["arch"])
        for entry in given["repositories"]:
            rpmmd(self.pool.add_repo(entry["name"]), entry["path"])
        self.new = {}
        repo = self.pool.add_repo("new")
        for package in new_packages:
            solvable = repo.add_rpm(package["path"])
            if solvable is None:
                sys.exit(f"{package['path']} cannot be read: {self.pool.errstr}")
            self.new[solvable.id] = package["build"] or given["item"]
        self.pool.addfileprovides()
        self.pool.createwhatprovides()
        best = {}
        for solvable in self.pool.solvables:
            held = best.setdefault(solvable.name, [])
            # One of another architecture stays beside it, as on a system of two; one of none replaces all.
            rivals = [other for other in held if solvable.arch == other.arch or "noarch" in (solvable.arch, other.arch)]
            if all(self.is_better(solvable, other) for other in rivals):
                best[solvable.name] = [other for other in held if other not in rivals] + [solvable]
        self.obsoleted = self.replaced()
        self.there = {solvable.id for solvables in best.values() for solvable in solvables} - set(self.obsoleted)
        self.pool.set_disabled_list([solvable.id for solvable in self.pool.solvables if solvable.id not in self.there])

    def is_better(self, one, other):
        """The newest is what people get; a new package comes in place of an old one, whatever their versions."""
        new = (one.id in self.new, other.id in self.new)
        return new == (True, False) or (new[0] == new[1] and one.evrcmp(other) > 0)

    def replaced(self):
        """Packages that a new one obsoletes, and its build; that goes by their names, not by what they provide."""
        gone = {}
        for id, build in self.new.items():
            for what in self.pool.id2solvable(id).lookup_deparray(solv.SOLVABLE_OBSOLETES):
                name = str(what).split()[0]
                gone.update((other.id, build) for other in self.pool.whatprovides(what) if other.name == name and other.id not in self.new)
        return gone

    def broken(self):
        """Needs that nothing meets: {(name, arch, need)}."""
        missing = {}
        for id in self.there:
            solvable = self.pool.id2solvable(id)
            for need in solvable.lookup_deparray(solv.SOLVABLE_REQUIRES):
                text = str(need)
                # RPM's own, and conditions, which the solver below knows.
                if text.startswith(("rpmlib(", "(", "solvable:")):
                    continue
                if not any(other.id in self.there for other in self.pool.whatprovides(need)):
                    missing[(solvable.name, solvable.arch, text)] = solvable
        return missing

    def problems(self, solvable):
        """Why one package cannot be installed, with all that it needs."""
        job = self.pool.Job(solv.Job.SOLVER_SOLVABLE | solv.Job.SOLVER_INSTALL, solvable.id)
        solver = self.pool.Solver()
        return [str(rule.info().problemstr()) for problem in solver.solve([job]) for rule in problem.findallproblemrules()]


def main():
    given = json.load(sys.stdin)
    packages = [package for package in given["packages"] if package["kind"] == "binary"]
    before, after = World(given, []), World(given, packages)
    faults = collections.defaultdict(list)
    for id, build in after.new.items():
        solvable = after.pool.id2solvable(id)
        if id in after.there:
            faults[build] += dict.fromkeys(after.problems(solvable))
    was_broken = before.broken()
    replaced = {after.pool.id2solvable(id).name: build for id, build in {**after.obsoleted, **after.new}.items()}
    for key, solvable in sorted(after.broken().items()):
        if key in was_broken or solvable.id in after.new:
            continue
        name, arch, need = key
        # Whose fault is it? Whoever replaces the package that had it.
        had = {replaced[other.name] for other in before.pool.whatprovides(before.pool.Dep(need)) if other.name in replaced}
        for build in had or set(after.new.values()):
            faults[build].append(f"nothing provides {need} needed by {solvable} any more")
    builds = sorted(set(after.new.values()))
    log = "depcheck.txt"
    lines = [f"{len(before.there)} packages before, {len(after.there)} after; {len(was_broken)} needs were not met before"]
    lines += [f"{name}.{arch}: {need} (before)" for name, arch, need in sorted(was_broken)]
    lines += [f"{build}: {fault}" for build in builds for fault in faults[build]]
    pathlib.Path(given["artifacts"], log).write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    results = []
    for build in builds:
        found = faults[build]
        note = "; ".join(found[:5]) + (f"; and {len(found) - 5} more" if len(found) > 5 else "")
        kind = given["type"] if build == given["item"] else "koji_build"
        results.append({"testcase": given["testcase"], "item": build, "type": kind, "arch": given["arch"],
                        "outcome": "FAILED" if found else "PASSED", "note": note or "everything that is needed is there", "artifact": log})
    pathlib.Path(given["results"], "depcheck.yaml").write_text(json.dumps({"results": results}))


main()
