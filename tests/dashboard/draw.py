"""Draws the dashboard from a local run. `draw` starts it."""

import pathlib
import sys
import tempfile

from processes import ROOT, Process, announced

sys.path.append(str(ROOT / "tests/bench"))

from measured import Measured  # noqa: E402
from picture import drawn  # noqa: E402
from play import STEP, STEPS, Player  # noqa: E402

PICTURE = ROOT / "docs/images/dashboard.svg"


def main():
    with tempfile.TemporaryDirectory() as folder:
        log = pathlib.Path(folder) / "local.log"
        command = ["cargo", "local", "--port", "0", "--json", "--unthrottled", "--log", "info"]
        try:
            _, description = announced(command, log)
            measured = played(description, log)
        finally:
            for process in Process.started[::-1]:
                process.stop()
    PICTURE.write_text(drawn(measured, STEP * STEPS // 60))
    print(PICTURE.relative_to(ROOT))


def played(description, log):
    player, measured = Player(description, log), Measured(STEPS)
    with open(log) as lines:
        for step in range(STEPS):
            for status in player.step(step):
                measured.request(step, status)
            for line in lines:
                measured.line(step, line)
    return measured


if __name__ == "__main__":
    main()
