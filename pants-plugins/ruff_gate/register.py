"""Runs `ruff check` in `./pants lint`, and `ruff format` in `./pants fmt` and, as a check, in `./pants lint`.

The ruff backend of Pants 2.17 was written before ruff had subcommands and a formatter. This one keeps that
backend's option section (`[ruff]`) and its opt-out field, and gives the tool today's command line. Pants runs it,
on CPython 3.9.
"""

from __future__ import annotations

from typing import Any, Iterable

from pants.backend.python.lint.ruff import skip_field, subsystem
from pants.backend.python.lint.ruff.subsystem import Ruff, RuffFieldSet
from pants.backend.python.util_rules import ancestor_files, pex
from pants.backend.python.util_rules.ancestor_files import AncestorFiles, AncestorFilesRequest
from pants.backend.python.util_rules.pex import VenvPex, VenvPexProcess
from pants.core.goals.fmt import FmtResult, FmtTargetsRequest
from pants.core.goals.lint import LintResult, LintTargetsRequest
from pants.core.util_rules.config_files import ConfigFiles, ConfigFilesRequest
from pants.core.util_rules.partitions import PartitionerType
from pants.core.util_rules.source_files import SourceFiles, SourceFilesRequest
from pants.engine.fs import Digest, MergeDigests, Snapshot
from pants.engine.process import FallibleProcessResult, ProcessResult
from pants.engine.rules import Get, MultiGet, collect_rules, rule


class RuffCheckRequest(LintTargetsRequest):
    """`ruff check` over all files at once."""

    field_set_type = RuffFieldSet
    tool_subsystem = Ruff
    partitioner_type = PartitionerType.DEFAULT_SINGLE_PARTITION
    tool_name = "ruff check"


class RuffFormatRequest(FmtTargetsRequest):
    """`ruff format`; the goal `lint` fails where it would change a file."""

    field_set_type = RuffFieldSet
    tool_subsystem = Ruff
    partitioner_type = PartitionerType.DEFAULT_SINGLE_PARTITION
    tool_name = "ruff format"


async def _ruff(verb: str, snapshot: Snapshot, ruff: Ruff) -> VenvPexProcess:
    tool, settings, packages = await MultiGet(
        Get(VenvPex, pex.PexRequest, ruff.to_pex_request()),
        Get(ConfigFiles, ConfigFilesRequest, ruff.config_request(snapshot.dirs)),
        # Whether a file is in a package is told by __init__.py files, which a run over one file does not name.
        Get(AncestorFiles, AncestorFilesRequest(input_files=snapshot.files, requested=("__init__.py",))),
    )
    digest = await Get(Digest, MergeDigests((snapshot.digest, settings.snapshot.digest, packages.snapshot.digest)))
    return VenvPexProcess(
        tool,
        argv=(verb, "--no-cache", "--force-exclude", *ruff.args, *snapshot.files),
        input_digest=digest,
        output_files=snapshot.files,
        description=f"Run ruff {verb} on {len(snapshot.files)} files.",
    )


@rule(desc="Check with ruff")
async def ruff_check(request: RuffCheckRequest.Batch[RuffFieldSet, Any], ruff: Ruff) -> LintResult:
    """Lints the files of one batch."""
    sources = await Get(SourceFiles, SourceFilesRequest(field_set.source for field_set in request.elements))
    process = await _ruff("check", sources.snapshot, ruff)
    result = await Get(FallibleProcessResult, VenvPexProcess, process)
    return LintResult.create(request, result)


@rule(desc="Format with ruff")
async def ruff_format(request: RuffFormatRequest.Batch, ruff: Ruff) -> FmtResult:
    """Formats the files of one batch."""
    process = await _ruff("format", request.snapshot, ruff)
    result = await Get(ProcessResult, VenvPexProcess, process)
    return await FmtResult.create(request, result)


def rules() -> Iterable[Any]:
    """What Pants registers."""
    return (
        *collect_rules(),
        *RuffCheckRequest.rules(),
        *RuffFormatRequest.rules(),
        *subsystem.rules(),
        *skip_field.rules(),
        *ancestor_files.rules(),
        *pex.rules(),
    )
