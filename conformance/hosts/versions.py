"""The version of what an implementation runs on.

Like `worker.py` read by Python 3.6, and importing nothing of the host.
"""

import sys


def version(name):
    """Return the version that a module reports, or that of its distribution; "unknown" if neither is known."""
    told = getattr(sys.modules[name], "__version__", None)
    if told and isinstance(told, str):
        return str.__str__(told)  # of torch it is a subclass, which is not written as a string everywhere
    try:
        return _of_distribution(name.partition(".")[0]) or "unknown"
    except Exception:  # what is installed may be damaged, and is not what is judged
        return "unknown"


def _of_distribution(name):
    """Return the version of the distribution that holds a module, or of one with its name; empty if there is none."""
    files = ("%s/__init__.py" % name, "%s.py" % name)
    there = list(_installed())
    for fits in (
        lambda d: name in d[2],
        lambda d: any(str(f) in files for f in d[3]),
        lambda d: _plain(d[0]) == _plain(name),
    ):
        for found in there:
            if fits(found):
                return found[1]
    return ""


def _installed():
    """Yield each distribution: its name, its version, the modules it names, its files."""
    try:
        from importlib.metadata import distributions  # novm - Python 3.8
    except ImportError:
        import pkg_resources

        for found in pkg_resources.working_set:
            named = found.get_metadata("top_level.txt") if found.has_metadata("top_level.txt") else ""
            yield found.project_name, found.version, named.split(), ()
        return
    for found in distributions():
        yield found.metadata["Name"], found.version, (found.read_text("top_level.txt") or "").split(), found.files or ()


def _plain(name):
    return (name or "").lower().replace("-", "_").replace(".", "_")
