"""The figures of `tests/bench/run`, and what follows from them."""

# The memory size at which Lambda gives a whole core, in MB.
WHOLE_CORE = 1769
SIZES = (128, 256, 512, 1024, WHOLE_CORE)


class Benchmark:
    def __init__(self, bench):
        self.bench = bench
        self._results = {
            (result["implementation"], result["operation"], result["memory_mb"], result["delay_ms"]): result
            for result in bench["results"]
        }

    def result(self, operation, implementation="ours", memory=None, delay=0):
        return self._results[implementation, operation, memory, delay]

    def median(self, operation, implementation="ours", memory=None, delay=0):
        return self.result(operation, implementation, memory, delay)["median"]

    def has(self, implementation):
        return any(result["implementation"] == implementation for result in self.bench["results"])

    def cold(self, operation, implementation="ours"):
        return self.median(operation, implementation)["cold"]

    def beyond_floor(self, operation, implementation="ours"):
        """CPU of a warm invocation without that of an empty function."""
        floor = self.median("create-token", "floor")["warm_cpu"]
        return self.median(operation, implementation)["warm_cpu"] - floor

    def verification_ratio(self):
        """What a webhook takes beyond the runtime's loop and its table call, as a multiple of one verification. A
        webhook with a wrong signature stands for it: it ends after the check."""
        return self.beyond_floor("wrong-signature") / self.bench["floor"]["verification_cpu_ms"]

    def busy(self, operation, size):
        """The mean time of an invocation in ms, one after the other, with upstreams that respond at once. Lambda stops a
        function that has used its share of a core until the next period, so the median of times says too little."""
        at_full_speed = self.median(operation)["warm_p50"]
        if size == WHOLE_CORE:
            return at_full_speed
        cpu = self.median(operation, memory=size)["warm_cpu"]
        return max(at_full_speed, cpu * WHOLE_CORE / size)
