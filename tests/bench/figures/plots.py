"""The plots of docs/performance.md, as SVG that can be read in light and dark."""

from .tables import FUNCTIONS, IMPLEMENTATIONS

WIDTH = 760
# The colours in light and dark, by name.
COLOURS = {
    "back": ("#ffffff", "#0d1117"),
    "ink": ("#24292f", "#e6edf3"),
    "weak": ("#d0d7de", "#3d444d"),
    "blue": ("#0969da", "#58a6ff"),
    "orange": ("#bc4c00", "#f0883e"),
    "grey": ("#6e7781", "#9198a1"),
    "green": ("#1a7f37", "#3fb950"),
    "violet": ("#8250df", "#bc8cff"),
    "pink": ("#bf3989", "#f778ba"),
    "brown": ("#9a6700", "#d29922"),
}
SERIES = ("blue", "orange", "grey", "green", "violet", "pink", "brown")
SHORT = {
    "create-token": "POST /session-tokens",
    "create-challenge": "POST /challenges",
    "get-challenge": "GET /challenges/{challengeId}",
    "list-challenges": "GET /challenges",
    "get-pin": "GET /pin",
    "receive-webhook": "POST /webhooks/circle",
    "reconcile": "reconciliation run",
}


def style():
    """Each plot has a background of its own, because a page can be dark while the browser prefers light."""

    def rules(theme):
        return " ".join(
            f".{name} {{ fill: {colour[theme]}; }} .{name}-line {{ stroke: {colour[theme]}; }}"
            for name, colour in COLOURS.items()
        )

    fixed = "text { font: 13px system-ui, sans-serif; } .end { text-anchor: end; } .middle { text-anchor: middle; }"
    title = ".title { font-weight: 600; } polyline { fill: none; stroke-width: 2px; }"
    dark = f"@media (prefers-color-scheme: dark) {{ {rules(1)} }}"
    return "\n".join(["<style>", fixed, title, rules(0), dark, "</style>"])


def svg(height, title, lines):
    size = f'viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">'
    background = f'<rect width="{WIDTH}" height="{height}" rx="6" class="back"/>'
    return (
        "\n".join(
            [head, f"<title>{title}</title>", style(), background, text(16, 26, title, "title"), *lines, "</svg>"]
        )
        + "\n"
    )


def text(x, y, content, kind=""):
    return f'<text x="{x:.1f}" y="{y:.1f}" class="ink {kind}">{content}</text>'


def line(x1, y1, x2, y2, colour):
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{colour}-line"/>'


def cold_start(bench):
    """A bar for each function and implementation."""
    left, room, height = 190, WIDTH - 190 - 90, 22
    present = [implementation for implementation in IMPLEMENTATIONS if bench.has(implementation)]
    longest = max(bench.cold(operation, implementation) for operation in FUNCTIONS for implementation in present)
    lines, y = [], 48
    for operation, name in FUNCTIONS.items():
        for implementation, colour in zip(present, SERIES):
            time = bench.cold(operation, implementation)
            lines.append(text(left - 10, y + 15, f"{name}, {IMPLEMENTATIONS[implementation]}", "end"))
            width = time / longest * room
            lines.append(f'<rect x="{left}" y="{y}" width="{width:.1f}" height="{height - 5}" class="{colour}"/>')
            lines.append(text(left + width + 8, y + 15, f"{time:.1f} ms"))
            y += height
        y += 12
    return svg(y + 2, "Cold start: from the start of the process to the first response", lines)


def growth(growth):
    """A line for each operation over the number of records."""
    left, right, top, bottom, height = 60, 500, 50, 330, 380
    sizes = growth["sizes"]
    highest = max(measured["p50"] for size in sizes for measured in size["operations"]) * 1.1
    across = [left + 20 + (right - left - 40) * index / (len(sizes) - 1) for index in range(len(sizes))]

    def up(time):
        return bottom - (bottom - top) * time / highest

    lines = []
    tick = 0
    while tick <= highest:
        lines += [line(left, up(tick), right, up(tick), "weak"), text(left - 8, up(tick) + 4, f"{tick:.1f}", "end")]
        tick += 0.5
    lines += [text(x, bottom + 22, f"{size['records']:,}", "middle") for x, size in zip(across, sizes)]
    lines.append(text((left + right) / 2, bottom + 42, "records in the table", "middle"))
    labels = []
    for index, colour in enumerate(SERIES):
        name = SHORT[sizes[0]["operations"][index]["operation"]]
        times = [size["operations"][index]["p50"] for size in sizes]
        lines += curve(across, [up(time) for time in times], colour)
        labels.append((up(times[-1]), name, colour))
    reads = [size["get_item"] for size in sizes]
    lines += curve(across, [up(time) for time in reads], "ink")
    labels.append((up(reads[-1]), "one GetItem of the database", "ink"))
    # Labels that would cover each other move apart.
    y = bottom + 20
    for wanted, name, colour in sorted(labels, reverse=True):
        y = min(wanted, y - 17)
        lines.append(line(right - 10, wanted, right + 16, y, colour))
        lines.append(text(right + 22, y + 4, name))
    return svg(height, "Median time of an invocation in ms, as the table of challenges grows", lines)


def curve(across, up, colour):
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(across, up))
    dots = [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" class="{colour}"/>' for x, y in zip(across, up)]
    return [f'<polyline points="{points}" class="{colour}-line"/>', *dots]
