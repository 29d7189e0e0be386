"""`workbench datasets`: the generated sets."""

from __future__ import annotations

from pathlib import Path

import click

from workbench.cli.common import emit, json_option, print_table, progress_bar


@click.group()
def datasets() -> None:
    """Make the generated sets: known shapes of load, with seeds and checksums."""


@datasets.command()
@click.argument("names", nargs=-1, metavar="[SET]...")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("datasets"),
    show_default=True,
)
@click.option("--accesses", type=click.IntRange(1, 100_000_000), default=20_000, show_default=True)
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True)
@json_option
def make(names: tuple[str, ...], out: Path, accesses: int, seed: int, as_json: bool) -> None:
    """Write the named SETs as Parquet, all where none is named, with a manifest of checksums.

    Sets: zipf, hot-key, hot-range, moving-front, diurnal, oscillating, uniform, renumbered. The
    same seed and number give the same accesses on any machine.

    \b
    Examples:
      workbench datasets make
      workbench datasets make hot-range --accesses 1000000 --out /tmp/sets
    """
    from workbench.session.datasets import make_datasets

    with progress_bar() as progress:
        made = make_datasets(out, names, accesses=accesses, seed=seed, progress=progress)
    if as_json:
        fields = ("name", "file", "accesses", "seed", "checksum", "bytes")
        sets = [{field: getattr(each, field) for field in fields} for each in made]
        emit("datasets_make", {"out": str(out), "sets": sets})
        return
    print_table(
        f"Generated sets in {out}",
        [("set", "left"), ("accesses", "right"), ("bytes", "right"), ("checksum", "left")],
        [[m.name, f"{m.accesses:,}", f"{m.bytes:,}", m.checksum[:16]] for m in made],
    )
