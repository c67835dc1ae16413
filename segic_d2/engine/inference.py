"""Runs a model over a test loader."""

from detectron2.evaluation import inference_on_dataset


def run_inference(cfg, model, loader, evaluator, output_dir):
    """Detectron2's evaluation loop: eval mode, no autograd, progress and ETA in the log.

    Args:
        cfg: config.
        model: in any mode; its mode is restored.
        loader: one of ``data.build``'s test loaders.
        evaluator: a ``DatasetEvaluator``.
        output_dir: folder of this evaluation.

    Returns:
        the evaluator's results; an empty dict on all but the main process.
    """
    return inference_on_dataset(model, loader, evaluator)
