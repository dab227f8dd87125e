"""Heads in folders and on the Hub: a local round trip, a Hub that is a folder, and no Hub at all."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import huggingface_hub
import pytest
import torch
from huggingface_hub.errors import RepositoryNotFoundError

from sevila import api, predict
from sevila.checkpoints import backbone as backbones
from sevila.checkpoints.heads import (
    find_head,
    from_pretrained,
    load_head,
    model_card,
    push_to_hub,
    save_head,
    save_pretrained,
)
from sevila.errors import UserError
from sevila.model.backbone import Backbone
from sevila.model.head import Head


@pytest.fixture(scope="module")
def tiny() -> Backbone:
    return backbones.load()


@pytest.fixture
def heads(tiny: Backbone) -> dict[str, Head]:
    """Two heads that differ from each other and from the zero-shot one."""
    made = {role: load_head("zeroshot", role, tiny) for role in ("localizer", "answerer")}
    for shift, head in enumerate(made.values(), start=1):
        head.queries.data += shift
    return made


def same(one: Head, other: Head) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


class Hub:
    """Repositories as folders, through the functions of huggingface_hub that the library calls."""

    def __init__(self, root: Path) -> None:
        self.root, self.private = root, dict[str, bool]()

    def create_repo(self, repo_id: str, private: bool, exist_ok: bool) -> str:
        assert exist_ok
        self.private.setdefault(repo_id, private)
        (self.root / repo_id / "main").mkdir(parents=True, exist_ok=True)
        return f"https://huggingface.co/{repo_id}"

    def upload_folder(self, repo_id: str, folder_path: Path, allow_patterns: list[str]) -> None:
        for name in allow_patterns:
            shutil.copy(folder_path / name, self.root / repo_id / "main" / name)

    def snapshot_download(
        self,
        repo_id: str,
        allow_patterns: list[str],
        revision: str | None = None,
        local_dir: Path | None = None,
    ) -> str:
        folder = self.root / repo_id / (revision or "main")
        if not folder.is_dir():
            raise OSError(f"404 Client Error.\n\n{repo_id} at {revision} is not there")
        if local_dir is None:
            return str(folder)
        for name in allow_patterns:
            if (folder / name).is_file():
                shutil.copy(folder / name, local_dir / name)
        return str(local_dir)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    hub = Hub(tmp_path / "hub")
    for name in ("create_repo", "upload_folder", "snapshot_download"):
        monkeypatch.setattr(huggingface_hub, name, getattr(hub, name))
    return hub


def test_a_folder_round_trip(tiny: Backbone, heads: dict[str, Head], tmp_path: Path) -> None:
    for role, head in heads.items():
        save_pretrained(tmp_path / "mine", head, tiny, role, {"exp": f"my {role}"})
    names = {"localizer.safetensors", "localizer.json", "answerer.safetensors", "answerer.json", "README.md"}
    assert {file.name for file in (tmp_path / "mine").iterdir()} == names
    for role, head in heads.items():
        assert same(from_pretrained(tmp_path / "mine", role, tiny), head)
    model = api.SeViLA.load("tiny", str(tmp_path / "mine"), str(tmp_path / "mine")).model
    assert same(model.localizer.head, heads["localizer"]) and same(model.answerer.head, heads["answerer"])
    with pytest.raises(UserError, match="a local path has no revision v1"):
        from_pretrained(tmp_path / "mine", "localizer", tiny, revision="v1")


def test_the_card_says_what_it_knows(tiny: Backbone, heads: dict[str, Head], tmp_path: Path) -> None:
    save_pretrained(tmp_path, heads["localizer"], tiny, "localizer", {"exp": "synthetic_pretrain", "seed": 3})
    card = (tmp_path / "README.md").read_text()
    assert f"| localizer | 646,528 | `tiny` | `{tiny.fingerprint}` |" in card
    assert '"exp": "synthetic_pretrain"' in card and "base_model" not in card and "answerer" not in card
    assert f'sevila predict VIDEO "question" option option \\\n    --model tiny --localizer {tmp_path}\n' in card
    description = {
        "head": heads["answerer"].config.to_dict(),
        "backbone": {"source": "Salesforce/blip2-flan-t5-xl", "fingerprint": "0123456789ab"},
    }
    card = model_card({"answerer": description}, "me/heads")
    head = card.split("---")[1]
    assert "base_model: Salesforce/blip2-flan-t5-xl\n" in head
    command = card.split("```\n")[-2].replace("\\\n", "")
    given = predict.parser().parse_args(shlex.split(command)[2:])
    assert (given.model, given.answerer, given.localizer) == ("Salesforce/blip2-flan-t5-xl", "me/heads", "zeroshot")
    assert (given.video, given.question, given.options) == ("VIDEO", "question", ["option", "option"])


def test_through_a_hub(tiny: Backbone, heads: dict[str, Head], tmp_path: Path, hub: Hub) -> None:
    """Two runs, one head each, end in one repository."""
    for role, head in heads.items():
        save_head(tmp_path / role / f"{role}.safetensors", head, tiny, role, {"run": role})
        (tmp_path / role / "metrics.json").write_text("{}")  # a run's other files stay at home
        assert push_to_hub("me/heads", tmp_path / role, private=True) == "https://huggingface.co/me/heads"
    names = {"localizer.safetensors", "localizer.json", "answerer.safetensors", "answerer.json", "README.md"}
    assert {file.name for file in (hub.root / "me/heads/main").iterdir()} == names
    assert hub.private == {"me/heads": True}
    card = (hub.root / "me/heads/main/README.md").read_text()
    assert "| localizer | 646,528 |" in card and "| answerer | 646,528 |" in card and '"run": "answerer"' in card
    for role, head in heads.items():
        assert same(from_pretrained("me/heads", role, tiny), head)
        assert same(load_head("me/heads", role, tiny), head)
    shutil.copytree(hub.root / "me/heads/main", hub.root / "me/heads/v1")
    (hub.root / "me/heads/main/localizer.json").unlink()
    assert same(from_pretrained("me/heads", "localizer", tiny, revision="v1"), heads["localizer"])
    assert find_head("me/heads@v1", "localizer") == hub.root / "me/heads/v1/localizer.safetensors"
    with pytest.raises(UserError, match="no head file"):
        load_head("me/heads", "localizer", tiny)


def test_two_heads_at_once(tiny: Backbone, heads: dict[str, Head], tmp_path: Path, hub: Hub) -> None:
    for role, head in heads.items():
        save_pretrained(tmp_path / "mine", head, tiny, role)
    push_to_hub("me/heads", tmp_path / "mine")
    model = api.SeViLA.load("tiny", "me/heads", "me/heads").model
    assert same(model.localizer.head, heads["localizer"]) and same(model.answerer.head, heads["answerer"])
    assert "--localizer me/heads --answerer me/heads" in (hub.root / "me/heads/main/README.md").read_text()


def test_a_local_path_comes_first(
    tiny: Backbone, heads: dict[str, Head], tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_pretrained(tmp_path / "far", heads["localizer"], tiny, "localizer")
    push_to_hub("runs/R1", tmp_path / "far")
    monkeypatch.chdir(tmp_path)
    assert same(load_head("runs/R1", "localizer", tiny), heads["localizer"])
    save_head(Path("runs/R1/localizer.safetensors"), heads["answerer"], tiny, "localizer")
    assert same(load_head("runs/R1", "localizer", tiny), heads["answerer"])


def test_the_wrong_backbone_is_refused(tiny: Backbone, heads: dict[str, Head], tmp_path: Path, hub: Hub) -> None:
    class Other:
        source, fingerprint = "Salesforce/blip2-flan-t5-xl", "0123456789ab"

    save_pretrained(tmp_path / "far", heads["localizer"], Other(), "localizer")
    push_to_hub("me/heads", tmp_path / "far")
    for place in ("me/heads", str(tmp_path / "far")):
        with pytest.raises(UserError) as caught:
            from_pretrained(place, "localizer", tiny)
        assert str(caught.value) == (
            f"localizer={place}: made for the backbone Salesforce/blip2-flan-t5-xl (0123456789ab), "
            f"not for tiny ({tiny.fingerprint}); choose that model"
        )


def refused(call: Callable[[], object]) -> str:
    with pytest.raises(UserError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_without_a_connection(tiny: Backbone, heads: dict[str, Head], tmp_path: Path) -> None:
    """The tests run with HF_HUB_OFFLINE=1."""
    assert refused(lambda: from_pretrained("me/none", "localizer", tiny)) == (
        "localizer=me/none: no such run folder or head file, and not to be had from the Hub "
        "(not in the cache, and the Hub cannot be reached because HF_HUB_OFFLINE is set)"
    )
    save_pretrained(tmp_path, heads["localizer"], tiny, "localizer")
    assert refused(lambda: push_to_hub("me/none", tmp_path)).startswith("me/none: not uploaded (")


def test_from_the_cache_without_a_connection(
    tiny: Backbone, heads: dict[str, Head], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """huggingface_hub itself, over a cache as an earlier download left it."""
    from huggingface_hub import constants

    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "models--me--heads"
    save_pretrained(repository / "snapshots" / commit, heads["answerer"], tiny, "answerer")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    assert same(from_pretrained("me/heads", "answerer", tiny), heads["answerer"])
    assert same(from_pretrained("me/heads", "answerer", tiny, revision=commit), heads["answerer"])
    assert "that run trained the answerer" in refused(lambda: load_head("me/heads", "localizer", tiny))
    assert "not in the cache" in refused(lambda: from_pretrained("me/heads", "answerer", tiny, revision="v2"))


def test_a_repository_that_is_not_there(tiny: Backbone, hub: Hub) -> None:
    message = refused(lambda: load_head("me/none", "localizer", tiny))
    assert message.endswith("not to be had from the Hub (404 Client Error. me/none at None is not there)")
    assert issubclass(RepositoryNotFoundError, OSError)


@pytest.mark.parametrize("repo_id", ["heads", "a/b/c", "me/heads@v1", "/me/heads", "me/"])
def test_names_that_are_no_repository(repo_id: str, tmp_path: Path) -> None:
    assert refused(lambda: push_to_hub(repo_id, tmp_path)) == f"{repo_id}: a repository of the Hub is named OWNER/NAME"


def test_only_whole_heads_are_uploaded(tiny: Backbone, heads: dict[str, Head], tmp_path: Path, hub: Hub) -> None:
    assert re.search("holds no head to upload", refused(lambda: push_to_hub("me/heads", tmp_path)))
    save_pretrained(tmp_path, heads["answerer"], tiny, "answerer")
    save_head(tmp_path / "x" / "answerer.safetensors", heads["localizer"], tiny, "answerer")
    shutil.copy(tmp_path / "x" / "answerer.json", tmp_path / "answerer.json")
    assert "holds other weights" in refused(lambda: push_to_hub("me/heads", tmp_path))
    assert not hub.root.exists()
