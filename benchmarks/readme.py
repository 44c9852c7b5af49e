"""The READMEs' result blocks, from ``results/``: ``python -m benchmarks.readme`` writes them, a test keeps them so."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- results: written by `python -m benchmarks.readme` -->", "<!-- end of results -->"


def overview() -> str:
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


def section(paper: str, *titles: str) -> str:
    """Sections of a paper's results whose titles begin so."""
    file = ROOT / "results" / f"{paper}.md"
    if not file.exists():
        return "Not measured yet."
    parts = re.split(r"^## ", file.read_text(encoding="utf-8"), flags=re.M)[1:]
    return "\n\n".join(f"### {part.strip()}" for part in parts if part.startswith(titles))


BLOCKS: dict[str, Callable[[], str]] = {
    "README.md": overview,
    "methods/learning_rules/binary/README.md": lambda: section("biper", "Claims", "Accuracy", "BiPer", "Quantisation"),
    "methods/learning_rules/README.md": lambda: section(
        "ccl", "Claims", "A perceptron with five", "After 40", "What CCL"
    ),
    "methods/learning_rules/bidirectional/README.md": lambda: section(
        "bidirectional-learning", "Claims", "MNIST", "The same under", "HAN"
    ),
    "methods/learning_rules/noprop/README.md": lambda: section("noprop", "Claims", "Test accuracy", "What becomes"),
    "methods/hardware/crossbar/README.md": lambda: section("synapse-adaptive-rule", "Claims", "Test accuracy"),
    "methods/hardware/pulp/README.md": lambda: section("fp16-mcu-odl", "Claims", "A step of", "One epoch"),
    "methods/graph/directed/README.md": lambda: section(
        "directed-gnn-survey", "Claims", "Directed block models", "Pairs of papers"
    ),
    "methods/graph/nbfnet/README.md": lambda: section("nbfnet", "Claims", "Links", "GraIL", "Edge dropout", "Small"),
    "methods/science/flashschnet/README.md": lambda: section("flashschnet", "Claims", "Energy and", "Langevin"),
    "methods/graph/virgo/README.md": lambda: section("virgo", "Claims", "Node"),
    "methods/graph/practical_attack/README.md": lambda: section(
        "gnn-practical-attack", "Claims", "The victim's test accuracy"
    ),
    "methods/pruning/README.md": lambda: section("metapruning", "Claims", "Digits, test accuracy"),
    "methods/graph/forwardgnn/README.md": lambda: section("forwardgnn", "Claims", "Node", "Variants", "Link"),
}


def with_block(name: str) -> str:
    """A README with its block as it should be."""
    before, _, rest = (ROOT / name).read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{BLOCKS[name]()}\n{END}{after}"


if __name__ == "__main__":
    for readme in BLOCKS:
        (ROOT / readme).write_text(with_block(readme), encoding="utf-8")
