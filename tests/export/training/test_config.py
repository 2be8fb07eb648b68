"""Settings of the methods: presets are below what is given."""

import pytest
from pydantic import ValidationError

from edgeflock.export.training.config import EmotionSource, GlamorConfig, LdlvaConfig


def test_ldlva_s_presets_bring_the_authors_schedule():
    released = LdlvaConfig(preset="released", net="fer-resnet50", seed=1)
    assert (released.lr, released.epochs, released.milestones, released.warmup) == (1e-4, 60, (10, 30), 0)
    assert LdlvaConfig(preset="released", epochs=3).epochs == 3
    assert LdlvaConfig(preset="released-affectnet").drop == 0.2
    assert LdlvaConfig(net="fer-resnet50").milestones == ()


def test_a_preset_that_does_not_know_the_net_is_refused():
    with pytest.raises(ValidationError, match=r"no values for released-affectnet fer-resnet50.*--preset post"):
        LdlvaConfig(preset="released-affectnet", net="fer-resnet50")
    with pytest.raises(ValidationError, match=r"'post' or 'released'"):
        GlamorConfig(preset="paper")


def test_what_is_given_changes_a_preset_and_nothing_else():
    released = GlamorConfig(preset="released")
    assert GlamorConfig(preset="released", batch=8).model_dump() == {**released.model_dump(), "batch": 8}


def test_a_run_of_glamor_is_known_by_its_settings_not_by_their_name():
    assert "preset" not in GlamorConfig(preset="released").model_dump()


def test_training_and_validation_images_are_given_both_or_rendered_both(tmp_path):
    assert EmotionSource().data is None
    with pytest.raises(ValidationError, match="--data and --val go together"):
        EmotionSource(data=tmp_path)
