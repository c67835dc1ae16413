"""Follow objects through a video: marked in a frame, or of classes shown by references.

segic video clip.mp4 --masks first.png 40.png@40 --output out/
segic video clip.mp4 --references cats.safetensors --output out/ --overlay

It writes overlay.mp4, labels/NNNNN.png and results.json, or those that are asked for.
"""

import argparse
import os
import re
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any

from .checks import UsageError, is_url, need_files, need_folder
from .options import add_model, check_model, new_predictor
from .process import rest_waiting_threads

OUTPUTS = ("overlay", "labels", "json")
CAMERAS = ("camera:", "/dev/video")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``segic video``."""
    add = parser.add_argument
    add("video", help="a video file, a folder of pictures in natural order, or camera:0")
    add(
        "--masks",
        nargs="+",
        default=[],
        metavar="FILE[@N]",
        help="mask of ids of the first frame, or of frame N, counted from 0: new objects, or "
        "corrections of those that are followed",
    )
    add(
        "--references",
        metavar="FILE",
        help="encoded references of segic segment --save-context (.safetensors), or what a "
        "labelling tool exported, such as labelme:FOLDER: all of their classes are followed",
    )
    add("--names", nargs="+", default=[], metavar="ID=NAME", help="names of the ids of --masks")
    add("--output", required=True, help="folder for the results, made if it is missing")
    for name, what in (("overlay", "a clip"), ("labels", "files of ids"), ("json", "a file")):
        add(f"--{name}", action="store_true", help=f"write {what}; all, where none is asked for")
    add_model(parser, "frames")


def given_masks(words: Iterable[str]) -> dict[int, str]:
    """{frame number: file} of --masks. UsageError: two of one frame."""
    found: dict[int, str] = {}
    for word in words:
        at = re.fullmatch(r"(.+)@(\d+)", word, re.DOTALL)
        file, number = (at[1], int(at[2])) if at else (word, 0)
        if number in found:
            raise UsageError(
                f"--masks: {found[number]} and {file} are both of frame {number}; say of which "
                f"frame one is: {file}@40"
            )
        found[number] = file
    return found


def given_names(words: Iterable[str]) -> dict[int, str]:
    """{id: name} of --names. UsageError: one is no ID=NAME, or two are of one id."""
    found: dict[int, str] = {}
    for word in words:
        i, _, name = word.partition("=")
        if not (i.isdecimal() and name and int(i)):
            raise UsageError(f"--names {word}: expected ID=NAME, with an id above 0")
        if int(i) in found:
            raise UsageError(f"--names: {found[int(i)]} and {name} are both of the id {int(i)}")
        found[int(i)] = name
    return found


def check(args: argparse.Namespace) -> tuple[dict[int, str], dict[int, str]]:
    """The masks by frame and the names by id. UsageError or OSError: what can be wrong before
    anything is imported."""
    masks, names = given_masks(args.masks), given_names(args.names)
    if bool(masks) == bool(args.references):
        raise UsageError("give either --masks or --references")
    if names and args.references:
        raise UsageError("--names are of the ids of --masks; references have names of their own")
    check_model(args)
    if not args.video.startswith(CAMERAS):
        need_files("VIDEO", [args.video], folders=True)
    need_files("--masks", masks.values())
    if (args.references or "").endswith(".safetensors"):
        need_files("--references", [args.references])
    elif args.references and ":" not in args.references:
        raise UsageError(
            f"--references {args.references}: expected a .safetensors file, or FORMAT:PATH such as "
            "labelme:FOLDER"
        )
    if is_url(args.output):
        raise UsageError(f"--output {args.output}: a folder of this machine is asked for")
    need_folder("--output", args.output)
    return masks, names


def run(args: argparse.Namespace) -> int:
    """Follow and write; returns the exit status."""
    masks, names = check(args)
    rest_waiting_threads()
    from segic_d2.io.video import open_video
    from segic_d2.io.video_masks import read_given_mask
    from segic_d2.io.video_writer import VideoWriter

    video = open_video(args.video)
    if video.about:
        print(f"{args.video}: {video.about}")
    given = {number: read_given_mask(file) for number, file in masks.items()}
    palettes = [mask.palette for _, mask in sorted(given.items()) if mask.palette]
    outputs = [name for name in OUTPUTS if getattr(args, name)] or OUTPUTS
    palette, keep = palettes[0] if palettes else None, [*masks.values()]
    if args.references and os.path.exists(args.references):
        keep.append(args.references)
    left = {number: (masks[number], mask.content) for number, mask in given.items()}
    with VideoWriter(args.output, video, outputs, palette, keep) as writer:
        tracker = _tracker(args)
        frames, seconds = _follow(args, video, tracker, left, names, writer)
    print(f"{frames} frames, {frames / max(seconds, 1e-9):.3g} per second")
    if video.damaged:
        what = "pictures" if os.path.isdir(args.video) else "packets"
        print(f"{args.video}: {video.damaged} damaged {what} were left out", file=sys.stderr)
    for number in sorted(left):
        text = f"failed: {masks[number]}@{number}: there is no such frame, {frames} were read"
        print(text, file=sys.stderr)
    unknown = [] if left else [i for i in names if i not in tracker.objects]
    for i in unknown:
        text = f"failed: --names {i}={names[i]}: the masks have the ids {[*tracker.objects]}"
        print(text, file=sys.stderr)
    print(f"results in {args.output}")
    return 1 if left or unknown or (video.damaged and os.path.isdir(args.video)) else 0


def _tracker(args: argparse.Namespace) -> Any:
    from segic_d2.predictor import VideoPredictor

    predictor = new_predictor(args)
    tracker = VideoPredictor(predictor)
    if args.references:
        if args.references.endswith(".safetensors"):
            predictor.load_context(args.references)
        else:
            predictor.set_references(args.references, "instance")
        tracker.follow_references()
    return tracker


def _follow(
    args: argparse.Namespace,
    video: Any,
    tracker: Any,
    masks: dict[int, tuple[str, Any]],
    names: dict[int, str],
    writer: Any,
) -> tuple[int, float]:
    """Write the results of all frames; returns how many there were, and the seconds that they took.
    Masks that were used are removed. A camera ends by Ctrl-C."""
    from tqdm import tqdm

    frames, began, size = 0, time.monotonic(), 1 if video.live else args.batch_size
    with tqdm(total=video.expected, unit="frame", disable=None) as bar:  # None: on a terminal
        try:
            for frame, result in _results(video, tracker, masks, bool(args.references), size):
                if result is not None:
                    result.names = [
                        names.get(i, name) for i, name in zip(result.ids, result.names, strict=True)
                    ]
                writer.write(frame, result)
                frames += 1
                bar.update()
        except KeyboardInterrupt:
            if not video.live:
                print(f"{frames} frames are in {args.output}", file=sys.stderr)
                raise
    return frames, time.monotonic() - began


def _results(
    video: Any, tracker: Any, masks: dict[int, tuple[str, Any]], ready: bool, size: int
) -> Iterator[tuple[Any, Any]]:
    """(frame, its result) in order, some frames at once; the result is None before the first mask.
    A mask is added before its frame is segmented."""
    chunk: list[Any] = []

    def segmented() -> Iterator[tuple[Any, Any]]:
        images = [frame.image for frame in chunk]
        found = tracker.track(images, size) if ready else [None] * len(chunk)
        yield from zip(chunk, found, strict=True)
        chunk.clear()

    for frame in video:
        if frame.number in masks:
            yield from segmented()
            file, mask = masks.pop(frame.number)
            try:
                tracker.add(frame.image, mask)
            except ValueError as error:
                raise ValueError(f"--masks {file}, of frame {frame.number}: {error}") from error
            ready = True
        chunk.append(frame)
        if len(chunk) == size:
            yield from segmented()
    yield from segmented()
