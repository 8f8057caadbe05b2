"""`visor keys`: make the key pair that signs archives."""

import argparse
from pathlib import Path

from training.settings import private_key
from visor.commands.arguments import Commands, add_command, add_passphrase, read_passphrase


def add(commands: Commands) -> None:
    """Declare the command."""
    keys = add_command(
        commands,
        "keys",
        run,
        "Make a key pair to sign archives with. Writes visor.key (private) and visor.pub (public), prints both paths and the "
        "public key's SHA-256, and fails where a key exists already.",
    )
    keys.add_argument(
        "--out",
        type=Path,
        default=private_key().parent,
        metavar="FOLDER",
        help="folder for both keys (default: that of the environment's VISOR_KEY, otherwise keys; now %(default)s)",
    )
    add_passphrase(keys, more=", which encrypts it")


def run(args: argparse.Namespace) -> int:
    """Make the pair, and print the paths."""
    from archives.signing import fingerprint, make_keys

    passphrase = read_passphrase(args)
    private, public = make_keys(args.out, passphrase)
    print(f"private  {private}  (keep it secret: whoever has it{' and its passphrase' if passphrase else ''} can sign as you)")
    print(f"public   {public}  (SHA-256 {fingerprint(public)}; goes wherever archives are served)")
    return 0
