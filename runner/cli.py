"""The command line: a first word without ``=`` and without a dash is a subcommand, all else goes to Hydra."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Sequence

from runner.errors import BadInput, Interrupted, RunnerError, nearest, one_line

COMMANDS = {
    "list": "methods, datasets, models, hardware or runs: what there is",
    "show": "one run: config, metrics, where its artefacts are",
    "diff": "two runs: how config and metrics differ",
    "reproduce": "make the runs exist that a paper's tables need",
    "table": "a paper's tables: published, ours, difference, verdicts",
    "report": "a static site of the store: papers, tables, curves, runs, comparisons",
    "cite": "BibTeX of a paper",
    "export": "write runs to a file that another store can import",
    "import": "take runs from a file, keys intact",
    "data": "list, fetch or verify datasets",
    "doctor": "check this machine, and say what to do",
    "validate": "check every YAML that is shipped, plugged in or included",
    "clean": "remove failed, killed, superseded or stale runs, and what they left on disk",
    "ui": "MLflow's own interface on this store",
    "completion": "print shell completion for bash, zsh or fish",
}
TRACEBACK_VARIABLE = "RUNNER_TRACEBACK"

HELP = """runner makes runs exist: method × dataset × model × hardware × seed.

  runner method=forwardgnn dataset=cora                    make one run exist
  runner -m method=forwardgnn,backprop 'seed=range(5)' …   make many (Hydra sweeps)
  runner --cfg job method=… dataset=…                      show all that decides a run
  runner --explain method=… dataset=…                      say why a run is new, without running it
  runner mode=evaluate run=<id>                            evaluate a finished run again

Commands (each has --help):
{commands}

Options beside Hydra's own (runner --hydra-help):
  -m, --multirun        sweep over comma-separated values
  --cfg job             print the config instead of running
  --explain             compare with the nearest finished run instead of running
  --include-path DIR    add a folder with methods, datasets and conf/ of your own
  --traceback           show tracebacks (or set RUNNER_TRACEBACK=1)

Any key of the config can be set: seed=3 model=sage model.num_layers=4 method.lr=0.001 limit=5
rerun=true hardware.threads=1 home=… tracking.uri=…
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its status."""
    sys.exit(status(list(sys.argv[1:] if arguments is None else arguments)))


def status(arguments: list[str]) -> int:
    """Run the command line; gives the exit status: 0, 1 for a failed run, 2 for bad input, 128 + n for signal n."""
    try:
        arguments = _own_options(arguments)
        return _dispatch(arguments)
    except RunnerError as error:
        return _tell(error)
    except Interrupted as error:
        print("runner: interrupted; the same command goes on from the last snapshot", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:  # a place that was named and can't be used, or a machine that has no more to give
        reason = error.strerror or str(error)
        place = error.filename
        return _tell(BadInput(f"{reason}: {place}; name another place") if place else RunnerError(reason))
    except MemoryError:
        return _tell(RunnerError("not enough memory for what was asked for; ask for less"))
    except Exception as error:  # the last line of defence: whatever it is, it is told in one line
        if os.environ.get(TRACEBACK_VARIABLE):
            raise
        reason = one_line(str(error))
        print(f"runner: unexpected {type(error).__name__}: {reason} (--traceback shows where)", file=sys.stderr)
        return 1


def _tell(error: RunnerError) -> int:
    if os.environ.get(TRACEBACK_VARIABLE):
        traceback.print_exception(error)
    print(f"runner: {one_line(str(error))}", file=sys.stderr)
    return error.exit_status


def _own_options(arguments: list[str]) -> list[str]:
    """Take the options out that neither Hydra nor a command knows."""
    rest = []
    waiting = iter(arguments)
    for argument in waiting:
        if argument == "--traceback":
            os.environ[TRACEBACK_VARIABLE] = "1"
        elif argument == "--include-path" or argument.startswith("--include-path="):
            from runner import registry

            folder = argument.partition("=")[2] or next(waiting, "")
            registry.include(folder)
        else:
            rest.append(argument)
    return rest


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        width = max(map(len, COMMANDS))
        print(HELP.format(commands="\n".join(f"  {name:{width}}  {text}" for name, text in COMMANDS.items())), end="")
        return 0
    if arguments[0] == "--version":
        from importlib.metadata import version

        print(f"runner {version('forward-runner')}")
        return 0
    word = arguments[0]
    if word == "--complete":
        from runner.commands import complete

        return complete.main(arguments[1:])
    if "=" in word or word.startswith(("-", "+", "~")):
        from runner.commands import make

        return make.main(arguments)
    if word in COMMANDS:
        command = importlib.import_module(f"runner.commands.{'import_' if word == 'import' else word}")
        return int(command.main(arguments[1:]))
    raise BadInput(f"no command '{word}'{nearest(word, COMMANDS)} (`runner --help` shows all)")


if __name__ == "__main__":
    main()
