def test_the_lazy_recipe_learns(run_example, tmp_path):
    few = "train.max_iter=36", "dataloader.test.episodes=16"
    before, after, miou = run_example("lazy_train.py", *few)  # 0.996, 0.835, 37.1
    assert 0.9 < before < 1.1 and after < 0.9 * before
    assert miou > 20
    assert (tmp_path / "output/metrics.json").is_file()
