"""Makes the advice of a network: what is known, then what the time allows to measure."""

from __future__ import annotations

import time

from torch import nn

from nas_attn.answer.advice.costing import CostMeasurement
from nas_attn.answer.advice.facts import Advice, Question
from nas_attn.answer.advice.shortlist import (
    advised_modules,
    compared,
    large_sites,
    other_settings,
    shortlist,
)
from nas_attn.attachment import survey
from nas_attn.latency.machine import fingerprint
from nas_attn.latency.session import conditions
from nas_attn.model.published_gains import pooled


def advise(model: nn.Module, question: Question, *, until: float) -> Advice:
    """What is known of attention in this network, with latencies measured until a time
    (`time.monotonic`). Raises BackboneError: it has no site. Raises MeasurementError: the device or
    a package is missing, or the bare backbone does not run.
    """
    began = time.monotonic()
    # Says at once if the device is missing.
    machine = fingerprint(question.section).name
    fit = pooled()
    setting = question.setting
    known = fit.knows(setting.task)
    published = compared(fit, setting.task)
    heads = any(one.setting.place == "head" for one in published)
    all_sites = survey(model, question.input_shape, heads=heads).sites
    sites = large_sites(all_sites)
    candidates = shortlist(fit, sites, setting, advised_modules(fit, setting))
    costs = CostMeasurement(model, all_sites, question)
    costs.measure(candidates, until)
    measured = costs.found(candidates)
    judged = set(costs.too_slow)
    judged.update(placement.candidate for placement in measured)
    judged.update(placement.candidate for placement in costs.refused)
    gain = fit.usual_gain(setting)
    return Advice(
        question=question,
        sites=sites,
        known=known,
        gain=gain if gain.rows else None,
        measured=measured,
        too_slow=tuple(costs.too_slow),
        refused=tuple(costs.refused),
        unmeasured=tuple(candidate for candidate in candidates if candidate not in judged),
        seen=() if known else tuple(sorted(published, key=lambda one: -one.mean)),
        others=other_settings(fit, setting),
        machine=machine,
        conditions=tuple(conditions(question.section, question.input_shape).items()),
        seconds=time.monotonic() - began,
    )
