"""What `mien bench` is asked for."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path

from mien.apps.bench.variants import Variant
from mien.engines import Catalog
from mien.engines.errors import UsageError
from mien.runtime.filter import Filter, catalog_of
from mien.runtime.profile import WatchedCatalog
from mien.runtime.spec import PRECISIONS, FilterSpec

TORCH = "torch"  # beside the providers: PyTorch eager, which is none
AUTO = PRECISIONS[0]


@dataclass(frozen=True, slots=True)
class BenchPlan:
    """What to measure. clip: None is the bundled sample at 720p. runs: of the whole command.

    filter: what is measured. beside: what else is measured in turn with its provider and models;
    the provider `torch` is PyTorch eager with the same models. networks, scaling, calls: whether
    these are measured as well.
    """

    clip: Path | None = None
    runs: int = 3
    emotion: str = "happy"
    filter: FilterSpec = field(default_factory=FilterSpec)
    beside: tuple[Variant, ...] = ()
    networks: bool = False
    scaling: bool = False
    calls: bool = False

    @property
    def provider(self) -> str:
        """What runs the networks."""
        return self.filter.provider

    @property
    def models(self) -> Path | None:
        """A folder of models of the user's own."""
        return self.filter.models

    @property
    def variants(self) -> tuple[Variant, ...]:
        """All that mien's own engines measure in turn."""
        others = (variant for variant in self.beside if variant.provider != TORCH)
        return (Variant(self.provider, self.models), *others)

    @property
    def against_torch(self) -> bool:
        """Whether the whole filter is measured on PyTorch eager. Raises UsageError."""
        asked = [variant for variant in self.beside if variant.provider == TORCH]
        if any(variant.models is not None for variant in asked):
            raise UsageError(f"--beside {TORCH} runs the models of --models; leave out its folder")
        if asked and self.provider != "cpu":
            raise UsageError(f"--beside {TORCH} runs on the processor; use --provider cpu")
        return bool(asked)

    @property
    def method_name(self) -> str:
        """The method and what it is told, for people."""
        return " ".join([*self.filter.words, "--emotion", self.emotion])

    def of(self, variant: Variant) -> BenchPlan:
        """The same plan for another variant."""
        spec = replace(self.filter, provider=variant.provider, models=variant.models)
        if variant.provider != self.provider:  # a precision is one of the provider cpu
            spec = replace(spec, precision=AUTO)
        return replace(self, filter=spec)

    def filter_options(self) -> list[str]:
        """The options that describe the filter to a program in a process of its own."""
        models = [] if self.models is None else ["--models", str(self.models)]
        return ["--emotion", self.emotion, *self.filter.words, *models]

    def edit_options(self) -> list[str]:
        """The options of `mien edit` that describe it."""
        asked = self.filter.precision
        precision = [] if asked == AUTO else ["--precision", asked]
        return [*self.filter_options(), "--provider", self.provider, *precision]

    def open_filter(self, models: Catalog | None = None) -> Filter:
        """The filter it measures; models: in place of its own. Raises MienError."""
        if models is None:
            return Filter.of(self.filter, self.emotion)
        return Filter(
            self.emotion,
            method=self.filter.method,
            provider=self.provider,
            models=models,
            **self.filter.told,
        )

    def watch_filter(self) -> tuple[Filter, WatchedCatalog]:
        """The filter, and the networks it has opened. Raises MienError."""
        spec = self.filter
        catalog = catalog_of(spec.models, precision=spec.precision, provider=spec.provider)
        watched = WatchedCatalog.of(catalog)
        return self.open_filter(watched), watched


@dataclass(frozen=True, slots=True)
class BenchOutput:
    """How a report is given. plot: a PNG to write, which must not be there yet."""

    as_json: bool = False
    as_markdown: bool = False
    plot: Path | None = None

    def check(self) -> None:
        """Raise UsageError where the report cannot be given in this form or place."""
        if self.as_json and self.as_markdown:
            raise UsageError("give either --json or --markdown, not both")
        if self.plot is None:
            return
        if self.plot.suffix.lower() != ".png":
            raise UsageError(f"--plot writes PNG, so {self.plot} must end in .png")
        if os.path.lexists(self.plot):
            raise UsageError(f"{self.plot} exists; give --plot another name")
        if not self.plot.absolute().parent.is_dir():
            raise UsageError(f"the folder of {self.plot} does not exist; make it first")
