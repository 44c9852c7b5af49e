"""``runner cite paper=…``: the BibTeX entry of a paper."""

from __future__ import annotations

from runner.commands.paper_options import PaperOptions, describe


def main(arguments: list[str]) -> int:
    """Print it."""
    if describe("cite", "the BibTeX entry of a paper", {}, arguments):
        return 0
    print(PaperOptions.parse("cite", arguments, {}).expanded.paper.bibtex.strip())
    return 0
