from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from sevila.files import read_json
from sevila.processes import GONE
from sevila.training import checkpoint
from sevila.training.device import make_accelerator


@pytest.mark.slow
def test_two_processes_do_what_one_does_with_the_whole_batch(toy_parallel, torchrun, tmp_path):
    """Gradients, and the logged averages, are means over the processes; the first one's weights start.

    Runs before it in the same processes have failed, each for a fault of one process, of which the other was told.
    """
    torchrun(str(Path(__file__).with_name("toy_parallel.py")), str(tmp_path))
    check_what_was_told(*(read_json(tmp_path / f"{rank}.json") for rank in range(2)))
    two = torch.load(tmp_path / "result.pt", weights_only=True)
    task, records = toy_parallel.run(tmp_path / "one", make_accelerator("cpu"))
    carried, _ = toy_parallel.run(tmp_path / "one_carried", make_accelerator("cpu"), carry_over=True)
    for key, head in (("head", task.head), ("carried", carried.head)):
        for name, tensor in head.state_dict().items():
            assert torch.allclose(two[key][name], tensor, rtol=0, atol=1e-6), name
    assert not torch.equal(two["head"]["0.weight"], two["carried"]["0.weight"])
    assert [r["step"] for r in two["records"]] == [r["step"] for r in records] == [2, 3, 4, 6, 6]
    assert [r["train/loss"] for r in two["records"] if "lr" in r] == pytest.approx(
        [r["train/loss"] for r in records if "lr" in r], rel=1e-5
    )
    assert two["records"][0]["train/rank"] == 0.5
    last = checkpoint.find(tmp_path / "run", "last")
    assert len(torch.load(last / "training.pt", weights_only=True)["rngs"]) == 2


def check_what_was_told(first: dict[str, list[str]], second: dict[str, list[str]]) -> None:
    """Of each fault the process that has it raises its own error, the other a UserError that says the same."""
    unreadable = ["UserError", "video v1.mp4: cannot be read"]
    assert first["loader"] == second["loader"] == unreadable
    kind, line = first["loss"]
    assert kind == "UserError" and line.startswith("step 2: the loss is nan on the questions q1-2; look at these rows")
    assert second["loss"] == first["loss"]
    assert second["memory"] == ["MemoryError", ""]
    assert first["memory"][0] == "UserError" and first["memory"][1].startswith("Cannot allocate memory; give it more")
    assert first["disk"] == ["OSError", "[Errno 28] No space left on device: 'run/x'"]
    assert second["disk"] == ["UserError", "run/x: No space left on device; make room or raise the limit"]
    same = "start all of them with the same words and the same files"
    differ = ["UserError", f"the processes differ in batches_per_epoch: 5 in number 0, 4 in number 1; {same}"]
    assert first["data"] == second["data"] == differ
    differ = ["UserError", f"the processes differ in trainer.lr: 0.1 in number 0, 0.2 in number 1; {same}"]
    assert first["words"] == second["words"] == differ
    division = "integer division or modulo by zero"
    own, others = (
        ["ZeroDivisionError", division],
        ["UserError", f"another process failed: ZeroDivisionError: {division}"],
    )
    assert (first["busy"], second["busy"]) == (others, own)
    assert (first["first"], second["first"]) == (own, others)


@pytest.mark.slow
@pytest.mark.parametrize(("fault", "codes", "line"), [("kill", [1, -9], GONE), ("stuck", [2, 2], "no such file")])
def test_the_one_that_is_left_ends_too(tmp_path, fault, codes, line):
    """Nobody watches over them, as torchrun does: it ends with a line that says what it knows."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, str(Path(__file__).with_name("toy_parallel.py")), str(tmp_path), fault]
    own = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "GLOO_SOCKET_IFNAME": "lo"}
    own["PYTHONPATH"] = os.pathsep.join([os.getcwd(), *filter(None, sys.path)])
    started = []
    for rank in range(2):
        environment = {**os.environ, **own, "RANK": str(rank), "LOCAL_RANK": str(rank)}
        started.append(subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment))
    said = [process.communicate(timeout=120)[1] for process in started]
    assert [process.returncode for process in started] == codes, said
    assert said[0].strip().endswith(f"sevila: error: {line}")


AT_THE_END = """
import atexit, sys, threading, time
from torch import distributed
from sevila import processes

def refuse(thread):
    raise RuntimeError("can't create new thread at interpreter shutdown")

def refuse_threads():
    threading.Thread.start = refuse

def stuck():
    time.sleep(60)

folder, how = sys.argv[1:]
distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=0, world_size=1)
atexit.register(lambda: print("left" if not distributed.is_initialized() else "not left"))
atexit.register(processes.part)
atexit.register(refuse_threads)
if how == "stuck":
    processes.LEAVE, distributed.destroy_process_group = 0.2, stuck
"""


@pytest.mark.parametrize(("how", "code", "said"), [("well", 0, "left\n"), ("stuck", 1, "")])
def test_the_group_is_left_at_the_end_of_python(tmp_path, how, code, said):
    """Though Python, from 3.12 on, begins no threads then; one that cannot be left holds nobody."""
    command = [sys.executable, "-c", AT_THE_END, str(tmp_path), how]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50)
    assert (done.returncode, done.stdout, done.stderr) == (code, said, "")
