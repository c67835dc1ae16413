def test_the_lazy_recipe_learns(run_example, tmp_path):
    few = "train.max_iter=30", "dataloader.test.episodes=8", "model.encoder.canvas=84"
    before, after, miou = run_example("lazy_train.py", *few)
    assert 0.9 < before < 1.2 and after < 0.93 * before
    assert miou > 10
    assert (tmp_path / "output/metrics.json").is_file()
