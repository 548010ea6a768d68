"""The points of a study's axes: its arms, what each declares, and the baseline that each is held against.

An axis is one of three things:

* ``method``: a list of methods, or a mapping from arm names to what the arm declares;
* an axis whose name stands as ``$NAME`` in a stage, an arm or a setting: its value takes that place, and a stage that
  uses it is made once for every value;
* any other: its name is a key of every arm (``data``, ``judge``, ``decoding``, ``max_length`` ...), or its values are
  sets of such keys.

What an axis sets is declared and no confound. A baseline is an arm; or a value of an axis, and each arm is held against
the arm that differs from it in nothing else; or ``base`` or a stage, which is then answered beside the arms as it is.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pippin.compare import design
from pippin.compare.spec import EVALUATION_KEYS, STAGE_KEYS, Json, kind_of, references, split_settings
from pippin.core import catalog
from pippin.core.errors import InputError, UnknownName

if TYPE_CHECKING:
    from pippin.compare.study import Study


@dataclass(frozen=True)
class Arm:
    """One point of the axes: what it declares, and what its settings add. ``labels``: axis -> the value's name."""

    name: str
    values: Mapping[str, Any]  # axis -> value
    declared: Json = field(default_factory=dict)
    settings: Json = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def spec(self) -> Json:
        """What the arm is made by: its settings, and what it declares on top."""
        return {**self.settings, **self.declared}


def spread(study: Study) -> dict[str, dict[str, Any]]:
    """Every axis as ``label -> value``, in the order of the file."""
    return {
        axis: dict(values) if isinstance(values, Mapping) else {str(v): v for v in values}
        for axis, values in study.axes.items()
    }


def arms(study: Study) -> list[Arm]:
    """Every arm of the design in the order of the axes' values, then the baselines that are no point of the axes; no
    external one."""
    axes = spread(study)
    labels = {axis: list(values) for axis, values in axes.items()}
    points = design.points(labels, study.design, design.point_of(labels, study.baseline))
    return [_arm(study, axes, point) for point in points] + _standing(study)


def baselines(study: Study, made: Sequence[Arm], theirs: Sequence[str] = (), where: str = "baseline") -> dict[str, str]:
    """Arm -> the arm that it is held against; a baseline's own is itself. ``theirs``: names of the arms of a bundle.

    Raises:
        UnknownName: the study's baseline is no arm, value of an axis, stage or ``base``.
    """
    names = {arm.name for arm in made} | set(theirs)
    if study.baseline in names:
        return dict.fromkeys((*(arm.name for arm in made), *theirs), study.baseline)
    standing = [arm for arm in made if arm.name.split("/")[0] == study.baseline and "method" not in arm.labels]
    if standing:
        return {arm.name: _nearest(arm, standing) for arm in made}
    axes = spread(study)
    axis = next((a for a, values in axes.items() if study.baseline in values), None)
    if axis is None:
        known = names | set().union(*axes.values()) | set(study.stages) | {"base"}
        raise UnknownName("arm", study.baseline, known, where=where)
    at = {tuple(arm.labels.items()): arm.name for arm in made}
    held = {arm.name: at.get(tuple({**arm.labels, axis: study.baseline}.items())) for arm in made}
    return {name: other for name, other in held.items() if other is not None}  # a design may leave a partner out


def external_baseline(study: Study, entry: Mapping[str, Any], made: Sequence[Arm], held: Mapping[str, str]) -> str:
    """The baseline of an arm made elsewhere: by the values of axes that its entry gives, where there are several.

    Raises:
        InputError: it does not say which.
    """
    told = {axis: str(entry[axis]) for axis, values in spread(study).items() if str(entry.get(axis)) in values}
    fitting = {held[arm.name] for arm in made if arm.name in held and told == _shared(told, arm.labels)}
    if len(fitting) != 1:
        raise InputError("which baseline an external arm is held against is not clear", where=str(entry.get("name")),
                         found=", ".join(sorted(fitting)), mend="Give the entry a value of each axis")  # fmt: skip
    return fitting.pop()


def axes_behind(study: Study, value: Any, _open: tuple[str, ...] = ()) -> set[str]:
    """The axes that a value depends on, directly or through the stages that it names."""
    found: set[str] = set()
    for name in references(value):
        if name in study.axes:
            found.add(name)
        elif name in study.stages and name not in _open:
            spec = study.stages[name]
            found |= axes_behind(study, spec, (*_open, name))
            starts = [spec.get(key, "base") for key in ("model",) if kind_of(spec) == "train"]
            starts += [spec.get(key) for key in ("use", "respond")]
            found |= {"base"} & set(study.axes) if "base" in starts else set()
    return found


def _arm(study: Study, axes: Mapping[str, Mapping[str, Any]], labels: Mapping[str, str]) -> Arm:
    values = {axis: axes[axis][label] for axis, label in labels.items()}
    method = values.get("method")
    said = dict(method) if isinstance(method, Mapping) else {"method": method} if method else {}
    label, named = labels.get("method", ""), str(said.get("method", ""))
    name = "/".join(labels.values())
    own: Json = {}
    for key in dict.fromkeys((named, label, name)):
        own |= study.settings.get(key, {})
    set_ = _keys_set(study, values)
    if "use" in said:  # takes a model as it is: what else is said of training is for stages
        own = {k: v for k, v in own.items() if k in EVALUATION_KEYS}
        set_ = {k: v for k, v in set_.items() if k in EVALUATION_KEYS}
    return Arm(
        name,
        {axis: labels[axis] if axis == "method" else value for axis, value in values.items()},
        {**said, **set_},
        own | study.chosen.get(name, {}),
        dict(labels),
    )


def _keys_set(study: Study, values: Mapping[str, Any]) -> Json:
    """The keys of an arm that axes set directly."""
    out: Json = {}
    for axis, value in values.items():
        if axis != "method" and axis not in _used(study):
            out |= dict(value) if isinstance(value, Mapping) and axis != "decoding" else {axis: value}
    return out


def _used(study: Study) -> set[str]:
    """Axes that stand as ``$NAME`` somewhere, and ``base``, which is what ``base`` means everywhere."""
    method = study.axes.get("method", ())
    said = [study.stages, study.settings, list(method.values()) if isinstance(method, Mapping) else method]
    return {"base"} | (references([*said, study.reference, study.checks, study.curves]) & set(study.axes))


def _standing(study: Study) -> list[Arm]:
    """The baseline where it is ``base`` or a stage: one arm for every combination of the axes that it depends on."""
    name = study.baseline
    labels = {label for values in spread(study).values() for label in values}
    if name in labels or (name != "base" and name not in study.stages):
        return []
    behind = axes_behind(study, f"${name}") | ({"base"} & set(study.axes) if name == "base" else set())
    behind |= {  # and those that say how it is asked and judged
        axis for axis, values in spread(study).items()
        if any(set(_keys_set(study, {axis: value})) & set(EVALUATION_KEYS) for value in values.values())
    }  # fmt: skip
    axes = {axis: values for axis, values in spread(study).items() if axis in behind}
    out = []
    for point in itertools.product(*axes.values()):
        told = dict(zip(axes, point, strict=True))
        values = {axis: axes[axis][label] for axis, label in told.items()}
        asked = {k: v for k, v in _keys_set(study, values).items() if k in EVALUATION_KEYS}
        out.append(Arm("/".join([name, *point]), values, {"use": f"${name}", **asked}, {}, told))
    return out


def _nearest(arm: Arm, standing: Sequence[Arm]) -> str:
    if arm in standing:
        return arm.name
    return next(one.name for one in standing if _shared(one.labels, arm.labels) == dict(one.labels))


def _shared(a: Mapping[str, str], b: Mapping[str, str]) -> dict[str, str]:
    return {k: v for k, v in a.items() if b.get(k) == v}


def check_values(study: Study, where: str) -> None:
    """Refuse an axis without values.

    Raises:
        InputError: with the axis.
    """
    for axis, values in study.axes.items():
        if not isinstance(values, (Mapping, list, tuple)) or not values:
            raise InputError("an axis has no values", where=f"{where}.{axis}", expected="a list, or name: value")


def check_axes(study: Study, where: str) -> None:
    """Refuse an axis that no arm can take.

    Raises:
        InputError, UnknownName: with the axis.
    """
    used = _used(study)
    for axis, values in study.axes.items():
        sets = [v for v in values.values() if isinstance(v, Mapping)] if isinstance(values, Mapping) else []
        if axis == "method" or axis == "decoding":
            continue
        if axis in used and sets:
            raise InputError(f"${axis} stands for one value", where=f"{where}.{axis}", found=sets[0])
        known = {*STAGE_KEYS["train"], *EVALUATION_KEYS}
        if axis in used or (axis in known and not sets):
            continue
        trained = [arm for arm in arms(study) if kind_of(arm.spec) == "train" and not references(arm.spec["method"])]
        if not trained:
            raise UnknownName("key that an axis can set", axis, known, where=f"{where}.{axis}")
        for arm in trained:
            settings = set(split_settings(dict.fromkeys([axis] if not sets else [k for s in sets for k in s]))[1])
            for key in sorted(settings - _settings_of(str(arm.spec["method"]))):
                raise UnknownName(
                    f"setting of {arm.spec['method']}, key of an arm, or $NAME in this study", key,
                    known | _settings_of(str(arm.spec["method"])), where=f"{where}.{axis}",
                )  # fmt: skip


def _settings_of(method: str) -> set[str]:
    from dataclasses import fields

    from pippin.align.method import Training

    if method not in catalog.names("methods"):
        return set()
    return {f.name for cls in (Training, catalog.load("methods", method).config) for f in fields(cls)}
