"""What a million PIN changes cost at a memory size. The prices and the assumptions are those of docs/operations.md."""

import re

# Of a PIN change: the operation, and its name in the arithmetic of docs/operations.md.
REQUESTS = {
    "create-token": "session",
    "create-challenge": "challenge",
    "get-challenge": "polls",
    "receive-webhook": "webhooks",
}


class Prices:
    """The prices, and how long a request waits for Circle and the tables."""

    def __init__(self, page):
        duration = re.search(r"^\| Lambda, duration \|.*", page, re.MULTILINE)[0]
        self.gigabyte_second = float(re.search(r"× ([\d.]+)/GB-s", duration)[1])
        cold_starts = re.search(r"a cold start in 100 requests\* = ([\d,]+) reads", page)
        self.cold_starts = int(cold_starts[1].replace(",", ""))
        # The number and the seconds of each request, such as `5 × 0.2 polls`.
        self.requests = {}
        for operation, name in REQUESTS.items():
            found = re.search(rf"(?:(\d+) × )?([\d.]+) {name}\b", duration)
            self.requests[operation] = (int(found[1] or 1), float(found[2]))


def of_a_million(bench, size, prices):
    """In dollars: the duration, the part of it in which the functions compute, and the initialisations.

    Lambda bills the whole duration. How long Circle and DynamoDB take is assumed, and the time in which a function
    computes at this size is added. The initialisation runs at full speed at every size."""

    def dollars(seconds):
        return seconds * size / 1024 * prices.gigabyte_second * 1e6

    waiting = sum(count * seconds for count, seconds in prices.requests.values())
    computing = sum(count * bench.busy(operation, size) / 1000 for operation, (count, _) in prices.requests.items())
    init = sum(bench.median(operation)["init"] for operation in prices.requests) / len(prices.requests) / 1000
    return {
        "duration": dollars(waiting + computing),
        "computing": dollars(computing),
        "initialisation": dollars(init * prices.cold_starts / 1e6),
    }
