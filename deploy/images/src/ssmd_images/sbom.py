"""``python -m ssmd_images.sbom FOLDER [IMAGE…]`` writes what images hold: bills as CycloneDX, a table of licences.

The image is asked itself, by its own Python, without network: its Python distributions with their metadata, and the
Debian packages of its base where it has any.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["IMAGES", "Part", "bill", "licences", "main", "parts_of"]

IMAGES = ("ssmd-connector", "ssmd-archiver", "ssmd-manifest-api", "ssmd-simulator")
UNKNOWN = "unknown"


_TIMEOUT_S = 60
_LONGEST_LICENCE = 300
# Runs in the image. A licence is an SPDX expression, a trove classifier or, in old packages, free text; Debian's
# are in files of their own.
_ASK = """
import importlib.metadata as m, json, pathlib, re
found = []
for d in m.distributions():
    meta = d.metadata
    classified = [c.rsplit(" :: ", 1)[-1] for c in meta.get_all("Classifier") or () if c.startswith("License ::")]
    said = meta.get("License-Expression") or " OR ".join(classified) or meta.get("License") or ""
    found.append(("pypi", meta["Name"], d.version, said.splitlines()[0] if said else ""))
status = pathlib.Path("/var/lib/dpkg/status")
for entry in status.read_text("utf-8").split("\\n\\n") if status.exists() else ():
    fields = dict(re.findall(r"^(Package|Version|Status): (.*)$", entry, re.M))
    if fields.get("Status", "").endswith(" installed"):
        told = pathlib.Path("/usr/share/doc", fields["Package"], "copyright")
        text = told.read_text("utf-8", "replace") if told.exists() else ""
        names = sorted({name.strip() for name in re.findall(r"^License: *(\\S.*)$", text, re.M)})
        found.append(("deb", fields["Package"], fields["Version"], ", ".join(names)))
print(json.dumps(found))
"""


@dataclass(frozen=True, slots=True, order=True)
class Part:
    """Something an image holds.

    Attributes:
        kind: ``pypi`` or ``deb``.
        name: As its own metadata has it.
        version: Likewise.
        licence: SPDX expression where there is one, else the words of its metadata; ``unknown`` where it says none.
    """

    kind: str
    name: str
    version: str
    licence: str


def parts_of(image: str) -> list[Part]:
    """Ask an image what it holds, sorted.

    Raises:
        subprocess.CalledProcessError: There is no such image, or it does not run.
    """
    told = json.loads(_run(image, "python", "-I", "-c", _ASK))
    return sorted({Part(kind, name, version, _licence(said)) for kind, name, version, said in told})


def _run(image: str, *command: str) -> str:
    docker = ["docker", "run", "--rm", "--network", "none", "--read-only", "--entrypoint", command[0], image]
    done = subprocess.run([*docker, *command[1:]], capture_output=True, text=True, timeout=_TIMEOUT_S, check=True)  # noqa: S603 - docker
    return done.stdout


def _licence(said: str) -> str:
    text = " ".join(said.split())
    return text if text and len(text) <= _LONGEST_LICENCE else UNKNOWN


def bill(image: str, parts: Iterable[Part], *, at: datetime) -> str:
    """Return the bill of materials of an image as CycloneDX 1.6 JSON."""
    bom = Bom()
    bom.metadata.timestamp = at
    whole = Component(name=image, type=ComponentType.CONTAINER, bom_ref=image)
    bom.metadata.component = whole
    factory = LicenseFactory()
    for part in parts:
        namespace = "debian" if part.kind == "deb" else None
        url = PackageURL(part.kind, namespace, part.name, part.version)
        told = () if part.licence == UNKNOWN else (factory.make_from_string(part.licence),)
        component = Component(
            name=part.name,
            version=part.version,
            type=ComponentType.LIBRARY,
            purl=url,
            bom_ref=url.to_string(),
            licenses=told,
        )
        bom.components.add(component)
        bom.register_dependency(whole, [component])
    return JsonV1Dot6(bom).output_as_string(indent=2) + "\n"


def licences(held: dict[str, Sequence[Part]]) -> str:
    """Return a table of every Python distribution in the images, with its licence and which images hold it."""
    users: dict[Part, list[str]] = {}
    for image, parts in held.items():
        for part in parts:
            if part.kind == "pypi":
                users.setdefault(part, []).append(image.removeprefix("ssmd-"))
    lines = ["| distribution | version | licence | in |", "|---|---|---|---|"]
    lines += [
        f"| {part.name} | {part.version} | {part.licence} | {', '.join(sorted(names))} |"
        for part, names in sorted(users.items(), key=lambda item: item[0].name.lower())
    ]
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str]) -> int:
    """Write the bills of the named images, or all, into a folder; return the exit code."""
    if not arguments:
        sys.stderr.write("usage: python -m ssmd_images.sbom FOLDER [IMAGE…]\n")
        return 2
    folder = Path(arguments[0])
    folder.mkdir(parents=True, exist_ok=True)
    held: dict[str, Sequence[Part]] = {}
    for image in arguments[1:] or IMAGES:
        try:
            held[image] = parts_of(f"{image}:latest")
        except subprocess.CalledProcessError as error:
            said = str(error.stderr).strip().splitlines()
            sys.stderr.write(f"error: {image}: {said[-1] if said else error} (./pants package deploy/images::)\n")
            return 1
        text = bill(image, held[image], at=datetime.now(UTC))
        (folder / f"{image}.cdx.json").write_text(text, "utf-8")
        sys.stdout.write(f"{folder / image}.cdx.json: {_counted(held[image])}\n")
    (folder / "licences.md").write_text(licences(held), "utf-8")
    return 0


def _counted(parts: Sequence[Part]) -> str:
    kinds: dict[str, Any] = {"pypi": "Python distributions", "deb": "Debian packages"}
    return ", ".join(f"{sum(part.kind == kind for part in parts)} {words}" for kind, words in kinds.items())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
