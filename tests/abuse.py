"""Attack the library in small, and count what it survives: kills, damaged files, two runs at once, no room, bad input.

    python tests/abuse.py                              # everything, minutes
    python tests/abuse.py --kinds kills --kills 5      # less

Every run is a process of its own on a very small drawn world. A run survives where it ends with the bytes of an
undisturbed one, or with exit code 2 and one line that says why. Prints tried / survived per kind and each failure; the
exit code is 1 where there was one.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch

from bad_inputs import BadInputs
from sevila import convert, fit, predict, refine, score, store, train  # noqa: F401  (fit: once for all processes)
from sevila import eval as evaluation
from sevila.files import read_json
from sevila.run_folder import CONFIG, ENVIRONMENT, LOG
from sevila.synthetic.world import Recipe, make

ENTRIES = {
    "train": train.cli, "refine": refine.cli, "eval": evaluation.cli, "predict": predict.cli, "score": score.cli,
    "convert": convert.cli, "store": store.cli,
}  # fmt: skip
VIDEOS = {"train": 3, "val": 2, "test": 2, "moment_train": 2, "moment_val": 1}
QUICK = ["trainer.batch_size=4", "trainer.epochs=2", "trainer.log_every=1", "trainer.save_every=2", "frames.n=6"]
STAGES = {
    "pre-training": ["train", "+exp=synthetic_pretrain", "task.frames=3", *QUICK],
    "fine-tuning": ["train", "+exp=synthetic_forward", "selector.k=2", *QUICK],
    "refinement": ["refine", "+exp=synthetic_reverse", "selector.k=2", "task.frames=3", *QUICK],
    "evaluation": ["eval", "+exp=synthetic_eval", "selector.k=2", "frames.n=8"],
}
KEPT = re.compile(r"(.*\.safetensors|metrics\.jsonl?|keyframes\.jsonl|pseudo_labels\.jsonl|predictions\.jsonl)")
PATIENCE = 300.0  # seconds for one run
KILLED = -signal.SIGKILL


@dataclass
class Table:
    """What was tried and what it survived, kind by kind; failures in words."""

    counts: dict[str, list[int]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def note(self, kind: str, survived: bool, what: str) -> None:
        count = self.counts.setdefault(kind, [0, 0])
        count[0] += 1
        count[1] += survived
        if not survived:
            self.failures.append(f"{kind}: {what}")
            print(f"FAILED {self.failures[-1]}", flush=True)

    def show(self) -> None:
        print(f"\n{'kind':32} tried survived")
        for kind, (tried, survived) in self.counts.items():
            print(f"{kind:32} {tried:5} {survived:8}")
        print("", *(self.failures or ["no failure"]), sep="\n", flush=True)


@dataclass
class Process:
    """A run that is under way in `cwd`; what it prints goes to a file."""

    pid: int
    output: Path

    def wait(self, seconds: float = PATIENCE) -> int | None:
        """The exit code, negative for a signal; None where it goes on after so long."""
        until = time.monotonic() + seconds
        while True:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                return os.waitstatus_to_exitcode(status)
            if time.monotonic() > until:
                return None
            time.sleep(0.005)

    def alive(self) -> bool:
        """Whether it goes on; its exit code stays to be asked for."""
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None

    def end(self) -> int:
        """The exit code; a run that hangs is killed."""
        code = self.wait()
        if code is None:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            return KILLED
        return code

    def refusal(self) -> str | None:
        """The one line that it ended with; None where there were more, or others."""
        lines = list(filter(None, self.output.read_text(errors="replace").splitlines()))
        told = [line for line in lines if line.startswith("sevila: error: ")]
        return told[0] if len(told) == 1 and lines[-1] == told[0] and "Traceback" not in "\n".join(lines) else None


class Attacks:
    """The kinds of attack, all in one folder, which is thrown away."""

    def __init__(self, folder: Path, kills: int, seed: int) -> None:
        self.folder, self.kills, self.random, self.table = folder, kills, random.Random(seed), Table()
        self.number = 0
        world = folder / "world"
        make(Recipe(**{f"{split}_videos": number for split, number in VIDEOS.items()}), world, workers=1)
        self.world = [f"data.root={world}", *(f"data.{split}_videos={number}" for split, number in VIDEOS.items())]
        self.whole: dict[str, dict[str, bytes]] = {}
        self.seconds: dict[str, float] = {}

    # --- runs ---

    def new(self, name: str) -> Path:
        self.number += 1
        return self.folder / f"{name}-{self.number}"

    def start(
        self,
        entry: str,
        words: list[str],
        cwd: Path | None = None,
        file_bytes: int | None = None,
        environment: dict[str, str] | None = None,
    ) -> Process:
        """Fork a run off: all is imported, so that it begins at once. `file_bytes`: what a file of its may have."""
        output = self.new("output")
        pid = os.fork()
        if pid == 0:
            os.chdir(cwd or self.folder)
            out = os.open(output, os.O_WRONLY | os.O_CREAT)
            _ = os.dup2(out, 1), os.dup2(out, 2)
            torch.set_num_threads(1)
            os.environ.update(environment or {})
            if file_bytes is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, resource.RLIM_INFINITY))
            code = 1
            try:
                code = ENTRIES[entry](words)
            except BaseException:  # no run raises anything, when it is only killed
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        return Process(pid, output)

    def stage(self, name: str, run: Path, *words: str, **options: object) -> Process:
        entry, *stage = STAGES[name]
        return self.start(entry, [*stage, *self.world, f"run_dir={run}", *words], **options)

    def pair(self, name: str, run: Path, *words: str) -> list[Process]:
        """The same in two processes that work together, and nobody who watches over them."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            meet = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "GLOO_SOCKET_IFNAME": "lo"}
        ranks = [{"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"} for rank in range(2)]
        return [self.stage(name, run, *words, environment={**meet, **rank}) for rank in ranks]

    def undisturbed(self, name: str) -> dict[str, bytes]:
        """What a stage leaves when nobody disturbs it."""
        if name not in self.whole:
            run, started = self.new(name), time.monotonic()
            code = self.stage(name, run).end()
            assert code == 0, f"{name} fails undisturbed: code {code}"
            self.whole[name], self.seconds[name] = outcome(run), time.monotonic() - started
        return self.whole[name]

    # --- kinds ---

    def kills_(self) -> None:
        """SIGKILL at random moments; the same command goes on, until it ends with the undisturbed bytes."""
        for name in STAGES:
            whole, kind = self.undisturbed(name), f"kill -9, {name}"
            run, killed, before = self.new("killed"), 0, self.table.counts.get(kind, [0])[0]
            while before + killed < self.kills or killed:
                process = self.stage(name, run, "resume=true")
                last = before + killed >= self.kills
                code = process.wait(PATIENCE if last else self.random.uniform(0, 1.1 * self.seconds[name]))
                if code is None:
                    os.kill(process.pid, signal.SIGKILL)
                    os.waitpid(process.pid, 0)
                    killed += 1
                    continue
                same = code == 0 and outcome(run) == whole and not left_over(run)
                for _ in range(killed):
                    self.table.note(kind, same, f"{run} after {killed} kills: code {code}, {process.output}")
                before, killed, run = before + killed, 0, self.new("killed")

    def pairs(self) -> None:
        """SIGKILL of one of two processes of a training: the other ends in a minute; resumed, both end alike."""
        for name in ("pre-training", "fine-tuning", "refinement"):
            whole, started = self.new("whole"), time.monotonic()
            codes = [process.end() for process in self.pair(name, whole)]
            assert codes == [0, 0], f"{name} fails undisturbed: codes {codes}"
            seconds, run, told = time.monotonic() - started, self.new("killed"), []
            for _ in range(self.kills):
                before, two = started_at(run), self.pair(name, run, "resume=true")
                self.random.shuffle(two)
                while started_at(run) == before and all(process.alive() for process in two):
                    time.sleep(0.005)  # before they have met only torchrun could tell
                time.sleep(self.random.uniform(0, seconds / 2))
                os.kill(two[0].pid, signal.SIGKILL)
                told.append(two[1].wait(60.0))
                two[0].end()
            codes = [process.end() for process in self.pair(name, run, "resume=true")]
            same = codes == [0, 0] and outcome(run) == outcome(whole) and not left_over(run)
            for code in told:
                fine = same and code is not None and code >= 0
                self.table.note(f"one of two killed, {name}", fine, f"{run}: the other {code}, resumed {codes}")

    def damage(self) -> None:
        """Every file that a resumed run reads: a byte flipped, and cut in half."""
        name = "refinement"
        self.undisturbed(name)
        original = self.new("whole")
        self.stage(name, original).end()
        unread = {"environment.json", "report.html", "metrics.json", LOG, "localizer.safetensors", "localizer.json"}
        for file in sorted(
            f.relative_to(original) for f in original.rglob("*") if f.is_file() and f.name not in unread
        ):
            for how, damaged in self._damages((original / file).read_bytes()):
                run = self.new("damaged")
                shutil.copytree(original, run)
                (run / file).write_bytes(damaged)
                process = self.stage(name, run, "resume=true")
                code, line = process.end(), process.refusal()
                named = code == 2 and line is not None and str(file.name) in line
                same = code == 0 and outcome(run) == self.whole[name]
                # of a configuration any key may be flipped to another value: then the refusal names the key
                fine = named or same or (file.name == CONFIG and code == 2 and line is not None)
                self.table.note("damaged checkpoint", fine, f"{file} {how}: code {code}, {process.output}")
                shutil.rmtree(run)

    def store(self) -> None:
        """Every file of a store likewise: it is noticed and made again, and the run ends with the same bytes."""
        name, original = "refinement", self.new("store")
        whole = self.undisturbed(name)
        self.stage(name, self.new("filling"), f"store.folder={original}").end()
        for file in sorted(f.relative_to(original) for f in original.rglob("*") if f.is_file() and f.name != ".lock"):
            for how, damaged in self._damages((original / file).read_bytes()):
                store, run = self.new("damaged"), self.new("run")
                shutil.copytree(original, store)
                (store / file).write_bytes(damaged)
                process = self.stage(name, run, f"store.folder={store}")
                code, line = process.end(), process.refusal()
                named = code == 2 and line is not None and file.name in line
                fine = named or (code == 0 and outcome(run) == whole)
                self.table.note("damaged store", fine, f"{file} {how}: code {code}, {process.output}")
                shutil.rmtree(store)

    def _damages(self, content: bytes) -> Iterator[tuple[str, bytes]]:
        place = self.random.randrange(len(content))
        flipped = bytes([content[place] ^ (1 << self.random.randrange(8))])
        yield f"flipped at {place}", content[:place] + flipped + content[place + 1 :]
        yield "cut in half", content[: len(content) // 2]

    def together(self) -> None:
        """Two runs at once: in one second without run_dir, in one folder with other seeds, resumed beside a living."""
        whole = self.undisturbed("evaluation")
        for _ in range(3):
            cwd = self.new("here")
            cwd.mkdir()
            entry, *words = STAGES["evaluation"]
            pair = [self.start(entry, [*words, *self.world], cwd=cwd) for _ in range(2)]
            codes = [process.end() for process in pair]
            runs = list((cwd / "runs/synthetic_eval").glob("*"))
            fine = codes == [0, 0] and len(runs) == 2 and all(outcome(run) == whole for run in runs)
            self.table.note("two at once, no run_dir", fine, f"{cwd}: codes {codes}, {len(runs)} folders")

            run = self.new("both")
            pair = [self.stage("refinement", run, f"seed={seed}") for seed in (1, 2)]
            codes = [process.end() for process in pair]
            loser = codes.index(2) if 2 in codes else 0
            seed = re.search(r"^seed: (\d+)$", (run / CONFIG).read_text(), re.MULTILINE)
            head = (run / "localizer.json").exists() and read_json(run / "localizer.json")["training"]["seed"]
            fine = sorted(codes) == [0, 2] and pair[loser].refusal() is not None and head == int(seed[1]) == 2 - loser
            self.table.note("two at once, one run_dir", fine, f"{run}: codes {codes}, config {seed[0]}, head {head}")

            run = self.new("living")
            living = self.stage("pre-training", run)
            while not (run / CONFIG).exists() and living.wait(0) is None:
                time.sleep(0.005)
            os.kill(living.pid, signal.SIGSTOP)  # or it might end before the other has looked
            second = self.stage("pre-training", run, "resume=true")
            code, line = second.end(), second.refusal()
            os.kill(living.pid, signal.SIGCONT)
            same = living.end() == 0 and outcome(run) == self.undisturbed("pre-training")
            fine = same and code == 2 and line is not None and f"process {living.pid} on " in line
            self.table.note("resumed beside a living run", fine, f"{run}: code {code}, {line}")

    def full(self) -> None:
        """No room: every file limited, and where root can mount one a small file system; then there is room again."""
        for name in STAGES:
            whole = self.undisturbed(name)
            sizes = sorted({len(content) for content in whole.values()} | {20_000})
            for size in [size for size in sizes[:-1] if size > 4_000]:  # below, what it prints has no room either
                run = self.new("limited")
                process = self.stage(name, run, file_bytes=size)
                self._after_no_room(f"file limit, {name}", name, run, process, f"{size} bytes")
        disk = self.new("disk")
        disk.mkdir()
        if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk]).returncode:
            print("no small file system here: only root can mount one", flush=True)
            return
        try:
            for name in STAGES:
                for size in ("4k", "16k", "64k", "600k", "1500k"):
                    subprocess.run(["mount", "-o", f"remount,size={size}", disk], check=True)
                    process = self.stage(name, disk / "run")
                    code = process.wait()
                    subprocess.run(["mount", "-o", "remount,size=100m", disk], check=True)
                    self._after_no_room(f"full disk, {name}", name, disk / "run", process, size, code)
                    shutil.rmtree(disk / "run", ignore_errors=True)
        finally:
            subprocess.run(["umount", disk])

    def _after_no_room(
        self, kind: str, name: str, run: Path, process: Process, size: str, code: int | None = None
    ) -> None:
        """The run was refused in a line that names a path of its, or had enough; resumed with room it is as whole."""
        code = process.end() if code is None else code
        line = process.refusal()
        told = code == 0 or (code == 2 and line is not None and str(run) in line)
        again = self.stage(name, run, "resume=true")
        same = again.end() == 0 and outcome(run) == self.whole[name] and not left_over(run)
        outputs = f"{process.output} {again.output}"
        self.table.note(kind, told and same, f"{size}: code {code}, {line}; resumed alike: {same}; {outputs}")

    def inputs(self) -> None:
        """Bad input: exit code 2, one line, and nothing is written."""
        for number, (entry, words) in enumerate(BadInputs(self.new("bad"), self.world).all()):
            cwd = self.folder / f"input-{number}"
            cwd.mkdir()
            process = self.start(entry, words, cwd=cwd)
            fine = process.end() == 2 and process.refusal() is not None and list(cwd.iterdir()) == []
            self.table.note("bad input", fine, f"{entry} {words}: {process.output}")


def started_at(run: Path) -> float:
    """When the last run in a folder began; 0 where there was none."""
    file = run / ENVIRONMENT
    return file.stat().st_mtime if file.exists() else 0.0


def outcome(run: Path) -> dict[str, bytes]:
    """The files of a run that must be the same to the byte."""
    found = (file for file in run.rglob("*") if file.is_file() and KEPT.fullmatch(file.name))
    return {str(file.relative_to(run)): file.read_bytes() for file in found}


def left_over(run: Path) -> list[str]:
    """What a finished run must not hold any more."""
    return [file.name for file in run.rglob("*") if ".tmp-" in file.name or file.name in (".lock", "unfinished")]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = ["kills", "pairs", "damage", "store", "together", "full", "inputs"]
    parser.add_argument("--kinds", nargs="+", choices=kinds, default=kinds)
    parser.add_argument("--kills", type=int, default=20, metavar="N", help="a stage (20)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments and places (0)")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="work in this new folder and leave it")
    given = parser.parse_args()
    folder = given.keep or Path(tempfile.mkdtemp(prefix="sevila-abuse-"))
    folder.mkdir(exist_ok=given.keep is None)
    attacks = Attacks(folder.resolve(), given.kills, given.seed)
    methods: dict[str, Callable[[], None]] = {
        "kills": attacks.kills_, "pairs": attacks.pairs, "damage": attacks.damage, "store": attacks.store,
        "together": attacks.together, "full": attacks.full, "inputs": attacks.inputs,
    }  # fmt: skip
    try:
        for kind in given.kinds:
            started = time.monotonic()
            methods[kind]()
            print(f"{kind}: {time.monotonic() - started:.0f} s", flush=True)
    finally:  # also what an interrupted call has tried
        attacks.table.show()
    if given.keep is None and not attacks.table.failures:
        shutil.rmtree(folder)
    return 1 if attacks.table.failures else 0


if __name__ == "__main__":
    sys.exit(main())
