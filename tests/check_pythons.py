"""Does the wheel install and answer on every Python, with the lowest and the highest versions that it allows?

    python tests/check_pythons.py --video FILM.mp4 [--pythons 3.11 3.12] [--sets lowest highest] [--out DIR] [--keep]

Builds the wheel once. Then, for each Python at hand (`python3.12` on the PATH, or one of pyenv's) and each set, it
makes a fresh environment, installs the wheel there, and asks about the film from a folder outside of the checkout.

lowest    every package that pyproject.toml names at its lower bound, torch too
highest   the newest of each that the bounds allow, with the torch of constraints.txt

Not part of the tests: it asks the package registry, and torch comes with CUDA where there is no other build, 5 GB an
environment (removed afterwards, unless --keep). A line a combination; exit code 1 if one failed, or if none was tried.
The bounds in pyproject.toml answered so on Python 3.11.7, 3.12.1 and 3.13.0 (pyenv's), both sets, on x86-64 Linux. The
highest has PyAV 19.0.2, but on Python 3.11 PyAV 18.1.0.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from email.parser import HeaderParser
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
PYTHONS = ("3.11", "3.12", "3.13")
SETS = ("lowest", "highest")
SHOWN = ("av", "transformers", "numpy", "torch", "huggingface_hub", "matplotlib", "pillow")
QUESTION = ("what is seen?", "a red star", "a blue cup", "nothing of both", "--n-frames", "8", "--k", "2")
INSTALL_S, ANSWER_S = 3600, 900  # seconds that each may take


@dataclass(frozen=True)
class Result:
    """What a combination came to; `message` is "" where it answered, else the last line of what failed."""

    versions: dict[str, str]
    seconds: float
    message: str = ""

    @property
    def line(self) -> str:
        versions = " ".join(f"{name} {self.versions[name]}" for name in SHOWN if name in self.versions)
        return f"{'FAILED: ' + self.message if self.message else 'answers'} ({self.seconds:.0f} s; {versions or '-'})"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--video", type=Path, required=True, help="a film that can be decoded")
    parser.add_argument("--pythons", nargs="+", default=PYTHONS, metavar="3.N")
    parser.add_argument("--sets", nargs="+", default=SETS, choices=SETS)
    parser.add_argument("--out", type=Path, help="folder of the environments and logs (default: a temporary one)")
    parser.add_argument("--keep", action="store_true", help="keep the environments; needs --out")
    given = parser.parse_args(argv)
    if given.keep and given.out is None:
        parser.error("--keep needs --out FOLDER")
    video = given.video.resolve()
    if not video.is_file():
        parser.error(f"--video {given.video}: no such file")
    with tempfile.TemporaryDirectory() as temporary:
        out = (given.out or Path(temporary)).resolve()
        out.mkdir(parents=True, exist_ok=True)
        wheel = build_wheel(out)
        results = []
        for version in given.pythons:
            python = find_python(version)
            if python is None:
                print(f"Python {version}: not found on the PATH or among pyenv's", flush=True)
                continue
            for name in given.sets:
                folder = out / f"{version}-{name}"
                results.append(check(python, folder, wheel, constraints(wheel, name, out), video))
                print(f"Python {version} ({python}), {name}: {results[-1].line}", flush=True)
                if not given.keep:
                    shutil.rmtree(folder, ignore_errors=True)
    return 0 if results and not any(result.message for result in results) else 1


def build_wheel(out: Path) -> Path:
    """The wheel of this checkout, built by the Python that runs this script."""
    shutil.rmtree(out / "wheel", ignore_errors=True)
    words = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(out / "wheel")]
    subprocess.run([*words, str(REPOSITORY)], check=True)
    (wheel,) = (out / "wheel").glob("*.whl")
    return wheel


def find_python(version: str) -> Path | None:
    """An interpreter of a minor version such as "3.12" that starts: that on the PATH, or the newest of pyenv's."""
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    named = shutil.which(f"python{version}")
    candidates = [Path(named)] if named else []
    patch = lambda folder: int(re.sub(r"\D", "", folder.name.rpartition(".")[2]) or 0)  # noqa: E731
    candidates += [folder / "bin" / "python" for folder in sorted(root.glob(f"versions/{version}.*"), key=patch)[::-1]]
    for python in candidates:
        code = "import sys; print('%d.%d' % sys.version_info[:2], sys.executable)"
        done = subprocess.run([str(python), "-c", code], capture_output=True, text=True)
        if done.returncode == 0 and done.stdout.split(maxsplit=1)[0] == version:  # pyenv's shims start not always
            return Path(done.stdout.split(maxsplit=1)[1].strip())
    return None


def requirements(wheel: Path) -> list[str]:
    """What the wheel needs without its extras, as in "av>=14,<20"."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        described = HeaderParser().parsestr(archive.read(name).decode("utf-8"))
    return [line for line in described.get_all("Requires-Dist", []) if "extra ==" not in line]


def lowest(needed: Sequence[str]) -> list[str]:
    """Each requirement at its lower bound: "av>=14,<20" -> "av==14". ValueError for one without."""
    out = []
    for line in needed:
        match = re.match(r"(?P<name>[\w.-]+)[^;]*>=(?P<version>[\w.]+)", line)
        if match is None:
            raise ValueError(f"{line}: has no lower bound")
        out.append(f"{match['name']}=={match['version']}")
    return out


def constraints(wheel: Path, name: str, out: Path) -> Path:
    """The file of constraints that a set is installed with."""
    if name == "highest":
        return REPOSITORY / "constraints.txt"
    file = out / "lowest.txt"
    file.write_text("".join(f"{line}\n" for line in lowest(requirements(wheel))), encoding="utf-8")
    return file


def check(python: Path, folder: Path, wheel: Path, constraint: Path, video: Path) -> Result:
    """Install into a fresh environment and ask; all output goes to FOLDER.log."""
    started = time.monotonic()
    shutil.rmtree(folder, ignore_errors=True)
    own = folder / "bin" / "python"
    pip = [str(own), "-m", "pip"]
    names = ",".join(re.match(r"[\w.-]+", line)[0] for line in requirements(wheel))  # nothing of it is compiled here
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
    steps = [
        ([str(python), "-m", "venv", str(folder)], INSTALL_S),
        ([*pip, "install", "--no-compile", f"--only-binary={names}", "-c", str(constraint), str(wheel)], INSTALL_S),
        ([*pip, "check"], INSTALL_S),
        ([str(own), "-m", "sevila.predict", str(video), *QUESTION], ANSWER_S),
    ]
    with tempfile.TemporaryDirectory() as elsewhere, folder.with_name(f"{folder.name}.log").open("w+") as log:
        for words, limit in steps:
            log.write(f"\n$ {' '.join(words)}\n")
            log.flush()
            try:
                code = subprocess.run(
                    words, cwd=elsewhere, env=environment, stdout=log, stderr=log, timeout=limit
                ).returncode
            except subprocess.TimeoutExpired:
                code = -1
            if code:
                log.seek(0)
                last = (log.read().strip().splitlines() or ["no message"])[-1]
                return Result(installed(own), time.monotonic() - started, f"{' '.join(words[1:4])}: {last.strip()}")
    return Result(installed(own), time.monotonic() - started)


def installed(python: Path) -> dict[str, str]:
    """Versions of the packages of an environment; empty where it has none."""
    if not python.exists():
        return {}
    done = subprocess.run([str(python), "-m", "pip", "list", "--format=freeze"], capture_output=True, text=True)
    pairs = (line.partition("==") for line in done.stdout.splitlines() if "==" in line)
    return {name.lower().replace("-", "_"): version for name, _, version in pairs}


if __name__ == "__main__":
    raise SystemExit(main())
