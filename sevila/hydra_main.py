"""What `hydra.main` does, for the three entry points that run experiments: train, refine and eval.

Runs, sweeps (-m), launchers, --cfg, --info and shell completion are Hydra's. Ours are the help, the check of every job
before the first begins, errors of one line, and a run folder for each job.
"""

from __future__ import annotations

import os
import shutil
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from sevila.cli import guarded, one_line
from sevila.config import Composer, Library, arguments, checked, composer
from sevila.errors import UserError
from sevila.files import home, read_text
from sevila.report.terminal import printable
from sevila.schema import ENTRIES, nested, types

Run = Callable[[Any], Any]
ACTS = ("help", "hydra_help", "multirun", "cfg", "info", "shell_completion")  # options that say what is done


def main(entry: str, run: Run, argv: Sequence[str] | None = None) -> int:
    """Run an entry point; the exit code: 0, 2 after bad input, 130 after an interrupt.

    entry   train, refine or eval
    run     called with the checked configuration, an instance of the entry's dataclass in `sevila.schema`
    argv    the words after the command; the process's own by default
    """

    def go() -> None:
        given = arguments(sys.argv[1:] if argv is None else argv)
        with composer(entry, given) as hydra:
            _act(hydra, given, run)

    return guarded(go)


def _act(composer: Composer, given: Namespace, run: Run) -> None:
    """What the options ask for; by default a run. UserError for whatever is wrong with it."""
    hydra, name = composer.hydra, composer.config_name
    asked = [option for option in ACTS if getattr(given, option)]
    if len(asked) > 1:
        raise UserError(f"{' and '.join('--' + option.replace('_', '-') for option in asked)}: give one of them")
    if given.experimental_rerun:
        raise UserError("--experimental-rerun: a run keeps config.yaml, no pickle; give the same words again")
    if given.shell_completion:
        return hydra.shell_completion(name, given.overrides)
    if given.hydra_help:
        return hydra.hydra_help(name, get_args_parser(), given)
    if given.multirun or "hydra.mode=MULTIRUN" in given.overrides:
        return _sweep(composer, composer.overrides(given.overrides, multirun=True), run)
    words = composer.overrides(given.overrides)
    config = composer.compose(words)  # an error in a key or value ends here
    if given.help:
        print(help_text(composer, config))
    elif given.cfg:
        hydra.show_cfg(name, words, given.cfg, given.package, given.resolve)
    elif given.info:
        hydra.show_info(given.info, name, words)
    else:
        error = hydra.run(name, partial(job, composer.entry, composer.library, run), words).return_value
        if error is not None:
            raise error


def job(entry: str, library: Library, run: Run, config: DictConfig) -> UserError | None:
    """One job of Hydra's, in this process or one that a launcher began; returns the error that ended it."""
    hydra = HydraConfig.get()
    sweeps = hydra.mode == RunMode.MULTIRUN
    if sweeps:
        _meet_tasks()
    try:
        ready = checked(entry, library, config)
        if getattr(ready, "run_dir", "") is None and (sweeps or hydra.run.dir != "."):
            ready.run_dir = os.path.relpath(hydra.runtime.output_dir)
        run(ready)
    except Exception as error:
        refused = one_line(error)
        if sweeps:  # told now, and once more at the end of them all
            print(f"sevila: job {hydra.job.num}: {printable(str(refused))}", file=sys.stderr)
        return refused
    return None


def _meet_tasks() -> None:
    """Where a launcher began several tasks for one job: the variables by which PyTorch's processes find each other."""
    if "SUBMITIT_EXECUTOR" in os.environ and "RANK" not in os.environ:  # of torchrun, which has said it
        from submitit.helpers import TorchDistributedEnvironment

        tasks = TorchDistributedEnvironment()
        if tasks.world_size > 1:
            tasks.export(set_cuda_visible_devices=False)


# -- sweeps ---


def _sweep(composer: Composer, words: Sequence[str], run: Run) -> None:
    """All jobs of a sweep, once each is known to be right. UserError that lists those that failed all the same."""
    parsed = OverridesParser.create(composer.hydra.config_loader).parse_overrides(list(words))
    words = [_sweep_folder(override) for override in parsed]
    hydras = [str(override.input_line) for override in parsed if override.is_hydra_override()]
    for override in parsed:
        if override.is_hydra_override() and override.is_sweep_override():
            raise UserError(f"{override.input_line}: Hydra's own keys take one value for all jobs")
        if override.input_line == "hydra/launcher=submitit_slurm" and shutil.which("srun") is None:
            raise UserError(f"{override.input_line}: no srun here; start the sweep where Slurm is installed")
    jobs = [override for override in parsed if not override.is_hydra_override()]
    if all(override.is_discrete_sweep() for override in jobs if override.is_sweep_override()):
        for one in BasicSweeper.split_arguments(jobs, None)[0]:
            checked(composer.entry, composer.library, composer.compose([*hydras, *one]))
    task = partial(job, composer.entry, composer.library, run)
    batches = composer.hydra.multirun(composer.config_name, task, [*words, "hydra.mode=MULTIRUN"])
    ended = [done.return_value for batch in batches or () for done in batch]
    failed = {number: error for number, error in enumerate(ended) if error is not None}
    if failed:
        told = "; ".join(f"job {number}: {error}" for number, error in failed.items())
        raise type(next(iter(failed.values())))(f"{len(failed)} of {len(ended)} jobs failed: {told}")


def _sweep_folder(override: Override) -> str:
    """A word of a sweep; the one `run_dir` of all its jobs is the folder of the sweep, in which each has its own."""
    if override.key_or_group != "run_dir" or override.is_sweep_override() or override.is_delete():
        return str(override.input_line)
    folder = override.value()
    if folder is None or "${" in str(folder):
        return str(override.input_line)
    return "hydra.sweep.dir=" + QuotedString(home(str(folder)), Quote.double).with_quotes()


# -- help ---


def help_text(composer: Composer, config: DictConfig) -> str:
    """What an entry point does, its groups and their choices, its experiments, every key and its value."""
    entry, library, schema = composer.entry, composer.library, ENTRIES[composer.entry]
    groups = [group for group in library.groups() if group in types(schema) and group != "exp"]
    lines = [(schema.__doc__ or "").strip(), "", f"  {USAGE.format(entry=entry)}", ""]
    lines += ["Options: Hydra's: --cfg job (print the configuration), --multirun (-m), --config-dir DIR (configs of"]
    lines += ["your own), --info, --hydra-help and more in its manual, https://hydra.cc", ""]
    lines += ["Groups (group=choice):"]
    lines += [f"  {group:10} {', '.join(library.choices(group))}" for group in groups]
    lines += ["", "Experiments (+exp=NAME):"]
    lines += [f"  {name:30} {_headline(file)}" for name, file in library.experiments(entry).items()]
    values = OmegaConf.to_container(config)
    return "\n".join([*lines, "", "Keys (key=value) and their values now:", *_keys(schema, values)])


USAGE = "sevila {entry} +exp=NAME [group=choice ...] [key=value ...]"


def _headline(file: Path) -> str:
    """The first comment of a yaml file that is no directive of Hydra's."""
    for line in read_text(file).splitlines():
        if line.startswith("#") and "@package" not in line:
            return line.lstrip("# ")
    return ""


def _keys(schema: type, values: Any, indent: str = "  ") -> Iterator[str]:
    """The keys of a schema as lines of yaml, each with what it is for."""
    kinds = types(schema)
    for item in fields(schema):
        if item.name == "entry":  # a file's, not a user's
            continue
        group = nested(kinds[item.name])
        value = "" if group else f" {_inline(values[item.name])}"
        yield f"{indent}{item.name}:{value}".ljust(44) + f"  # {item.metadata['help']}"
        if group:
            yield from _keys(kinds[item.name], values[item.name], indent + "  ")


def _inline(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, allow_unicode=True, width=10**9)
    return text.removesuffix("\n").removesuffix("\n...")
