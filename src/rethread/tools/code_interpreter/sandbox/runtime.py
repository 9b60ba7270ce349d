"""The Python that code is run with: where it lies, what a box has to show of it, what it offers.

It is the server's own, with the extra `code`, or that of a virtual environment that the operator
names. It is asked once, on this machine, and trusted as the operator's. In a box it lies at fixed
places, so that nothing that the code sees names this machine's folders.
"""

import asyncio
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from rethread.tools.code_interpreter.sandbox import NoSandbox

PROBE_SECONDS: Final = 60.0
BASE: Final = "/opt/python"
PACKAGES: Final = "/opt/venv"
NIX: Final = "/nix/store"

NEEDED: Final = "ipykernel"
# What a model should know of, if it is there; the rest of an environment is its own affair.
SHOWN: Final = (
    *("numpy", "pandas", "matplotlib", "scipy", "scikit-learn", "openpyxl", "pillow", "polars"),
    *("pyarrow", "duckdb", "sympy", "statsmodels", "networkx", "seaborn", "plotly", "altair"),
    *("xgboost", "lightgbm", "torch", "tensorflow", "nltk", "spacy", "gensim", "shapely"),
    *("geopandas", "opencv-python", "opencv-python-headless", "scikit-image", "imageio", "pypdf"),
    *("pymupdf", "pdfplumber", "reportlab", "python-docx", "python-pptx", "xlsxwriter", "xlrd"),
    *("beautifulsoup4", "lxml", "pyyaml", "requests", "tabulate", "numba", "cvxpy", "biopython"),
)

PROBE: Final = """
import importlib.metadata as m, json, os, sys, sysconfig
p = sysconfig.get_paths()
installed = {}
for name in sys.argv[1:]:
    try:
        installed[name] = m.version(name)
    except m.PackageNotFoundError:
        pass
print(json.dumps({
    "version": list(sys.version_info[:3]),
    "is_environment": sys.prefix != sys.base_prefix,
    "base": os.path.realpath(sys.base_prefix),
    "python": os.path.realpath(sys.executable),
    "pure": p["purelib"], "platform": p["platlib"],
    "installed": installed,
}))
"""


class Asked(msgspec.Struct):
    """What the runtime's Python says of itself."""

    version: list[int]
    is_environment: bool
    base: str
    python: str
    pure: str
    platform: str
    installed: dict[str, str]


class Mount(NamedTuple):
    """A folder of this machine, and where a box sees it."""

    source: Path
    inside: str


class Runtime(NamedTuple):
    """A Python with packages; `python` is what runs it in a box, `host_python` outside of one."""

    host_python: Path
    python: str
    launcher: str
    """The same Python without the packages: it starts sooner."""
    mounts: tuple[Mount, ...]
    links: tuple[tuple[str, str], ...]
    """Symbolic links to make in a box: where to, and where."""
    configuration: str | None
    """What has to stand in `pyvenv.cfg`."""
    libraries: str | None
    """Where its shared libraries are, if that isn't known to the system."""
    version: str
    installed: dict[str, str]

    @property
    def offers(self) -> str:
        """For the model: the version, and the packages that are worth naming."""
        names = [f"{name} {self.installed[name]}" for name in SHOWN if name in self.installed]
        return f"Python {self.version}" + (f" with {', '.join(names)}" if names else "")


async def find_runtime(environment: Path | None) -> Runtime:
    """The runtime at a folder, or this server's own; NoSandbox where it can't run a kernel."""
    python = Path(sys.executable) if environment is None else environment / "bin" / "python"
    asked = await _ask(python)
    if NEEDED not in asked.installed:
        install = (
            "in rethread's folder, make run EXTRAS=code or pip install '.[code]'"
            if environment is None
            else f"{python} -m pip install ipykernel"
        )
        raise NoSandbox(f"{python} has no ipykernel. Install it: {install}")
    return described(python, asked)


def described(host_python: Path, asked: Asked) -> Runtime:
    """What a box needs of a Python. Pure but for what exists."""
    version = ".".join(map(str, asked.version[:2]))
    inside = _inside(Path(asked.base))
    launcher = f"{inside}/bin/{Path(asked.python).name}"
    plain = Runtime(
        host_python=host_python,
        python=launcher,
        launcher=launcher,
        mounts=tuple(_base_mounts(Path(asked.base), inside)),
        links=(),
        configuration=None,
        libraries=f"{inside}/lib" if inside == BASE else None,
        version=version,
        installed=asked.installed,
    )
    if not asked.is_environment:
        return plain
    packages = dict.fromkeys(Path(each).resolve() for each in (asked.pure, asked.platform))
    return plain._replace(
        python=f"{PACKAGES}/bin/python",
        mounts=plain.mounts
        + tuple(
            Mount(folder, f"{PACKAGES}/{lib}/python{version}/site-packages")
            for folder, lib in zip(packages, ("lib", "lib64"), strict=False)
        ),
        links=((launcher, f"{PACKAGES}/bin/python"), ("python", f"{PACKAGES}/bin/python3")),
        configuration=f"home = {inside}/bin\ninclude-system-site-packages = false\n",
    )


def _base_mounts(base: Path, inside: str) -> Iterator[Mount]:
    if base.is_relative_to(NIX):
        yield Mount(Path(NIX), NIX)
    elif inside != "/usr":  # which every box has
        for each in ("bin", "lib", "lib64"):
            if (base / each).is_dir():
                yield Mount(base / each, f"{inside}/{each}")


def _inside(base: Path) -> str:
    """Where a Python lies in a box: the system's where it is, another at a place of its own."""
    if str(base) in ("/usr", "/usr/local") or base.is_relative_to(NIX):
        return str(base)
    return BASE


async def _ask(python: Path) -> Asked:
    try:
        process = await asyncio.create_subprocess_exec(
            *(str(python), "-I", "-c", PROBE, NEEDED, *SHOWN),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                said, complaint = await process.communicate()
        except TimeoutError:
            process.kill()
            raise
        return msgspec.convert(json.loads(said), Asked)
    except (OSError, TimeoutError) as error:
        raise NoSandbox(f"{python} doesn't start: {error}") from error
    except (ValueError, msgspec.ValidationError) as error:
        last = complaint.decode("utf-8", "replace").strip().rpartition("\n")[2]
        raise NoSandbox(f"{python} failed: {last}") from error
