"""Writing the site: pages from templates, assets, downloads."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import jinja2

from runner.errors import BadInput, StoreUnavailable
from runner.identity import digest
from runner.report import content, views
from runner.report.content import Content
from runner.report.quantities import size, written
from runner.store.artifacts import Artifacts, File
from runner.store.records import Record
from runner.stored import OVERRIDES_TAG
from runner.tables import render

HERE = Path(__file__).parent
MARK = ".runner-report"
"""A file that says that a folder is a report: only such a folder, or an empty one, is replaced."""
PLOT_BYTES = 2_000_000
"""A method's plot that is larger is named, not copied."""


def write(read: Content, folder: Path, step: Callable[[], None]) -> Path:
    """Write the site, whole or not at all; gives its first page.

    Args:
        read: what to show.
        folder: replaced if it is a report or empty.
        step: called after each run's page.

    Raises:
        BadInput: the folder has other content, or can't be written.
    """
    if folder.exists() and not (folder.is_dir() and ((folder / MARK).exists() or not any(folder.iterdir()))):
        raise BadInput(f"{folder} has other content than a report; name a new folder")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as place:
            built = Path(place) / "report"
            Site(read, built).build(step)
            if folder.exists():
                folder.rename(Path(place) / "old")
            built.rename(folder)
    except OSError as error:
        raise BadInput(f"{folder} can't be written: {error}") from error
    return folder / "index.html"


@dataclass
class Site:
    """A site under way."""

    read: Content
    folder: Path

    @cached_property
    def _templates(self) -> jinja2.Environment:
        loader = jinja2.FileSystemLoader(HERE / "templates")
        made = jinja2.Environment(
            loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
        )
        made.filters |= {"moment": views.moment, "file_name": views.file_name, "size": size}
        made.globals |= {"read": self.read, "written": written, "duration": views.duration, "figure": views.figure}
        return made

    def _page(self, name: str, template: str, **values: Any) -> None:
        depth = name.count("/")
        text = self._templates.get_template(f"{template}.html").render(root="../" * depth, page=template, **values)
        self._file(f"{name}.html").write_text(text, encoding="utf-8")

    def _file(self, name: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def build(self, step: Callable[[], None]) -> None:
        """Write everything."""
        self.folder.mkdir()
        (self.folder / MARK).touch()
        shutil.copytree(HERE / "assets", self.folder / "assets")
        shutil.copyfile(plotly(), self._file("assets/plotly.min.js"))
        papers = [views.paper_view(measured, self.read) for measured in self.read.papers]
        for paper, measured in zip(papers, self.read.papers, strict=True):
            scales = [(other.scale, Path(other.page).name) for other in papers if other.name == paper.name]
            self._page(paper.page, "paper", paper=paper, scales=scales, formats=list(render.FORMATS))
            for ending, text in render.FORMATS.items():
                self._file(f"{paper.page}.{ending}").write_text(text(measured), encoding="utf-8")
        for record in self.read.runs:
            self._run(record)
            step()
        self._page("runs", "runs", groups=self._groups(), others=self._others())
        data = json.dumps(views.comparison(self.read), allow_nan=False)
        self._file("assets/compare-data.js").write_text(f"window.REPORT = {data};\n", encoding="utf-8")
        self._page("compare", "compare")
        for study in self.read.studies:
            self._page(study.page, "study", study=study)
        self._page(
            "index",
            "index",
            papers=papers,
            newest=self.read.runs[:10],
            headline=views.headline,
            studies=self.read.studies,
        )

    def _run(self, record: Record) -> None:
        page = f"runs/{views.file_name(record.run_id)}"
        artifacts = Artifacts(self.read.uri, record)
        try:
            files, reason = artifacts.files(), ""
        except (StoreUnavailable, OSError) as error:
            files, reason = [], str(error)
        self._page(
            page,
            "run",
            record=record,
            title=f"{record.tags.get('runner.method', '')} on {record.tags.get('runner.dataset', '')}",
            command=views.command(record) if OVERRIDES_TAG in record.tags else "",
            config=views.tree(content.deciding(record)),
            group=self.read.group_of.get(record.run_id),
            environment=self._environment(artifacts, files),
            files=files,
            unreadable=reason,
            images=self._images(page, artifacts, files),
            plots=views.run_plots(record, self.read),
        )

    def _environment(self, artifacts: Artifacts, files: Sequence[File]) -> dict[str, Any]:
        """A run's environment; the list of packages has a page of its own, which runs share."""
        if "environment.json" not in {file.name for file in files}:
            return {}
        try:
            found = json.loads(artifacts.read("environment.json"))
        except (ValueError, OSError, StoreUnavailable):
            return {}
        if not isinstance(found, dict):
            return {}
        packages = found.pop("packages", {})
        facts = dict(views.flat(found))
        if isinstance(packages, dict) and packages:
            name = digest(packages)[:16]
            if not (self.folder / f"environments/{name}.html").exists():
                self._page(f"environments/{name}", "environment", packages=packages)
            return {"facts": facts, "packages": len(packages), "page": name}
        return {"facts": facts, "packages": 0, "page": ""}

    def _images(self, page: str, artifacts: Artifacts, files: Sequence[File]) -> list[tuple[str, str]]:
        """Copy the plots that a method saved: name and file of each. Shown as images, nothing in them runs."""
        found: list[tuple[str, str]] = []
        for file in files:
            if file.name.endswith(".svg") and file.size <= PLOT_BYTES:
                target = f"{page}/{len(found)}.svg"
                self._file(target).write_bytes(artifacts.read(file.name))
                found.append((file.name, target.removeprefix("runs/")))
        return found

    def _groups(self) -> list[dict[str, Any]]:
        rows = []
        for group in self.read.groups:
            metrics = views.group_metrics(group)
            name = views.headline({metric: values[0] for metric, values in metrics.items()})
            newest = max(group.runs.values(), key=lambda record: record.start_ms)
            rows.append(
                {
                    "group": group,
                    "metric": name,
                    "result": views.figure(name, metrics[name]) if name else "–",
                    "seconds": views.figure("fit_seconds", metrics["fit_seconds"]) if "fit_seconds" in metrics else "–",
                    "newest": newest,
                    "runs": [(seed, views.file_name(record.run_id)) for seed, record in group.runs.items()],
                }
            )
        return rows

    def _others(self) -> list[Record]:
        return [record for record in self.read.runs if record.run_id not in self.read.group_of]


def plotly() -> Path:
    """Plotly's script, as its Python package brings it along; the package itself is not imported."""
    spec = find_spec("plotly")
    if spec is None or not spec.submodule_search_locations:
        raise BadInput("the package plotly is missing; `pip install plotly`")
    return Path(next(iter(spec.submodule_search_locations))) / "package_data" / "plotly.min.js"
