"""A Hypothesis strategy over command lines: right ones, wrong ones, and such as nobody would type."""

from __future__ import annotations

from functools import cache

from hypothesis import strategies as st

from runner import registry
from runner.cli import COMMANDS

NASTY = [
    *("", " ", "=", ",", ":", "@", "%", "#", "~", "+", "-", "--", "'", '"', "\\", "\\'", "{", "}", "[", "]", "(", ")"),
    *("null", "true", "False", "yes", "None", "???", ".", "..", "a b", "a=b", "\n", "\t", "\r\n", "\x1b[31m", "\x07"),
    *("nan", "inf", "-inf", "1e400", "-1e400", "1e-400", "0", "-0", "-1", "1_000", "0x10", "007", "1.", ".5", "1e3"),
    *(str(10**n) for n in (6, 9, 12, 18, 19, 30)),
    *("9" * 5000, "a" * 100_000, "[" * 300, "{a:" * 300, "[1,2,{a:b}]", "{a:1,b:[2]}", "[]", "{}", "{1:2}", "{null:1}"),
    *("${seed}", "${method.lr}", "${method}", "${dataset}", "${nope}", "${}", "${", "${.}", "${..}", "${.a.b}", "$"),
    *("${${seed}}", "${oc.env:X}", "${oc.env:X,3}", "${oc.env:PATH}", "${nope:1}", "${add:1,2}", "${add:a,1}"),
    *("${mul:2}", "${mul:2,3}", "${now:%Y}", "${hydra:runtime.cwd}", "${hydra:nope}", "${choices.method}", "\\${seed}"),
    *(
        "${oc.select:method.lr}",
        "${oc.create:{a:1}}",
        "${oc.decode:'{'}",
        "${oc.decode:seed}",
        "${oc.dict.keys:method}",
    ),
    *("range(3)", "range(1,2,0)", "choice(1,2)", "interval(0,1)", "glob(*)", "sort(3,1)", "shuffle(1,2)", "tag(a,1)"),
    *("int(x)", "int(3)", "str(1)", "json_str({a:1})", "float(a)", "bool(3)", "cast(1)", "f(x)", "1,2", "a,b,c"),
    *("\udcff", "ä", "日本語", "🧪", "\u202eabc", "a\u0301", "/dev/null/x", "/proc/nope/x", "a/b/../c", "~", "~nobody"),
    *("id:", "id:abc", "method=toy dataset=toy_data", "method=toy", "method=student dataset=toy_data model=none"),
    *(
        "sqlite://",
        "sqlite:///",
        "sqlite:///x.db",
        "sqlite:///x.db?mode=ro",
        "http://[::1]:9",
        "ftp://x",
        "file:///dev/null",
    ),
    *("os.system", "runner.run.Run", "runner.nope.Nope", "runner.methods.graph.backprop.Backprop", "toy_methods.Toy"),
]
FLAGS = [
    *("--help", "-h", "--version", "--traceback=", "-m", "--multirun", "--explain", "--nonsense", "-x", "--resolve"),
    *("--cfg", "--cfg=job", "--cfg=hydra", "--cfg=all", "--cfg=x", "-c", "--info", "--info=all", "--info=config"),
    *("--info=plugins", "--info=defaults", "--info=defaults-tree", "--info=searchpath", "--info=x", "--package=method"),
    *("-p", "--package", "--hydra-help", "--shell-completion", "-sc", "install=bash", "query=bash", "--run", "-r"),
    *("--config-name=x", "-cn", "--config-path=x", "--config-dir=x", "--config-dir", "--experimental-rerun=x", "--"),
    *("--include-path", "--include-path=nope", "--include-path=", "--complete", "--complete=x", "-mc", "-mr"),
]
TOY = ["method=toy", "dataset=toy_data", "model=none", "hardware.threads=1", "progress=false", "limit=1"]


@cache
def groups() -> dict[str, list[str]]:
    """Names of all choices, by group."""
    return {group: list(registry.choices(group)) for group in (*registry.SECTIONS, "experiment", "paper")}


def keys(**chosen: str) -> dict[str, object]:
    """Dotted keys of the sections that are chosen and of the top level, with their values."""
    top = registry.load_yaml(registry.conf_dirs()[0] / "config.yaml")
    found = {key: value for key, value in top.items() if key not in ("defaults", "hydra")}
    found |= {f"{key}.{inner}": value for key in ("checkpoint", "tracking") for inner, value in top[key].items()}
    for group, name in chosen.items():
        found |= {f"{group}.{key}": value for key, value in registry.read(group, name).items()}
    return found


ODD = [
    *("method.lrr", "method.lr.x", "method.epochs[0]", "nope", "method", "method.", ".method", "", ".", "a..b", "$x"),
    *("hydra", "hydra.run.dir", "hydra.sweep.dir", "hydra.job.chdir", "hydra.verbose", "hydra.mode", "hydra.nope"),
    *("hydra/launcher", "hydra/sweeper", "hydra.job.env_set.X", "hydra.job.name", "hydra.output_subdir", "choices"),
    *("method@x", "method@x:y", "toy@_global_", "a." * 500 + "a", "method/toy", "a/b", "ä", "dataset@method"),
    *("tracking.uri.x", "defaults"),
]
"""Keys that are none, or Hydra's own."""


def values() -> st.SearchStrategy[str]:
    """Right-hand sides."""
    number = st.one_of(st.integers(0, 5), st.integers(), st.floats()).map(str)
    text = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=12)
    plain = st.one_of(number, number, text, st.sampled_from(NASTY), st.sampled_from(NASTY))
    return st.one_of(plain, plain, plain, plain.map(lambda value: f"'{value}'"), plain.map(lambda value: f"[{value}]"))


def fitting(value: object) -> st.SearchStrategy[str]:
    """Values of the type that a key has: also large ones, which no machine can serve."""
    if isinstance(value, bool):
        return st.sampled_from(["true", "false"])
    if isinstance(value, int):
        return st.one_of(st.integers(1, 4), st.sampled_from([0, 7, 100, 10**6, 10**9, 10**12, 2**63 - 1])).map(str)
    if isinstance(value, float):
        return st.one_of(st.floats(0, 1), st.floats(allow_nan=False, allow_infinity=False)).map(str)
    return values()


def override(known: dict[str, object]) -> st.SearchStrategy[str]:
    """One override of a known key, or something like it."""
    prefix = st.sampled_from(["", "", "", "", "", "", "", "", "", "", "+", "++", "~"])
    equals = st.sampled_from(["=", "=", "=", "=", "=", "=", "=", "=", "=", "", " = "])
    right = st.sampled_from(list(known))
    key = st.one_of(right, right, right, right, st.sampled_from(ODD))
    odd = st.builds(lambda *parts: "".join(parts), prefix, key, equals, values())
    fits = right.flatmap(lambda key: fitting(known[key]).map(lambda value: f"{key}={value}"))
    return st.one_of(odd, fits)


def flags() -> st.SearchStrategy[list[str]]:
    """Mostly none."""
    none: st.SearchStrategy[list[str]] = st.just([])
    return st.one_of(none, none, none, none, none, st.lists(st.sampled_from(FLAGS), min_size=1, max_size=2))


@st.composite
def toy_runs(draw: st.DrawFn) -> list[str]:
    """A run that takes no time, with something changed."""
    known = keys(method="toy", dataset="toy_data", hardware="cpu")
    return [*draw(flags()), *TOY, *draw(st.lists(override(known), min_size=1, max_size=2))]


@st.composite
def student_runs(draw: st.DrawFn) -> list[str]:
    """A run that refers to another one."""
    known = {key: value for key, value in keys(method="student").items() if key.startswith(("method", "run", "mode"))}
    return [*draw(flags()), "method=student", *TOY[1:], *draw(st.lists(override(known), max_size=2))]


@st.composite
def real_runs(draw: st.DrawFn, graph: str) -> list[str]:
    """A real method on a graph of 40 nodes, with something changed."""
    method = draw(st.sampled_from([name for name in groups()["method"] if name not in ("toy", "student")]))
    model = draw(st.sampled_from(["gcn", "gcn", "sage", "gat", "mlp"]))
    sections = keys(method=method, model=model, hardware="cpu", dataset="file")
    known = {key: sections[key] for key in sections if key.startswith(("method.", "model.", "hardware.", "dataset."))}
    chosen = [
        f"method={method}",
        "dataset=file",
        f"dataset.path={graph}",
        f"model={model}",
        "limit=1",
        "progress=false",
    ]
    return [*chosen, *draw(st.lists(override(known), min_size=1, max_size=2))]


@st.composite
def asked(draw: st.DrawFn) -> list[str]:
    """Any choices, right and wrong, which are only composed or explained."""
    chosen = {group: draw(st.sampled_from(groups()[group])) for group in registry.SECTIONS if draw(st.integers(0, 9))}
    known = keys(**chosen)
    flag = draw(st.sampled_from(["--explain", "--explain", "--cfg=job", "--cfg=all", "--info=all"]))
    wrong = st.builds("{}={}".format, st.sampled_from([*registry.SECTIONS, "+experiment", "experiment"]), values())
    chosen_names = [f"{group}={name}" for group, name in chosen.items()]
    experiments = st.lists(st.sampled_from([f"+experiment={name}" for name in groups()["experiment"]]), max_size=1)
    rest = draw(st.lists(st.one_of(override(known), override(known), override(known), wrong), max_size=3))
    return [flag, *draw(flags()), *chosen_names, *draw(experiments), *rest]


@st.composite
def sweeps(draw: st.DrawFn) -> list[str]:
    """Two or three toy runs, or what looks like it."""
    known = keys(method="toy", dataset="toy_data")
    axes = ["seed=0,1", "seed=range(2)", "method.lr=0.1,0.2", "method.lr=choice(1,2)", "seed=[0,1],2"]
    launcher = draw(st.sampled_from([[], [], [], ["hydra/launcher=joblib"], ["hydra/launcher=nope"]]))
    return ["-m", *TOY, draw(st.sampled_from(axes)), *launcher, *draw(st.lists(override(known), max_size=2))]


@st.composite
def commands(draw: st.DrawFn) -> list[str]:
    """A subcommand with right and odd arguments; none that serves or downloads."""
    known = keys()
    papers = st.sampled_from(["paper=toy", "paper=toy", "paper=forwardgnn", "paper=nope", "paper="])
    store = override({"home": "", "tracking.uri": None, "tracking.experiment": ""})
    option = st.sampled_from(["--help", "--yes", "--limit", "--limit=x"])
    odd = draw(st.lists(st.one_of(store, values(), override(known), option), max_size=2))
    formats = ["format=md", "format=json", "format=x", "write=x.md", "scale=x", "scale=full"]
    name = draw(st.sampled_from([name for name in COMMANDS if name not in ("ui", "validate", "data", "doctor")]))
    word = draw(values())
    fixed = {
        "list": [draw(st.sampled_from(["", "methods", "runs", "papers", "nope"])) or "runs", "--limit=3"],
        "show": [word],
        "diff": [word, draw(values())],
        "reproduce": [draw(papers), "dry_run=true"],
        "table": [draw(papers), draw(st.sampled_from(formats))],
        "cite": [draw(papers)],
        "export": [draw(st.sampled_from(["out.zip", "/dev/null/x.zip", ".", "out", ""])), "--paper=toy"],
        "import": [draw(st.sampled_from(["out", "out.zip", ".", "/dev/null", "runs/mlflow.db", "nope"]))],
        "clean": [],
        "completion": [draw(st.sampled_from(["bash", "zsh", "fish", "x"]))],
    }
    if draw(st.integers(0, 7)) == 0:
        return ["data", draw(st.sampled_from(["list", "nope", ""])), *draw(st.lists(values(), max_size=1))]
    kept = fixed.get(name, [])
    return [name, *(kept if draw(st.integers(0, 5)) else []), *odd]


def anything() -> st.SearchStrategy[list[str]]:
    """Words without sense."""
    words = st.one_of(values(), override(keys()), st.sampled_from(FLAGS), st.sampled_from(["mode=evaluate", "run=abc"]))
    return st.lists(words, max_size=4).filter(lambda line: not {"ui", "doctor", "fetch", "verify"} & set(line))


def command_lines(graph: str) -> st.SearchStrategy[list[str]]:
    """All of it."""
    return st.one_of(
        toy_runs(), toy_runs(), student_runs(), real_runs(graph), asked(), asked(), sweeps(), commands(), anything()
    )
