"""The walk explorer: frames with their places arrive coarse to fine, a stop leaves nothing behind, films are written."""

from __future__ import annotations

import pytest

from sdkit.errors import InvalidSettings
from sdkit.widgets import WalkExplorer

PATIENCE = 120


@pytest.fixture
def panel(tiny):
    made = WalkExplorer(tiny, ["a cat", "a dog"], frames=7, steps=2, pacing="linear")
    assert made.worker.join(PATIENCE)
    yield made
    made.close()


def test_frames_have_their_places_and_arrive_coarse_to_fine(tiny):
    seen = []
    panel = WalkExplorer(tiny, ["a cat", "a dog"], frames=9, steps=1, pacing="linear")
    panel.worker.join(PATIENCE)
    panel.observe(
        lambda change: seen.append([f["at"] for f in change.new.get("frames", ())]), "step"
    )
    panel._receive(
        panel,
        {
            "do": "set",
            "keyframes": [{"prompt": "a cat", "seed": 1}, {"prompt": "a fox", "seed": 2}],
            "options": {},
        },
        [],
    )
    assert panel.worker.join(PATIENCE)
    assert panel.error is None
    arrived = [places for places in seen if places]
    assert {0.0, 1.0} <= set(arrived[0]), "the ends come first"
    assert all(places == sorted(places) for places in arrived)
    assert [round(8 * f["at"]) for f in panel.view["frames"]] == list(range(9))
    assert [k.seed for k in panel.keyframes] == [1, 2]
    panel.close()


def test_the_code_is_the_walk(panel, tiny):
    import sdkit

    again = eval(panel.view["code"], {"sdkit": sdkit, "pipe": tiny})
    assert again.plan.keyframes == panel.walk.plan.keyframes
    assert again.places == panel.walk.places


def test_a_stopped_walk_leaves_no_hook_and_the_last_one_stays(panel, tiny):
    walk = panel.walk
    keyframes = [{"prompt": "a cat", "seed": n} for n in range(2)]
    panel._receive(
        panel, {"do": "set", "keyframes": keyframes, "options": {"frames": 40, "steps": 40}}, []
    )
    panel._receive(panel, {"do": "stop"}, [])
    assert panel.worker.join(PATIENCE)
    assert panel.walk is walk
    assert panel.step == {}
    assert not tiny.unet._forward_pre_hooks


def test_films_are_written_beside_the_notebook_and_never_over_another(panel, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        panel._receive(panel, {"do": "export", "suffix": ".gif"}, [])
        assert panel.worker.join(PATIENCE)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a-cat-0-walk-2.gif", "a-cat-0-walk.gif"]
    panel._receive(panel, {"do": "export", "suffix": ".exe"}, [])
    assert ".exe" in panel.message


@pytest.mark.parametrize("keyframes", [["a cat"], "a cat", ["a"] * 13])
def test_a_walk_needs_two_keyframes_and_no_more_than_fit(tiny, keyframes):
    with pytest.raises(InvalidSettings, match="2 to 12 keyframes"):
        WalkExplorer(tiny, keyframes)


def test_a_walk_from_memory_shows_its_own_frames_after_another_was_stopped(panel):
    """Frames of both lie at the same places."""
    own = panel.view["frames"]
    begun = []

    def stop(change):
        if change.new.get("frames") and not begun:
            begun.append(True)
            panel.worker.cancel()

    panel.observe(stop, "step")
    ask = {"do": "set", "options": {}, "by": ""}
    panel._receive(
        panel, {**ask, "keyframes": [{"prompt": p, "seed": 7} for p in ("a cat", "a dog")]}, []
    )
    assert panel.worker.join(PATIENCE)
    assert begun
    panel._receive(
        panel, {**ask, "keyframes": [{"prompt": p, "seed": 0} for p in ("a cat", "a dog")]}, []
    )
    assert panel.worker.join(PATIENCE)
    assert panel.view["frames"] == own
