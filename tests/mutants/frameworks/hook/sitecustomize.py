"""Puts one mutant into one module of a framework, in the process that finds this file on PYTHONPATH, and nowhere else.

BNCONF_MUTANT holds the mutant as JSON: id, module, within, find, replace, and nth where the words occur more than once.
Python imports this file when it starts. The module's source is read from the installation, changed in memory and
compiled; no file is written, bytecode neither. What reads the source of a function (TorchScript, AutoGraph) gets the
changed one. A process that cannot put the mutant in ends, and says why.
"""

import ast
import importlib.machinery
import json
import linecache
import os
import sys


def span(source, within):
    """Return (start, end) of the text of the one function or class with a dotted name; ValueError for none or more."""
    found = [node for name, node in _named(ast.parse(source), "") if name == within]
    if len(found) != 1:
        raise ValueError(f"{within} is defined {len(found)} times")
    lines = source.splitlines(True)
    return len("".join(lines[: found[0].lineno - 1])), len("".join(lines[: found[0].end_lineno]))


def _named(node, prefix):
    for child in ast.iter_child_nodes(node):
        name = prefix
        if isinstance(child, (ast.FunctionDef, ast.ClassDef)):
            name = prefix + child.name
            yield name, child
            name += "."
        yield from _named(child, name)


def rewrite(source, mutant):
    """Return the source with the mutant in it; ValueError where its words are not there exactly once, or as often."""
    start, end = span(source, mutant["within"])
    parts, nth = source[start:end].split(mutant["find"]), mutant.get("nth", 0)
    if len(parts) < 2 or (len(parts) > 2) != bool(nth) or nth >= len(parts):
        raise ValueError(f"{mutant['find']!r} is {len(parts) - 1} times in {mutant['within']}")
    before, after = mutant["find"].join(parts[: nth or 1]), mutant["find"].join(parts[nth or 1 :])
    return source[:start] + before + mutant["replace"] + after + source[end:]


class Loader(importlib.machinery.SourceFileLoader):
    """Loads a module with the mutant in it."""

    def __init__(self, fullname, path, mutant):
        super().__init__(fullname, path)
        self.mutant = mutant

    def get_code(self, fullname):
        """Return the code of the changed source, which neither comes from a cache nor goes to one."""
        path = self.get_filename(fullname)
        try:
            source = rewrite(self.get_source(fullname), self.mutant)
            code = compile(source, path, "exec", dont_inherit=True)
        except (SyntaxError, ValueError) as error:
            sys.exit(f"mutant {self.mutant['id']} does not fit {fullname}: {error}")
        linecache.cache[path] = (len(source), None, source.splitlines(True), path)
        sys.stderr.write(f"mutant {self.mutant['id']} is in {fullname}\n")
        return code


class Finder:
    """Finds the module that the mutant is for where it would be found without this, and gives it another loader."""

    def __init__(self, mutant):
        self.mutant = mutant

    def find_spec(self, fullname, path=None, target=None):
        """Return the module's spec, None for any other module."""
        if fullname != self.mutant["module"]:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None:
            spec.loader = Loader(fullname, spec.origin, self.mutant)
        return spec


if "BNCONF_MUTANT" in os.environ:
    sys.meta_path.insert(0, Finder(json.loads(os.environ["BNCONF_MUTANT"])))
