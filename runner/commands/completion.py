"""``runner completion SHELL``: a script to source; it asks ``runner --complete`` for every word."""

from __future__ import annotations

from runner.commands import options

SCRIPTS = {
    "bash": """_runner() {
    local IFS=$'\\n'
    COMPREPLY=($(runner --complete "${COMP_LINE:0:$COMP_POINT}" 2>/dev/null))
    [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *[=./] ]] && compopt -o nospace
    __ltrim_colon_completions "${COMP_WORDS[COMP_CWORD]}" 2>/dev/null
}
COMP_WORDBREAKS=${COMP_WORDBREAKS//=}
complete -F _runner runner
""",
    "zsh": """#compdef runner
_runner() {
    local -a found
    found=("${(@f)$(runner --complete "${BUFFER[1,CURSOR]}" 2>/dev/null)}")
    compadd -S '' -- $found
}
compdef _runner runner
""",
    "fish": """complete -c runner -f -a '(runner --complete (commandline -cp) 2>/dev/null)'
""",
}
HOWTO = {
    "bash": 'eval "$(runner completion bash)"',
    "zsh": 'eval "$(runner completion zsh)"',
    "fish": "runner completion fish | source",
}


def main(arguments: list[str]) -> int:
    """Print the script."""
    parser = options.parser("completion", "print shell completion; use it with: " + "  |  ".join(HOWTO.values()))
    parser.add_argument("shell", choices=sorted(SCRIPTS))
    print(SCRIPTS[parser.parse_args(arguments).shell], end="")
    return 0
