"""`visor search`: try values of a config, and write the best as a config."""

import argparse
from pathlib import Path

from visor.commands.arguments import CONFIG, EXITS, Commands, add_command, add_home, add_set, positive


def add(commands: Commands) -> None:
    """Declare the command."""
    search = add_command(
        commands,
        "search",
        run,
        "Try values of a config by training with them, and write the best as a config that `visor train` takes. Prints one line "
        "a trial and the new config's path, HOME/STUDY-best.yaml; given again it resumes the study, and given several times at "
        "once it searches in parallel.",
        exits=f"{EXITS} Exit code 1 also says that no trial is complete yet.",
        resumes=True,
    )
    search.add_argument("config", type=Path, metavar="CONFIG", help=CONFIG)
    search.add_argument(
        "space", type=Path, metavar="SPACE", help="YAML file of the objective and of each key's values to try; see docs/search.md"
    )
    search.add_argument(
        "--study", required=True, type=_name, metavar="STUDY", help="name of the study; an existing study is resumed (required)"
    )
    search.add_argument(
        "--trials",
        type=positive,
        default=12,
        help="number of trials that the study has at the end; earlier, pruned and failed ones count (default: %(default)s)",
    )
    search.add_argument(
        "--storage",
        metavar="URL",
        help="database that keeps the study, as an SQLAlchemy address such as postgresql+psycopg2://USER:PASSWORD@HOST/NAME "
        "(default: the SQLite file studies.db in --home)",
    )
    add_set(search)
    add_home(search)


def run(args: argparse.Namespace) -> int:
    """Search, and print the trials and the best config's path; 1 when no trial is complete."""
    from training import config
    from visor.outputs import check_output, check_run_apart

    check_output(args.home / f"{args.study}-best.yaml", [args.config, args.space])
    settings = config.load(args.config, args.set)
    check_run_apart(None, args.home, settings.data.path)
    from training.selection.search import Space  # seconds of import each, which a mistyped config or space need not wait for

    space = Space.read(args.space)
    args.begun = True
    from training.jobs.search import search

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
