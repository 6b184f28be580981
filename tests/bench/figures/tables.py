"""The tables of docs/performance.md, in Markdown."""

from . import cost
from .benchmark import SIZES, WHOLE_CORE

FUNCTIONS = {"create-token": "session", "create-challenge": "challenge", "receive-webhook": "webhook"}
IMPLEMENTATIONS = {"ours": "this project", "plain_rust": "plain Rust", "node": "Node.js"}
OPERATIONS = {
    "create-token": "`POST /session-tokens`",
    "create-challenge": "`POST /challenges`",
    "get-challenge": "`GET /challenges/{challengeId}`, asks Circle",
    "list-challenges": "`GET /challenges`",
    "get-pin": "`GET /pin`",
    "receive-webhook": "`POST /webhooks/circle`",
    "reconcile": "a reconciliation run without a due check",
}
# The aims: CPU of a warm invocation beyond the floor, in ms, and round trips that are made one after the other.
CPU_AIMS = {"create-token": 0.35, "create-challenge": 0.75, "receive-webhook": 0.25}
ROUND_TRIPS = {"create-token": 2, "create-challenge": 4, "receive-webhook": 1}


def made(bench, growth, operations_page):
    """All tables by the name of their mark."""
    return {
        "machine": machine(bench, growth),
        "comparison": comparison(bench),
        "aims": aims(bench),
        "parts": parts(bench),
        "memory-sizes": memory_sizes(bench, operations_page),
        "growth": growing(growth),
        "database": database(growth),
    }


def table(head, rows):
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def machine(bench, growth):
    report = bench.bench
    rustc = report["rustc"].split(" (")[0]
    cpu, cores = report["machine"]["cpu"], report["machine"]["cores"]
    lines = [
        f"Measured on {report['date'][:10]} on a machine with {cores} cores ({cpu}), with {rustc}.",
        f"Times are medians of {report['runs']} runs. Growth was measured on {growth['date'][:10]}, with {growth['calls']}",
        "invocations each.",
    ]
    if max(report["machine"]["load"], growth["machine"]["load"]) > 0.5:
        lines.append("**The machine was busy**, so times are too long, and CPU times a little.")
    return "\n".join(lines)


def comparison(bench):
    rows = []
    for operation, name in FUNCTIONS.items():
        for implementation, who in IMPLEMENTATIONS.items():
            if not bench.has(implementation):
                continue
            result, at_128 = (bench.result(operation, implementation, memory) for memory in (None, 128))
            rows.append(
                [
                    f"{name}, {who}",
                    *measured(result, at_128, bench.cold(operation) if implementation != "ours" else None),
                ]
            )
    floor, at_128 = (bench.result("create-token", "floor", memory) for memory in (None, 128))
    rows.append(["floor: an empty function", *measured(floor, at_128, None)])
    head = [
        "",
        "cold start, ms",
        "/ ours",
        "first call at 128 MB, ms",
        "warm, ms",
        "CPU warm, ms",
        "memory, MB",
        "zip, MB",
        "table calls",
    ]
    return table(head, rows)


def measured(result, at_128, ours):
    median = result["median"]
    return [
        f"{median['cold']:.1f}",
        f"{median['cold'] / ours:.1f}" if ours else "",
        f"{at_128['median']['first']:.1f}",
        f"{median['warm_p50']:.2f}",
        f"{median['warm_cpu']:.2f}",
        f"{median['memory']:.1f}",
        f"{result['zipped_size'] / 1e6:.2f}",
        f"{median['during_warm']['table_calls']:.0f}",
    ]


def aims(bench):
    rows = []

    def row(name, aim, values, form, at_most=True):
        """`aim` is a number or one for each function; `values` are by function."""
        aims = aim if isinstance(aim, dict) else dict.fromkeys(values, aim)
        misses = [(value / aims[key] - 1) * (1 if at_most else -1) for key, value in values.items()]
        worst = max(misses)
        sign = "≤" if at_most else "≥"
        texts = dict.fromkeys(f"{number:g}" for number in aims.values())
        verdict = "met" if worst <= 0 else f"missed by up to {worst * 100:.0f} %"
        rows.append(
            [name, f"{sign} {' / '.join(texts)}", " / ".join(form.format(value) for value in values.values()), verdict]
        )

    of = lambda figure: {operation: figure(operation) for operation in FUNCTIONS}
    for implementation, aim in (("plain_rust", 8), ("node", 60)):
        if bench.has(implementation):
            ahead = of(lambda operation: bench.cold(operation, implementation) / bench.cold(operation))
            row(f"cold start, times ahead of {IMPLEMENTATIONS[implementation]}", aim, ahead, "{:.1f}", at_most=False)
    row(
        "first call after initialisation at 128 MB, ms",
        25,
        of(lambda name: bench.median(name, memory=128)["first"]),
        "{:.1f}",
    )
    handshakes = of(lambda name: bench.median(name)["during_first"]["handshakes"])
    met = "met" if not any(handshakes.values()) else "missed"
    rows.append(["TLS handshakes in it", "0", " / ".join(f"{count:.0f}" for count in handshakes.values()), met])
    row("CPU of a warm call beyond the floor, ms", CPU_AIMS, of(bench.beyond_floor), "{:.2f}")
    row(
        "a webhook beyond the floor and its table call, as a multiple of one verification",
        1.5,
        {"receive-webhook": bench.verification_ratio()},
        "{:.1f}",
    )
    row("peak memory, MB", 8, of(lambda name: bench.median(name)["memory"]), "{:.1f}")
    row("package, zipped, MB", 2.0, of(lambda name: bench.result(name)["zipped_size"] / 1e6), "{:.2f}")
    row(
        "round trips one after the other",
        ROUND_TRIPS,
        of(lambda name: bench.median(name, delay=20)["warm_p50"] // 20),
        "{:.0f}",
    )
    if bench.bench["build_seconds"]:
        row(
            "release build of all functions from nothing, minutes",
            6,
            {"all": bench.bench["build_seconds"] / 60},
            "{:.1f}",
        )
    return table(["", "aim", "reached", ""], rows)


def parts(bench):
    rows = []
    for operation, name in (FUNCTIONS | {"get-challenge": "poll", "get-pin": "state of the PIN"}).items():
        median = bench.median(operation)
        calls = median["during_warm"]["circle_calls"] + median["during_warm"]["table_calls"]
        beyond = bench.beyond_floor(operation)
        rows.append(
            [
                name,
                f"{median['init']:.1f}",
                f"{median['during_init']['handshakes']:.0f} + {median['during_first']['handshakes']:.0f}",
                f"{median['during_warm']['circle_calls']:.0f} + {median['during_warm']['table_calls']:.0f}",
                f"{beyond:.2f}",
                f"{beyond / calls:.2f}",
            ]
        )
    floor = bench.bench["floor"]
    head = [
        "",
        "initialisation, ms",
        "handshakes: initialisation + first call",
        "calls: Circle + tables",
        "CPU beyond the floor, ms",
        "for each call",
    ]
    return "\n".join(
        [
            table(head, rows),
            "",
            f"One TLS handshake takes {floor['handshake_cpu_ms']:.2f} ms of CPU, and the verification of one signature "
            f"{floor['verification_cpu_ms']:.3f} ms.",
        ]
    )


def memory_sizes(bench, operations_page):
    prices = cost.Prices(operations_page)
    rows = []
    for size in SIZES:
        busy = {name: bench.busy(name, size) for name in FUNCTIONS}
        memory = None if size == WHOLE_CORE else size
        sums = cost.of_a_million(bench, size, prices)
        rows.append(
            [
                f"{size} MB",
                f"{size / WHOLE_CORE * 100:.0f} %",
                *(f"{bench.median(name, memory=memory)['first']:.1f}" for name in FUNCTIONS),
                *(f"{time:.1f}" for time in busy.values()),
                *(f"{1000 / time:,.0f}" for time in busy.values()),
                f"{sums['duration']:.2f}",
                f"{sums['computing']:.2f}",
                f"{sums['initialisation']:.2f}",
            ]
        )
    each = " / ".join(FUNCTIONS.values())
    rows = [
        [row[0], row[1], " / ".join(row[2:5]), " / ".join(row[5:8]), " / ".join(row[8:11]), *row[11:]] for row in rows
    ]
    head = [
        "memory",
        "of a core",
        f"first call, ms: {each}",
        f"a call, ms: {each}",
        f"calls a second: {each}",
        "duration, USD",
        "of which computing",
        "initialisation, USD",
    ]
    return table(head, rows)


def growing(growth):
    sizes = growth["sizes"]
    rows = []
    for index, measured_at_first in enumerate(sizes[0]["operations"]):
        each = [size["operations"][index] for size in sizes]
        calls = dict.fromkeys(f"{measured['table_calls']:.0f}" for measured in each)
        rows.append(
            [
                OPERATIONS[measured_at_first["operation"]],
                " / ".join(calls),
                *(f"{measured['p50']:.2f} ({measured['database']:.2f})" for measured in each),
                change(each, "p50"),
                change(each, "database"),
            ]
        )
    head = ["", "table calls", *(f"{size['records']:,} records" for size in sizes), "change", "of the database"]
    return table(head, rows)


def change(each, figure):
    """From the first to the last, in ms."""
    change = round(each[-1][figure] - each[0][figure], 2)
    return f"{change:+.2f}" if change else "0.00"


def database(growth):
    rows = [
        [f"{size['records']:,}", f"{size['database_mb']:,.0f}", f"{size['get_item']:.3f}"] for size in growth["sizes"]
    ]
    return table(["records", "file, MB", "`GetItem`, ms"], rows)
