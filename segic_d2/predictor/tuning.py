"""What a predictor learns of labelled pictures: a decoder, or a context alone."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterable
from typing import Any, TypeAlias

from ..modeling.protocol import InContextModel
from ..structures.context import Context
from ..utils.files import AnyPath
from .references import AnyReference, read_as_given

AnyLabelled: TypeAlias = AnyPath | Iterable[AnyPath] | Iterable[AnyReference]


class Tuning:
    """Of a predictor. Pictures are references in the forms of ``set_references``, or names of data
    sets or folders; what is measured on is ``test``, or, if None, a part that is held out."""

    model: InContextModel
    context: Context | None

    def fine_tune(
        self, references: AnyLabelled, test: AnyLabelled | None = None, **how: Any
    ) -> Any:
        """Tune the decoder on labelled pictures. ``how``: steps, batch, rate, seed of
        ``engine.tune.fine_tune``.

        Returns its ``TuneReport``. The better weights are used from now on, see ``save_weights``;
        references that were set stay, for they are of the frozen backbone. ValueError: fewer than
        three pictures of a class, an unreadable one (named), a model that is not tuned.
        """
        tune = importlib.import_module("segic_d2.engine.tune")  # a room above this one
        return tune.tune_on(self.model, self._as_given(references), self._as_given(test), **how)

    def tune_context(
        self, references: AnyLabelled, test: AnyLabelled | None = None, **how: Any
    ) -> Any:
        """Learn a context of labelled pictures, which takes the place of earlier references; see
        ``save_context``. ``how``: task, steps, batch, rate, seed, shots of
        ``engine.tune_context.tune_context``.

        Returns its ``ContextReport``; where nothing is better, the context is that of the pictures
        as references. Errors as of ``fine_tune``; a call that fails changes nothing.
        """
        tune = importlib.import_module("segic_d2.engine.tune_context")
        read = self._as_given(references), self._as_given(test)
        self.context, report = tune.tune_context_on(self.model, *read, **how)
        return report

    def _as_given(self, given: Any) -> Any:
        if given is None or isinstance(given, str | os.PathLike):
            return given
        given = list(given)
        if all(isinstance(x, str | os.PathLike) for x in given):  # no reference is
            return given
        return read_as_given(given, self.model.complete_mask)
