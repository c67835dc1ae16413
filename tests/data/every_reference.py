"""All references of some classes at once, as an obvious way beside ``build_reference_loader``."""

import itertools

from segic_d2.data import plan_references
from segic_d2.data.health.damaged import ERRORS, report_errors
from segic_d2.data.mappers.one_shot import OneShotMapper


def load_references(cfg, dataset_names, target_dataset=None):
    """Read ``TEST.SHOTS`` references (``mappers.base``) of every class that ``plan_references``
    finds, in plain views, and {class id: class name}. The target dataset is by default the first of
    ``dataset_names``. A class with fewer images gets as many references; damaged ones are reported.
    """
    plan = plan_references(cfg, dataset_names, target_dataset or dataset_names[0])
    mappers = [OneShotMapper(cfg, source) for source in plan.sources]
    references, names = [], {}
    for class_id, picks in plan.picks.items():
        for reference in itertools.islice(_readable(mappers, picks), cfg.TEST.SHOTS):
            references.append({**reference, "entity_ids": [class_id]})
            names[class_id] = plan.names[class_id]
    return references, names


def _readable(mappers, picks):
    for number, image, own_id in picks:
        try:
            reference = mappers[number].plain_reference(image, own_id)
        except ERRORS as error:
            report_errors({mappers[number].records[image]["file_name"]: error})
        else:
            yield reference
