"""Draws the dashboard as SVG that can be read in light and dark."""

import math
import re
from html import escape

import dashboard
from figures.plots import COLOURS, SERIES
from measured import series

COLUMN, ROW = 50, 30
MARGIN = 8
# The letters of a text of 11 pixels.
LETTER = 6.6


def text(x, y, content, kind="", colour="ink"):
    return f'<text x="{x:.0f}" y="{y:.0f}" class="{colour} {kind}">{escape(content)}</text>'


def number(value):
    if value is None:
        return "–"
    if value >= 10_000:
        return f"{value / 1000:.0f}k"
    return f"{value:.1f}".rstrip("0").rstrip(".") if value < 100 else f"{value:.0f}"


def style():
    def rules(theme):
        return " ".join(
            f".{name} {{ fill: {colour[theme]}; }} .{name}-line {{ stroke: {colour[theme]}; }}"
            for name, colour in COLOURS.items()
        )

    fixed = "text { font: 11px system-ui, sans-serif; } .end { text-anchor: end; } .middle { text-anchor: middle; }"
    kinds = ".title { font-weight: 600; } .heading { font-size: 16px; font-weight: 600; } .large { font-size: 22px; }"
    shapes = "polyline { fill: none; stroke-width: 1.5px; } .frame { fill: none; } .dashed { stroke-dasharray: 4 3; }"
    dark = f"@media (prefers-color-scheme: dark) {{ {rules(1)} }}"
    return "\n".join(["<style>", fixed, kinds, shapes, rules(0), dark, "</style>"])


def drawn(measured, hours):
    """The picture. `hours` is the length of the run."""
    widgets = dashboard.body()["widgets"]
    width = 24 * COLUMN
    height = max(one["y"] + one["height"] for one in widgets) * ROW
    lines = []
    for one in widgets:
        box = (one["x"] * COLUMN, one["y"] * ROW, one["width"] * COLUMN, one["height"] * ROW)
        kind = {"text": heading, "alarm": alarms}.get(one["type"])
        lines += kind(one, box) if kind else graph(one, box, measured, hours)
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">'
    title = "<title>The dashboard, drawn from a local run</title>"
    back = f'<rect width="{width}" height="{height}" rx="6" class="back"/>'
    return "\n".join([head, title, style(), back, *lines, "</svg>"]) + "\n"


def heading(widget, box):
    x, y, *_ = box
    title, says = re.fullmatch(r"## (.+)\n(.+)", widget["properties"]["markdown"]).groups()
    return [text(x + MARGIN, y + 28, title, "heading"), text(x + MARGIN, y + 48, says)]


def frame(widget, box):
    x, y, width, height = box
    shape = f'<rect x="{x + 3}" y="{y + 3}" width="{width - 6}" height="{height - 6}" rx="4" class="frame weak-line"/>'
    return [shape, text(x + MARGIN + 3, y + 20, widget["properties"]["title"], "title")]


def alarms(widget, box):
    """Their names. CloudWatch evaluates them, so a local run has no states."""
    x, y, width, height = box
    lines = frame(widget, box)
    names = [one.removesuffix(".Arn") for one in widget["properties"]["alarms"]]
    columns = 5
    for index, name in enumerate(names):
        left = x + MARGIN + 3 + index % columns * (width - 2 * MARGIN) / columns
        top = y + 30 + index // columns * 22
        lines.append(f'<rect x="{left:.0f}" y="{top:.0f}" width="10" height="10" rx="2" class="grey"/>')
        lines.append(text(left + 15, top + 9, name))
    lines.append(text(x + width - MARGIN - 3, y + 20, "CloudWatch evaluates them", "end", "grey"))
    return lines


def graph(widget, box, measured, hours):
    x, y, width, height = box
    lines = frame(widget, box)

    def empty(why):
        return [*lines, text(x + width / 2, y + height / 2 + 8, why, "middle", "grey")]

    if all(metric.namespace != dashboard.NAMESPACE for metric in dashboard.metrics(widget)[0]):
        return empty("AWS measures this, so a local run has no values.")
    if widget["properties"].get("view") == "singleValue":
        return lines + numbers(series(measured, widget, whole=True), box)
    shown = {label: points for label, points in series(measured, widget).items() if set(points) != {None}}
    if not shown:
        return empty("This run has no values.")
    rows = legend_rows(shown, width)
    left, right, top, bottom = x + 48, x + width - 16, y + 34, y + height - 28 - 15 * len(rows)
    annotations = widget["properties"].get("annotations", {}).get("horizontal", [])
    values = [one for points in shown.values() for one in points if one is not None]
    highest = rounded_up(max([*values, *(one["value"] for one in annotations)]) or 1)

    def at(step, value):
        return left + (right - left) * (step + 0.5) / measured.steps, bottom - (bottom - top) * value / highest

    for value in [0, highest / 2, highest]:
        level = at(0, value)[1]
        lines.append(f'<line x1="{left}" y1="{level:.0f}" x2="{right}" y2="{level:.0f}" class="weak-line"/>')
        lines.append(text(left - 5, level + 4, number(value), "end"))
    for hour in range(0, hours + 1, 3):
        lines.append(text(left + (right - left) * hour / hours, bottom + 14, f"{hour} h", "middle", "grey"))
    for index, one in enumerate(annotations):
        level = at(0, one["value"])[1]
        lines.append(f'<line x1="{left}" y1="{level:.0f}" x2="{right}" y2="{level:.0f}" class="pink-line dashed"/>')
        # Two lines can be close to each other.
        lines.append(text(right - 70 * index, level - 3, one["label"], "end", "pink"))
    for index, points in enumerate(shown.values()):
        colour = SERIES[index % len(SERIES)]
        for run in runs(points):
            corners = " ".join("{:.1f},{:.1f}".format(*at(step, value)) for step, value in run)
            if len(run) > 1:
                lines.append(f'<polyline points="{corners}" class="{colour}-line"/>')
            else:
                cx, cy = corners.split(",")
                lines.append(f'<circle cx="{cx}" cy="{cy}" r="2" class="{colour}"/>')
    index = 0
    for row, labels in enumerate(rows):
        start = left - 36
        for label in labels:
            level = bottom + 32 + row * 15
            colour = SERIES[index % len(SERIES)]
            lines.append(f'<rect x="{start:.0f}" y="{level - 8:.0f}" width="9" height="9" class="{colour}"/>')
            lines.append(text(start + 13, level, label))
            start += 26 + len(label) * LETTER
            index += 1
    return lines


def rounded_up(value):
    """The next number of the form 1, 2 or 5 times a power of ten."""
    power = 10 ** math.floor(math.log10(value))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= value)


def legend_rows(shown, width):
    """The labels, in rows that fit."""
    rows, used = [[]], 0
    for label in shown:
        needs = 26 + len(label) * LETTER
        if used + needs > width - 30 and rows[-1]:
            rows.append([])
            used = 0
        rows[-1].append(label)
        used += needs
    return rows


def runs(points):
    """The stretches without a missing value, as pairs of a step and its value."""
    run = []
    for step, value in enumerate(points):
        if value is None:
            if run:
                yield run
            run = []
        else:
            run.append((step, value))
    if run:
        yield run


def numbers(shown, box):
    x, y, width, _ = box
    lines = []
    room = (width - 2 * MARGIN) / max(len(shown), 1)
    for index, (label, [value]) in enumerate(shown.items()):
        middle = x + MARGIN + room * (index + 0.5)
        lines.append(text(middle, y + 55, number(value), "large middle"))
        lines.append(text(middle, y + 75, label, "middle", "grey"))
    return lines
