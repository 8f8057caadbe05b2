"""`visor search`: trials of a config's values, and the best of them as a config."""

import argparse
from pathlib import Path

from visor.commands.arguments import Commands, add_home, add_set, positive


def add(commands: Commands) -> None:
    """Declare the command."""
    search = commands.add_parser("search", help="try a config's values and write the best as a config; resumes, and in parallel")
    search.add_argument("config", type=Path, help="such as training/configs/digits.yaml")
    search.add_argument("space", type=Path, help="what to search, as docs/search.md says")
    search.add_argument("--study", required=True, type=_name, help="the study's name; one that there is, is gone on with")
    search.add_argument("--trials", type=positive, default=12, help="of the whole study (default: %(default)s)")
    search.add_argument(
        "--storage", metavar="URL", help="a database, such as postgresql+psycopg2://... (default: SQLite in --home)"
    )
    add_set(search)
    add_home(search)
    search.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Search, and print the trials and the best config's file."""
    from training import config
    from training.jobs.search import search
    from training.search import Space

    settings, space = config.load(args.config, args.set), Space.read(args.space)
    result = search(settings, space, args.study, args.trials, args.home, args.storage)
    for slot, trial in sorted(result.trials.items()):
        value = f"{trial.value:10.6f}" if trial.value is not None else f"{'':10}"
        shown = "  ".join(
            f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}" for key, value in trial.params.items()
        )
        mark = "*" if result.best is not None and trial.number == result.best.number else " "
        print(f"{slot + 1:4}{mark} {trial.state.name.lower():9} {value}  {shown}")
    if result.config is None:
        print("no trial is complete: each failed or was pruned, or runs elsewhere")
        return 1
    print(result.config)
    return 0


def _name(text: str) -> str:
    if not text or not all(sign.isalnum() or sign in "-_." for sign in text) or text.startswith("."):
        raise argparse.ArgumentTypeError(f"{text!r} is not made of letters, digits, -, _ and .")
    return text
