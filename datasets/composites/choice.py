"""Plans scenes in which two to four things catch the eye and any of them may be asked for.

Scenes come in chapters. A chapter has its own few categories, a person and animals among them, and
its classes are its own: references of "dog #3" are scenes of chapter 3. So about every second
reference shows, beside its object, a kind that also distracts in the target. Draws are seeded.
"""

import numpy as np

from composites.plan import Thing, log_uniform, pick

LEAST = 0.005  # of the frame, smallest visible part of a thing
CHAPTER = 60  # scenes
PERSON = ("person",)
ANIMALS = ("pet", "wild mammal", "farm animal", "bird", "small animal", "sea animal")
STRIKING = ("ball", "sports", "toy", "vehicle", "tool", "street", "instrument")
CAST = ((PERSON, 1), (ANIMALS, 3), (STRIKING, 2), (None, 2))  # supercategories, categories of them
KINDS = ("even", "small", "before")
SHARES = (0.45, 0.35, 0.2)
NUMBERS = (0.35, 0.4, 0.25)  # two, three, four kinds of things
ANIMAL_AND_PERSON = 0.5  # of the scenes, at least
AGAIN = 0.12  # a second thing of the asked category
PHOTOGRAPHED = 0.75  # where a category has photographed and modelled objects


def cast_of(vocabulary, rng):
    """Draw the categories of a chapter: a list without repeats, the person's first if there is one.

    Only categories with several objects are taken, as far as there are any; one with four times
    the objects is twice as likely.

    Args:
        vocabulary: ``composites.plan.Vocabulary``.
        rng: numpy ``Generator``.
    """
    several = [c for c in vocabulary.categories if len(vocabulary.by_category[c]) > 1]
    names = several if len(several) > 1 else vocabulary.categories
    chosen = []
    for groups, number in CAST:
        pool = [
            c
            for c in names
            if c not in chosen
            and (groups is None or vocabulary.by_category[c][0].supercategory in groups)
        ]
        weights = np.array([len(vocabulary.by_category[c]) for c in pool], float) ** 0.5
        if pool:
            number = min(number, len(pool))
            drawn = rng.choice(len(pool), number, replace=False, p=weights / weights.sum())
            chosen += [pool[i] for i in drawn]
    return chosen if len(chosen) > 1 else list(names[:2])


def _object(rng, vocabulary, category):
    own = vocabulary.by_category[category]
    photographed = [o for o in own if o.source != "models"]
    if photographed and rng.random() < PHOTOGRAPHED:
        own = photographed
    return pick(rng, own)


def _asked_and_others(rng, cast, vocabulary, number):
    """Categories of a scene, the asked one first. Each of the cast has its turn."""
    groups = {c: vocabulary.by_category[c][0].supercategory for c in cast}
    people = [c for c in cast if groups[c] in PERSON]
    animals = [c for c in cast if groups[c] in ANIMALS]
    asked = cast[number % len(cast)]
    others = [str(c) for c in rng.permutation([c for c in cast if c != asked])]
    if people and animals and rng.random() < ANIMAL_AND_PERSON:
        pair = [pick(rng, people), pick(rng, animals)]
        if asked not in pair:  # it distracts from the pair
            others = [asked, *(c for c in others if c not in pair)]
            first = int(rng.integers(2))
            asked, second = pair[first], pair[1 - first]
        else:
            second = pair[0] if asked == pair[1] else pair[1]
            others = [c for c in others if c != second]
        others = [second, *others]
    total = int(rng.choice(len(NUMBERS), p=NUMBERS)) + 1
    return [asked, *others[:total]]


def plan_choice(vocabulary, cast, number, rng):
    """Plan a scene of a chapter: (kind, list of ``Thing``, the asked one first).

    The kinds are "even" (all things have about the same size), "small" (the asked one is small
    beside larger ones) and "before" (it lies close to or before a larger one).

    Args:
        vocabulary: ``Vocabulary``.
        cast: the chapter's categories, two or more.
        number: of the scene, from 0.
        rng: numpy ``Generator``.
    """
    kind = str(rng.choice(KINDS, p=SHARES))
    names = _asked_and_others(rng, cast, vocabulary, number)
    items = [_object(rng, vocabulary, c) for c in names]
    low, high = {"even": (0.35, 0.9), "small": (0.09, 0.32), "before": (0.15, 0.5)}[kind]
    scale = log_uniform(rng, low, high)
    things = [Thing(items[0], scale, 1 if kind == "before" else None)]
    for index, item in enumerate(items[1:]):
        if kind == "even":
            size = min(scale * rng.uniform(0.7, 1.4), 1.1)
        elif index:
            size = log_uniform(rng, 0.2, 0.9)
        else:
            size = rng.uniform(0.5, 1.1)
        things.append(Thing(item, size, 0 if index and rng.random() < 0.3 else None))
    if rng.random() < AGAIN:
        things.append(Thing(_object(rng, vocabulary, names[0]), scale * rng.uniform(0.7, 1.3)))
    return kind, things
