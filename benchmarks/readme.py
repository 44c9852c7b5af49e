"""The README's result block, from ``results/*.json``: ``python -m benchmarks.readme`` writes it, a test keeps it so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- results: written by `python -m benchmarks.readme` -->", "<!-- end of results -->"


def block() -> str:
    """A row a paper: cells measured, claims that hold and fail, where and when."""
    lines = [
        "| paper | scale | cells measured | claims that hold | that don't | measured |",
        "|---|---|---:|---:|---:|---|",
    ]
    failing: list[str] = []
    for file in sorted((ROOT / "results").glob("*.json")):
        data: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        verdicts = [claim["verdict"] for claim in data["claims"]]
        measured = sum(cell["n"] > 0 for cell in data["cells"])
        facts = data["facts"]
        lines.append(
            f"| [{data['title']}](results/{file.stem}.md) | {data['scale']} | {measured} of {len(data['cells'])} "
            f"| {verdicts.count('holds')} | {verdicts.count('does not hold')} "
            f"| {facts['measured']}, {facts['machine']} |"
        )
        failing += [f"- {claim['text']}" for claim in data["claims"] if claim["verdict"] == "does not hold"]
    if failing:
        lines += ["", "Claims that don't hold here:", "", *failing]
    return "\n".join(lines)


def with_block(text: str) -> str:
    """The README with the block as it should be."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{block()}\n{END}{after}"


if __name__ == "__main__":
    readme = ROOT / "README.md"
    readme.write_text(with_block(readme.read_text(encoding="utf-8")), encoding="utf-8")
