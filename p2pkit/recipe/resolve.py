"""From a recipe as written to a validated one. Every mistake is collected; one error lists them all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import Any, TypeVar

from pydantic import ValidationError

from p2pkit.components.host import manager
from p2pkit.components.issues import MOST_SHOWN, Issue, issues_in, report
from p2pkit.components.kinds import DISCRIMINATORS_OF_METHODS
from p2pkit.components.signature import defined, supplied_names, table_model, validate
from p2pkit.components.type_words import written
from p2pkit.errors import P2PKitError, PluginError, RecipeError, did_you_mean
from p2pkit.recipe.document import LOSSES_WITHOUT_DISCRIMINATOR, Document, Overrides, Source, read_document
from p2pkit.recipe.other_words import where_it_belongs
from p2pkit.recipe.recipe import Chosen, Recipe
from p2pkit.settings import (
    DiscriminatorAugmentationSettings,
    LoaderSettings,
    MaskSettings,
    RunSettings,
    Section,
    SideSettings,
    SourceSettings,
    TrainSettings,
    TransformSettings,
    ValidationSettings,
)

DEFAULT_EPOCHS = 200
RENAMED = {
    "evaluation": "validation",
    "evaluation.max_pairs": "validation.max_images",
    "validation.max_pairs": "validation.max_images",
    "train.average_decay": "train.ema_decay",
}
"""Keys and sections that had another name, and their present one."""
SETTINGS: dict[str, type[Section]] = {
    "run": RunSettings,
    "source": SourceSettings,
    "target": SideSettings,
    "mask": MaskSettings,
    "loader": LoaderSettings,
    "transform": TransformSettings,
    "discriminator_augmentation": DiscriminatorAugmentationSettings,
    "train": TrainSettings,
    "validation": ValidationSettings,
}
COMPONENTS = {
    "data": "datasets",
    "generator": "generators",
    "method": "methods",
    "optimizer": "optimizers",
    "schedule": "schedules",
}
OPTIONAL_COMPONENTS = {"encoding": "encodings", "discriminator": "discriminators"}
COMPONENT_LISTS = {
    "augmentations": "augmentations", "losses": "losses", "metrics": "metrics", "callbacks": "callbacks",
}  # fmt: skip
SECTIONS = (*SETTINGS, *COMPONENTS, *OPTIONAL_COMPONENTS, *COMPONENT_LISTS)

SectionT = TypeVar("SectionT", bound=Section)


def read_recipe(source: Source, overrides: Overrides = ()) -> Recipe:
    """The recipe in ``source``, validated and with all defaults filled in.

    Raises:
        RecipeError: with every mistake in it: file, key, what was found, what is allowed, the nearest name.
    """
    return _Resolver(read_document(source, overrides)).recipe()


def with_metric(recipe: Recipe, table: Mapping[str, Any]) -> Recipe:
    """``recipe`` with one more metric, as a recipe writes it."""
    resolver = _Resolver(recipe.document)
    chosen = resolver.component(f"metrics.{len(recipe.metrics)}", "metrics", table)
    if chosen is None:
        raise RecipeError(report(resolver.issues))
    return replace(recipe, metrics=[*recipe.metrics, chosen])


@dataclass
class _Resolver:
    """Validates a document against the sections and the signatures of its components, and collects the issues."""

    document: Document
    issues: list[Issue] = field(default_factory=list)

    def recipe(self) -> Recipe:
        tables = self.document.tables
        if unknown := tables.keys() - set(SECTIONS):
            self._refuse_sections(unknown)
        sections: dict[str, Any] = {}
        sources = dict[str, dict[str, Any]]()
        for name, own in self._table("source").items():
            if isinstance(own, dict):
                sources[name] = own
        for name, model in SETTINGS.items():
            values = self._table(name)
            if sources and name == "source":
                values = {key: value for key, value in values.items() if key not in sources}
            if name == "run":
                values = {"name": self.document.file.stem, **values}
            if name == "train" and not {"epochs", "max_steps", "max_time"} & values.keys():
                values = {"epochs": DEFAULT_EPOCHS, **values}
            sections[name] = self._settings(name, model, values)
        for name, kind in {**COMPONENTS, **OPTIONAL_COMPONENTS}.items():
            if name == "optimizer":
                sections[name], sections["optimizers"] = self._optimizers(sections["method"])
                continue
            wanted = name in tables or name in COMPONENTS
            if name == "discriminator" and (method := sections["method"]):
                wanted = bool(supplied_names(method.registered.factory, "methods") & DISCRIMINATORS_OF_METHODS)
                if not wanted:
                    self._leave_discriminator_out(method)
            sections[name] = self.component(name, kind, tables.get(name)) if wanted else None
        for name, kind in COMPONENT_LISTS.items():
            sections[name] = self._components(name, kind)
        if sources:
            sections["sources"], sections["encodings"] = self._sources(sources)
        if self.issues:
            raise RecipeError(report(self.issues))
        return Recipe(self.document, **sections, names_metrics=("metrics",) in self.document.origins)

    def _sources(self, tables: Mapping[str, dict[str, Any]]) -> tuple[dict[str, Any], dict[str, Any]]:
        """``[source.NAME]`` for each of several sources, with the keys of ``[source]`` under its own; encodings."""
        shared = {key: value for key, value in self._table("source").items() if key not in tables}
        sources, encodings = dict[str, Any](), dict[str, Any]()
        for name, own in tables.items():
            values = {**shared, **{key: value for key, value in own.items() if key != "encoding"}}
            for one, other in (("range", "percentiles"), ("percentiles", "range")):
                if one in own and other not in own:
                    values.pop(other, None)
            sources[name] = self._settings(f"source.{name}", SourceSettings, values)
            if "encoding" in own:
                encodings[name] = self.component(f"source.{name}.encoding", "encodings", own["encoding"])
        if "encoding" in tables:
            self._issue("source.encoding", "the encoding of a single source is the section [encoding]")
        elif self.document.origin("encoding") is not None:
            self._issue("encoding", "with several sources each has its own: [source.NAME.encoding]")
        return sources, encodings

    def _leave_discriminator_out(self, method: Chosen) -> None:
        """Take the defaults that need a discriminator away; refuse one that is written, which nobody would train."""
        if self.document.origin("discriminator") is not None:
            self._issue("discriminator", f"{method.origin} trains without a discriminator; leave this section out")
        if self.document.origin("losses") is None:
            self.document.tables["losses"] = LOSSES_WITHOUT_DISCRIMINATOR

    def _refuse_sections(self, unknown: Iterable[str]) -> None:
        for name in sorted(unknown):
            if len(self.issues) >= MOST_SHOWN:
                self._issue(name, "")
                continue
            value = self.document.tables[name]
            is_table = isinstance(value, dict) or _is_list_of_tables(value)
            hint = "" if is_table else where_it_belongs(name, value, self._keys())
            what = "unknown section" if is_table else "unknown key, above all sections"
            remedy = f"; {hint}" if hint else f"{did_you_mean(name, SECTIONS)}; allowed: {', '.join(SECTIONS)}"
            self._issue(name, f"{what}{remedy}")
            for key in self._table(name) if name in RENAMED else ():
                if f"{name}.{key}" in RENAMED:
                    self._issue(f"{name}.{key}", "")

    def _issue(self, key: str, message: str) -> None:
        self._add([Issue(key, message)])

    def _add(self, issues: Sequence[Issue]) -> None:
        default = str(self.document.file)
        for one in issues:
            message = one.message
            if len(self.issues) >= MOST_SHOWN:
                pass
            elif one.key in RENAMED:
                message = f"it is called {RENAMED[one.key]} now"
            elif one.unknown and (hint := self._hint(one.key)):
                message = f"unknown key; {hint}; {message[message.index('allowed: ') :]}"
            origin = self.document.origin(one.key) if len(self.issues) < MOST_SHOWN else None
            self.issues.append(Issue(one.key, message, origin or default))

    def _hint(self, key: str) -> str:
        """What to write where, for an unknown key that another section or another program knows."""
        value: Any = self.document.tables
        for part in key.split("."):
            value = value[int(part)] if isinstance(value, list) else value.get(part)
            if value is None:  # a key with dots in its name
                return ""
        return where_it_belongs(part, value, self._keys()) or self._of_others(key)

    def _of_others(self, key: str) -> str:
        """Which other components of a section take the unknown ``key``; "" for a section of fixed keys, or none."""
        section, _, name = key.rpartition(".")
        kind = {**COMPONENTS, **OPTIONAL_COMPONENTS, **COMPONENT_LISTS}.get(section.partition(".")[0], "")
        if kind in ("", "optimizers", "datasets"):
            return ""
        found = []
        for registered in manager().registry(kind):
            with suppress(PluginError):
                if name in table_model(registered, kind).model_fields:
                    found.append(registered.name)
        return f"it is a key of {', '.join(found)}: choose one of these by name, or take {name} out" if found else ""

    def _keys(self) -> dict[str, Iterable[str]]:
        """The keys that each section of this recipe may have."""
        keys: dict[str, Iterable[str]] = {name: model.model_fields for name, model in SETTINGS.items()}
        for name, kind in {**COMPONENTS, **OPTIONAL_COMPONENTS}.items():
            table = self.document.tables.get(name)
            chosen = table.get("name") if isinstance(table, dict) else None
            if chosen in (registry := manager().registry(kind)).names():
                keys[name] = table_model(registry.get(chosen), kind).model_fields
        return keys

    def _table(self, name: str) -> dict[str, Any]:
        value = self.document.tables.get(name, {})
        if isinstance(value, dict):
            return value
        found = (
            f"write [{name}] in place of [[{name}]]" if _is_list_of_tables(value) else f"write its keys below [{name}]"
        )
        self._issue(name, f"found {value!r}, expected a table; {found}")
        return {}

    def _settings(self, name: str, model: type[SectionT], values: Mapping[str, Any]) -> SectionT | None:
        try:
            settings = validate(model, values)
            assert isinstance(settings, model)
            return settings
        except ValidationError as error:
            self._add(issues_in(error, model, values, name))
            return None

    def _components(self, key: str, kind: str) -> list[Chosen | None]:
        items, chosen = self.document.tables[key], []
        if not isinstance(items, list):
            named = f"write [[{key}]], and below it name = {written(items)}" if isinstance(items, str) else ""
            remedy = f"write [[{key}]] in place of [{key}]" if isinstance(items, dict) else named
            self._issue(
                key, f"found {items!r}, expected a list of tables, each headed [[{key}]]{remedy and f'; {remedy}'}"
            )
            return []
        if key == "losses" and not items:
            self._issue(
                key, 'the list is empty; a run needs at least one loss, so write [[losses]], and below it name = "l1"'
            )
        for index, item in enumerate(items):
            chosen.append(self.component(f"{key}.{index}", kind, item))
        return chosen

    def component(self, key: str, kind: str, table: Any) -> Chosen | None:
        registry = manager().registry(kind)
        if not isinstance(table, dict) or not isinstance(table.get("name"), str):
            found = f"found {table!r}, " if table is not None else "missing; "
            remedy = _remedy(key, table, registry.names())
            self._issue(key, f"{found}expected a table with a name, one of: {', '.join(registry.names())}{remedy}")
            return None
        values = dict(table)
        name = values.pop("name")
        try:
            registered = registry.get(name)
            model = table_model(registered, kind)
        except P2PKitError as error:
            self._issue(f"{key}.name", str(error))
            return None
        try:
            return Chosen(kind, registered, validate(model, values))
        except ValidationError as error:
            self._add(issues_in(error, model, values, key))
        except PluginError as error:
            self._issue(key, str(error))
        return None

    def _optimizers(self, method: Chosen | None) -> tuple[Chosen | None, dict[str, Any]]:
        """``[optimizer]`` and, for each network of the method, the same with ``[optimizer.NETWORK]`` on top."""
        table, tables = self.document.tables["optimizer"], {}
        if not isinstance(table, dict):
            return self.component("optimizer", "optimizers", table), {}
        shared = dict(table)
        for key, value in list(shared.items()):
            if isinstance(value, dict):
                tables[key] = shared.pop(key)
        base = self.component("optimizer", "optimizers", shared)
        networks: Any = getattr(defined(method.registered.factory), "networks", None) if method else ()
        named = isinstance(networks, tuple | list) and "generator" in networks
        if method and not (named and len(set(networks)) == len(networks)):
            wanted = 'expected a tuple of different names, "generator" among them'
            self._issue("method.name", f"{method.origin} does not name its networks: found {networks!r}, {wanted}")
            networks = ()
        optimizers: dict[str, Any] = dict.fromkeys(networks, base)
        for name, own in tables.items() if networks else ():
            if name in networks:
                table = {**self._inherited(shared, own.get("name")), **own}
                optimizers[name] = self.component(f"optimizer.{name}", "optimizers", table)
            else:
                allowed = ", ".join(networks)
                self._issue(f"optimizer.{name}", f"no network has that name; networks of the method: {allowed}")
        return base, optimizers

    def _inherited(self, shared: dict[str, Any], name: Any) -> dict[str, Any]:
        """What of ``[optimizer]`` an optimizer called ``name`` takes; all of it where it is the same one."""
        registry = manager().registry("optimizers")
        if name in (None, shared.get("name")) or name not in registry.names():
            return shared
        taken = table_model(registry.get(name), "optimizers").model_fields
        return {key: value for key, value in shared.items() if key in taken}


def _is_list_of_tables(value: Any) -> bool:
    return isinstance(value, list) and any(isinstance(one, dict) for one in value)


def _remedy(key: str, found: Any, names: Sequence[str]) -> str:
    """What to write in place of what is not the table of a component; "" where that is not known."""
    section = key.partition(".")[0]
    if _is_list_of_tables(found):
        return f"; write [{key}] in place of [[{key}]]"
    header = f"[[{section}]]" if section in COMPONENT_LISTS else f"[{key}]"
    named = found if found in names else next(iter(get_close_matches(str(found), names, n=1)), None)
    return f"; write {header}, and below it name = {written(named)}" if isinstance(found, str) and named else ""
