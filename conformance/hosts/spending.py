"""What a worker's seconds of CPU go to; like `worker.py` read by Python 3.6, and importing nothing of the host.

Tracing and compiling are told where the framework tells them: JAX by its monitoring events, torch.compile by its own
metrics. What TensorFlow traces is a part of its answers.
"""

import sys
import time

_OF_JAX = {
    "/jax/core/compile/jaxpr_trace_duration": "trace",
    "/jax/core/compile/jaxpr_to_mlir_module_duration": "trace",
    "/jax/core/compile/backend_compile_duration": "compile",
}
_OF_DYNAMO = {"_compile.compile_inner": "trace", "OutputGraph.call_user_compiler": "compile"}


class Spending(object):
    """Seconds of CPU, by part: `wire` from the last answer to this question, and what is known of the answer itself."""

    def __init__(self):
        self.heard, self.listens, self.dynamo = dict.fromkeys(("trace", "compile"), 0.0), False, {}
        self.answered = 0.0

    def started(self):
        """Return the seconds of CPU that the process took so far, to say hello."""
        self.answered = time.process_time()
        return self.answered

    def begun(self):
        """Begin an answer."""
        self.cpu, self.wall = time.process_time(), time.perf_counter()
        self.waited = self.cpu - self.answered
        self.listen()

    def ended(self):
        """End an answer: return its seconds of CPU, and those of its parts.

        Frameworks tell seconds of the clock: they count for as much as this process was given of a processor meanwhile.
        """
        self.answered = time.process_time()
        cpu = self.answered - self.cpu
        self.listen()
        share = min(cpu / max(time.perf_counter() - self.wall, 1e-9), 1.0)
        told = {part: seconds * share for part, seconds in self.told().items() if seconds}
        whole = max(sum(told.values()) / cpu, 1.0) if cpu else 1.0  # a trace within another is told twice
        parts = {part: seconds / whole for part, seconds in told.items()}
        return cpu, dict(parts, wire=self.waited)

    def listen(self):
        """Listen to JAX, once somebody has imported it."""
        monitoring = sys.modules.get("jax.monitoring")
        register = getattr(monitoring, "register_event_duration_secs_listener", None)
        if register and not self.listens:
            register(self.hear)
            self.listens = True

    def hear(self, event, seconds, **_):
        """Add what JAX tells."""
        if event in _OF_JAX:
            self.heard[_OF_JAX[event]] += seconds

    def told(self):
        """Return the seconds of the clock told since the last answer, by part."""
        found, self.heard = self.heard, dict.fromkeys(self.heard, 0.0)
        metrics = getattr(sys.modules.get("torch._dynamo.utils"), "compilation_time_metrics", {})
        seen = {name: sum(metrics.get(name, ())) for name in _OF_DYNAMO}
        new = {part: seen[name] - self.dynamo.get(name, 0.0) for name, part in _OF_DYNAMO.items()}
        self.dynamo = seen
        found["trace"] += max(new["trace"] - new["compile"], 0.0)
        found["compile"] += new["compile"]
        return found
