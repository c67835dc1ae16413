"""tools/compare_prompts.py tells what compares from what finds what catches the eye."""

import json

import torch

import compare_prompts
from segic_d2.checkpoint import save_weights
from tests.modeling.seggpt.parts import TINY, lively, small_config
from tests.toy_model import MeanColour

OPTS = ("TEST.EPISODES", 8, "DATALOADER.NUM_WORKERS", 0)


class Blind(MeanColour):
    """Knows one colour, whatever the reference shows."""

    def segment(self, features, context, prompts=None):
        for own in context:
            own.tensors["colours"] = torch.full_like(own.tensors["colours"], 128.0)
        return super().segment(features, context, prompts)


def test_a_model_without_eyes_for_its_prompt_has_masks_that_are_alike():
    cfg = small_config(112)
    cfg.merge_from_list([*OPTS])
    blind, seeing = (
        compare_prompts.alike(cfg, model(112, 50.0), compare_prompts.SEEN, 6)
        for model in (Blind, MeanColour)
    )
    assert blind == [1.0] * 6
    assert len(seeing) == 6 and sum(seeing) < 4


def test_all_figures_are_printed_and_written(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(compare_prompts, "NEAR", (40, 50))
    save_weights(lively(), tmp_path / "weights.safetensors")
    small = [x for k, v in TINY.items() for x in (f"MODEL.SEGGPT.{k}", str(v))]
    given = ["--config-file", "seggpt/vit_large.yaml", "--targets", "2"]
    given += ["--tune", "0", "--steps", "1", "--categories", "1"]
    given += ["--weights", str(tmp_path / "weights.safetensors"), "--output", str(tmp_path / "o")]
    opts = ["INPUT.CANVAS", "32", *small, *map(str, OPTS)]
    compare_prompts.main([*given, "--opts", *opts])
    found = json.loads((tmp_path / "o").read_text())
    assert list(found["tuned"]) == ["0"]
    assert found["near"] in (40, 50) and all(0 < x < 100 for x in found["toy"])
    assert f"| the model | {found['model'][0]:.1f} |" in capsys.readouterr().out
