"""Few-shot benchmarks; importing registers them."""

from .base import (
    BENCHMARK_REGISTRY,
    READER_REGISTRY,
    EpisodeList,
    FewShotEpisode,
    Sample,
    list_episodes,
    register_benchmark,
)

__all__ = [
    "BENCHMARK_REGISTRY",
    "READER_REGISTRY",
    "EpisodeList",
    "FewShotEpisode",
    "Sample",
    "list_episodes",
    "register_benchmark",
]
